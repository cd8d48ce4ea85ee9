//! The task of the I/O thread that uploads the files of one spool, four at a time, for as long as it
//! takes.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use matyan_proto::ingest::v1::{BlobRef, Event, LogObject, event::Kind};
use prost::Message as _;
use tokio::{sync::Notify, task, time};

use crate::{
    http::{HttpClient, HttpError, Timeouts},
    notice::NoticeLevel,
    per_process::PerProcess,
    sender::backoff::Backoff,
    spool::{reader, store::Spool, writer::AppendResult},
    sys::{fork, process},
    upload::{
        manifest::{self, Announcement, Encoding, Manifest, Source, data_path, encoded_path, parts_path},
        media, parts,
        transfer::{self, Artifact, UploadedContent},
    },
};

/// Uploads that run at the same time.
const PARALLEL: usize = 4;

/// Interval at which a worker looks for uploads without being woken.
const LOOK_UP: Duration = Duration::from_secs(1);

/// Time after which an appended event is on disk in every mode of the spool.
const WRITTEN: Duration = Duration::from_millis(50);

/// Interval at which an upload looks whether its parts have ended.
const PART_INTERVAL: Duration = Duration::from_millis(20);

/// Signals a new upload to the workers of all spools of this process.
static SUBMITTED: PerProcess<Notify> = PerProcess::new();

fn submitted() -> &'static Notify {
    SUBMITTED.get_or_make(|_| true, Notify::new)
}

/// Wakes the workers.
pub(super) fn wake() {
    submitted().notify_waiters();
}

/// Numbers of the uploads of a spool that will still announce themselves with an event.
pub(crate) fn pending(spool: &Spool) -> Vec<u64> {
    manifest::pending(&spool.uploads())
}

/// The same for the directory of uploads of any spool.
pub(crate) fn pending_in(uploads: &Path) -> Vec<u64> {
    manifest::pending(uploads)
}

/// Uploads the files of a spool until it is closed and none is left.
pub(crate) async fn run(spool: Arc<Spool>) {
    let announced = announced(&spool).await;
    let mut worker = Worker { spool, gateway: None, started: HashMap::new(), announced };
    let mut running: FuturesUnordered<LocalBoxFuture<'static, u64>> = FuturesUnordered::new();
    loop {
        // Registered before the look at the directory, so that no upload is missed.
        let woken = submitted().notified();
        let waiting = worker.waiting();
        for number in waiting {
            if running.len() == PARALLEL {
                break;
            }
            if let Some(upload) = worker.start(number) {
                running.push(upload);
            }
        }
        if running.is_empty() && worker.is_done() {
            return;
        }
        tokio::select! {
            Some(number) = running.next() => drop(worker.started.remove(&number)),
            () = woken => {}
            () = time::sleep(LOOK_UP) => {}
        }
    }
}

/// Reads what the process that left a spool has announced.
async fn announced(spool: &Arc<Spool>) -> HashSet<u64> {
    let owner = &spool.owner().process;
    // In containers, one process after another has the same id.
    let is_own = owner.pid == std::process::id()
        && owner.started == process::started()
        && owner.generation == fork::generation();
    if is_own || pending(spool).is_empty() {
        return HashSet::new();
    }
    loop {
        let left = spool.clone();
        match blocking(move || reader::announced_uploads(&left)).await {
            Ok(Ok(announced)) => return announced,
            // Without the complete set, an upload might be announced twice.
            _ if spool.is_usable() => time::sleep(LOOK_UP).await,
            _ => return HashSet::new(),
        }
    }
}

struct Worker {
    spool: Arc<Spool>,
    /// Made for the first upload.
    gateway: Option<HttpClient>,
    /// Uploads that run, with their paths.
    started: HashMap<u64, String>,
    /// Uploads that an earlier process has announced.
    announced: HashSet<u64>,
}

impl Worker {
    /// Uploads that do not run yet, in the order of the calls.
    fn waiting(&self) -> Vec<u64> {
        let mut numbers = manifest::pending(&self.spool.uploads());
        numbers.retain(|number| !self.started.contains_key(number));
        numbers
    }

    fn is_done(&self) -> bool {
        !self.spool.is_usable() || (self.spool.is_closed() && pending(&self.spool).is_empty())
    }

    /// Starts an upload. Not while an earlier one of the same path runs: the last call wins.
    fn start(&mut self, number: u64) -> Option<LocalBoxFuture<'static, u64>> {
        let manifest = Manifest::read(&self.spool.uploads(), number).ok().flatten();
        let path = manifest.map(|manifest| manifest.path).unwrap_or_default();
        if !path.is_empty() && self.started.values().any(|started| *started == path) {
            return None;
        }
        if self.gateway.is_none() {
            self.gateway = self.connect();
        }
        let gateway = self.gateway.clone()?;
        let is_announced = self.announced.contains(&number);
        self.started.insert(number, path);
        let task = Upload { spool: self.spool.clone(), gateway, number };
        Some(Box::pin(async move {
            task.run(is_announced).await;
            number
        }))
    }

    fn connect(&self) -> Option<HttpClient> {
        match HttpClient::new(self.spool.owner().upload_url(), Timeouts::default()) {
            Ok(client) => Some(client),
            Err(error) => {
                self.spool.notices.push(NoticeLevel::Error, format!("files cannot be uploaded: {error}"));
                None
            }
        }
    }
}

/// One upload.
struct Upload {
    spool: Arc<Spool>,
    gateway: HttpClient,
    number: u64,
}

impl Upload {
    async fn run(&self, is_announced: bool) {
        // The process that announced it was killed before it could remove the files.
        if !is_announced && !self.announce().await {
            // The next attempt finds what prevented this one again.
            return time::sleep(LOOK_UP).await;
        }
        time::sleep(WRITTEN).await;
        let bytes = manifest::data_bytes(&self.directory(), self.number);
        if let Err(error) = manifest::remove(&self.directory(), self.number) {
            self.report(NoticeLevel::Warning, &format!("failed to remove a file that was uploaded: {error}"));
        }
        self.spool.give_back_upload_space(bytes);
        // The sender of a closed spool waits for the last upload.
        self.spool.sender_wake.notify_one();
    }

    /// The directory changes its name with the producer.
    fn directory(&self) -> PathBuf {
        self.spool.uploads()
    }

    /// Uploads, and appends the event. Returns whether the files are not needed any more.
    async fn announce(&self) -> bool {
        let manifest = match Manifest::read(&self.directory(), self.number) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return false,
            Err(error) => {
                self.cannot_read(&error);
                return false;
            }
        };
        match self.upload(&manifest).await {
            Ok(content) => self.append(&manifest, content).await,
            // It can never be uploaded, and its record would refer to nothing.
            Err(reason) => {
                let message = format!("{} was not uploaded, and is lost: {reason}", manifest.path);
                self.report(NoticeLevel::Error, &message);
                self.spool.count_lost_upload();
                if manifest.announcement == Announcement::Part
                    && let Err(error) = manifest::note_failure(&self.directory(), self.number)
                {
                    self.report(NoticeLevel::Warning, &format!("failed to note an upload: {error}"));
                }
            }
        }
        true
    }

    fn cannot_read(&self, error: &io::Error) {
        if error.kind() != io::ErrorKind::InvalidData {
            return self
                .report(NoticeLevel::Warning, &format!("failed to read an upload: {error}; will retry"));
        }
        let message = match manifest::set_aside(&self.directory(), self.number) {
            Ok(aside) => format!("an upload is damaged, and stays in {}: {error}", aside.display()),
            Err(aside) => format!("an upload is damaged: {error}; failed to set it aside: {aside}"),
        };
        self.report(NoticeLevel::Error, &message);
    }

    /// Uploads with as many attempts as it takes. An error is final.
    async fn upload(&self, manifest: &Manifest) -> Result<UploadedContent, String> {
        let mut backoff = Backoff::default();
        let mut is_reported = false;
        let run_id = &self.spool.owner().run_id;
        loop {
            let (path, content_type) = (&manifest.path, &manifest.content_type);
            let directory = self.directory();
            let outcome = async {
                let file = self.content(manifest).await;
                let failed = |source| HttpError::File { path: self.directory(), source };
                let file = file.map_err(failed)?;
                let artifact = Artifact { run_id, path, content_type, file: &file };
                let record = parts_path(&directory, self.number);
                match parts::upload(&self.gateway, &artifact, &record).await? {
                    Some(content) => Ok(content),
                    None => transfer::upload(&self.gateway, &artifact).await,
                }
            };
            let error = match outcome.await {
                Ok(content) => {
                    self.note_change(manifest, content);
                    return Ok(content);
                }
                Err(error) => error,
            };
            // The files are elsewhere now.
            if directory != self.directory() {
                continue;
            }
            if is_final(&error) {
                return Err(with_source(&error));
            }
            // The content exists nowhere else, so whatever may pass is waited for.
            if !error.is_temporary() && !is_reported {
                is_reported = true;
                let reason = with_source(&error);
                self.report(NoticeLevel::Warning, &format!("failed to upload {path}: {reason}; will retry"));
            }
            time::sleep(backoff.next_pause()).await;
        }
    }

    fn note_change(&self, manifest: &Manifest, content: UploadedContent) {
        if let Source::File { path, size, modified_us } = &manifest.source
            && (*size != content.size || *modified_us != manifest::modified_us(path))
        {
            let message =
                format!("{} was changed before it was uploaded; its new content is stored", path.display());
            self.report(NoticeLevel::Warning, &message);
        }
    }

    /// Path of the content, which is encoded first if necessary.
    async fn content(&self, manifest: &Manifest) -> io::Result<PathBuf> {
        let directory = self.directory();
        let source = match &manifest.source {
            Source::Data => data_path(&directory, self.number),
            Source::File { path, .. } => path.clone(),
        };
        if manifest.encoding == Encoding::Identity {
            return Ok(source);
        }
        let target = encoded_path(&directory, self.number);
        let (encoding, encoded) = (manifest.encoding, target.clone());
        blocking(move || media::encode_file(encoding, &source, &encoded)).await??;
        Ok(target)
    }

    /// Appends the event, as soon as the spool has space for it.
    async fn append(&self, manifest: &Manifest, content: UploadedContent) {
        if manifest.announcement == Announcement::Part {
            return;
        }
        // Parts have lower numbers, so they run already, or have ended.
        while manifest.has_parts(&self.directory()) {
            time::sleep(PART_INTERVAL).await;
        }
        if manifest.has_failed_parts(&self.directory()) {
            let message = format!("{} is not shown, as another file of its object is missing", manifest.path);
            return self.report(NoticeLevel::Error, &message);
        }
        let Some(kind) = event(manifest, content, &self.spool.owner().run_id) else {
            return self.report(NoticeLevel::Error, "an upload has an invalid description");
        };
        let time_us = manifest.time_us;
        let event = Event { client_time_us: Some(time_us), kind: Some(kind) }.encode_to_vec();
        while self.spool.try_append_upload(time_us, self.number, &event) == AppendResult::Full {
            time::sleep(LOOK_UP).await;
        }
    }

    fn report(&self, level: NoticeLevel, message: &str) {
        self.spool.notices.push(level, message);
    }
}

/// Whether no attempt can succeed: the content cannot be read, or the gateway itself refuses the
/// description. Proxies and blob stores refuse for reasons that pass, such as credentials.
fn is_final(error: &HttpError) -> bool {
    match error {
        HttpError::File { source, .. } => matches!(
            source.kind(),
            io::ErrorKind::NotFound
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::IsADirectory
                | io::ErrorKind::InvalidData
        ),
        HttpError::Refused { status: 400 | 413 | 422, code, .. } => !code.is_empty(),
        _ => false,
    }
}

fn event(manifest: &Manifest, content: UploadedContent, run_id: &str) -> Option<Kind> {
    match &manifest.announcement {
        Announcement::Artifact => Some(Kind::BlobRef(BlobRef {
            key: format!("{run_id}/{}", manifest.path),
            path: manifest.path.clone(),
            content_type: manifest.content_type.clone(),
            size: Some(content.size),
            content_hash: content.hash.to_vec().into(),
        })),
        Announcement::Object(encoded) => {
            let object = LogObject::decode(hex::decode(encoded).ok()?.as_slice()).ok()?;
            Some(Kind::LogObject(object))
        }
        Announcement::Part => None,
    }
}

/// Runs work that takes long, outside of the I/O thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    task::spawn_blocking(work).await.map_err(io::Error::other)
}

fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
