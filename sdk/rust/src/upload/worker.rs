//! The task of the I/O thread that uploads the files of one spool, four at a time, for as long as it
//! takes.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use matyan_proto::ingest::v1::{BlobRef, Event, LogObject, event::Kind};
use prost::Message as _;
use tokio::{
    sync::{Notify, OnceCell},
    task, time,
};

use crate::{
    http::{HttpClient, HttpError, Timeouts},
    notice::NoticeLevel,
    per_process::PerProcess,
    plain_text::plain_line,
    progress::UploadFailure,
    spool::{reader, store::Spool, writer::AppendResult},
    supervision::{ADVICE, caught, restarted},
    sys::{fork, process},
    upload::{
        attempts::{Attempts, MOST_PANICS},
        content_file::{ContentFile, FileVersion, TransferError},
        manifest::{self, Announcement, Encoding, Manifest, Source, data_path, encoded_path, parts_path},
        media, parts,
        transfer::{self, Artifact, UploadedContent},
    },
};

/// Uploads that run at the same time.
const PARALLEL: usize = 4;

/// Interval at which a worker looks for uploads without being woken.
const LOOK_UP: Duration = Duration::from_secs(1);

/// Times that an upload begins again because its file was changed while it was read.
const MOST_RESTARTS: u32 = 3;

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

/// Uploads that are over, but exist: an earlier process was killed, or their files could not be removed
/// yet.
type AnnouncedUploads = Rc<RefCell<HashSet<u64>>>;

/// Uploads the files of a spool until it is closed and none is left. Starts over after a panic.
pub(crate) async fn run(spool: Arc<Spool>) {
    // Outlasts a panic, so that nothing is announced twice.
    let announced = Rc::new(OnceCell::new());
    let begin = || upload_unannounced(spool.clone(), announced.clone());
    restarted(&spool, "the upload of files", || spool.is_usable(), |_| (), begin).await;
}

async fn upload_unannounced(spool: Arc<Spool>, known: Rc<OnceCell<AnnouncedUploads>>) {
    let read = || async { Rc::new(RefCell::new(announced(&spool).await)) };
    let announced = known.get_or_init(read).await.clone();
    upload_all(spool, announced).await;
}

async fn upload_all(spool: Arc<Spool>, announced: AnnouncedUploads) {
    let mut worker = Worker::new(spool, announced);
    let mut uploading: FuturesUnordered<LocalBoxFuture<'static, (Upload, bool)>> = FuturesUnordered::new();
    let mut settling: FuturesUnordered<LocalBoxFuture<'static, (u64, bool)>> = FuturesUnordered::new();
    // Registered before each look at the directory, so that no upload is missed.
    let mut woken = pin!(submitted().notified());
    worker.look();
    loop {
        if !worker.has_untried() {
            worker.look();
        }
        while uploading.len() < PARALLEL
            && let Some(upload) = worker.start_next()
        {
            uploading.push(upload);
        }
        if uploading.is_empty() && settling.is_empty() && worker.is_done() {
            return;
        }
        tokio::select! {
            Some((upload, is_over)) = uploading.next() => {
                if is_over {
                    // Nothing waits for its path any more.
                    worker.started.insert(upload.number, String::new());
                    worker.announced.borrow_mut().insert(upload.number);
                    settling.push(Box::pin(upload.settle()));
                } else {
                    worker.put_back(upload);
                    worker.look();
                }
            }
            Some((number, is_removed)) = settling.next() => {
                worker.started.remove(&number);
                if is_removed {
                    worker.announced.borrow_mut().remove(&number);
                }
            }
            () = &mut woken => {
                woken.set(submitted().notified());
                // Otherwise they are found when the waiting uploads have been tried.
                if uploading.len() < PARALLEL {
                    worker.look();
                }
            }
            () = time::sleep(LOOK_UP) => worker.look(),
        }
    }
}

/// Reads the uploads that the process that left a spool has announced.
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
    /// Uploads that have not started, in the order of the calls, with everything known of them.
    waiting: BTreeMap<u64, Option<WaitingUpload>>,
    /// Waiting uploads whose attempts have failed.
    put_off: HashMap<u64, Attempts>,
    /// Uploads that have started and still exist, with their paths.
    started: HashMap<u64, String>,
    announced: AnnouncedUploads,
}

/// The part of a manifest that decides when its upload starts.
struct WaitingUpload {
    path: String,
    /// Uploads that are announced with this one.
    parts: Vec<u64>,
}

impl Worker {
    fn new(spool: Arc<Spool>, announced: AnnouncedUploads) -> Self {
        let waiting = BTreeMap::new();
        let put_off = HashMap::new();
        let started = HashMap::new();
        Self { spool, gateway: None, waiting, put_off, started, announced }
    }

    /// Looks for new uploads in the directory.
    fn look(&mut self) {
        for number in manifest::pending(&self.spool.uploads()) {
            if !self.started.contains_key(&number) {
                self.waiting.entry(number).or_default();
            }
        }
    }

    fn is_done(&self) -> bool {
        !self.spool.is_usable() || (self.spool.is_closed() && pending(&self.spool).is_empty())
    }

    /// Whether an upload waits for its first attempt.
    fn has_untried(&self) -> bool {
        self.waiting.keys().any(|number| !self.put_off.contains_key(number))
    }

    /// Takes back an upload that is not over.
    fn put_back(&mut self, upload: Upload) {
        self.started.remove(&upload.number);
        // Without a pause, it had no attempt: it does not exist any more.
        if upload.attempts.due().is_some() {
            self.put_off.insert(upload.number, upload.attempts);
        }
    }

    /// Starts an upload that is ready.
    fn start_next(&mut self) -> Option<LocalBoxFuture<'static, (Upload, bool)>> {
        if self.gateway.is_none() && !self.waiting.is_empty() {
            self.gateway = self.connect();
        }
        let gateway = self.gateway.clone()?;
        let number = self.next_ready()?;
        let path = self.waiting.remove(&number).flatten().map(|known| known.path).unwrap_or_default();
        self.started.insert(number, path.clone());
        let mut attempts = self.put_off.remove(&number).unwrap_or_default();
        attempts.begin();
        let announced = self.announced.clone();
        let mut upload = Upload { spool: self.spool.clone(), gateway, number, path, attempts, announced };
        Some(Box::pin(async move {
            // The process that announced it was killed before it could remove the files.
            let is_over = upload.is_announced() || upload.announce_or_report().await;
            if !is_over {
                // The next attempt finds the same obstacle.
                time::sleep(LOOK_UP).await;
            }
            (upload, is_over)
        }))
    }

    /// Finds the first upload that need not wait for another one: for an earlier upload of the same path, because the
    /// last call wins, or for one of its parts, which might get no place if the whole took one. Uploads that have
    /// failed come after all others, the longest wait first.
    fn next_ready(&mut self) -> Option<u64> {
        let directory = self.spool.uploads();
        let now = Instant::now();
        let is_awaited = self.spool.progress.is_awaited();
        let mut used: HashSet<String> =
            self.started.values().filter(|path| !path.is_empty()).cloned().collect();
        let mut blocked = HashSet::new();
        let mut again: Option<(Instant, u64)> = None;
        for (number, known) in &mut self.waiting {
            if known.is_none() {
                let manifest = Manifest::read(&directory, *number).ok().flatten();
                *known = manifest.map(|Manifest { path, parts, .. }| WaitingUpload { path, parts });
            }
            // One whose manifest cannot be read starts alone, and reports why.
            let is_ready = known.as_ref().map_or(used.is_empty(), |WaitingUpload { path, parts }| {
                !used.contains(path) && parts.iter().all(|part| !blocked.contains(part))
            });
            let attempts = self.put_off.get(number);
            if is_ready && attempts.is_none() {
                return Some(*number);
            }
            if is_ready
                && let Some(attempts) = attempts.filter(|attempts| attempts.may_begin(now, is_awaited))
            {
                let due = attempts.due().unwrap_or(now);
                again = again.filter(|(earliest, _)| *earliest <= due).or(Some((due, *number)));
            }
            if let Some(WaitingUpload { path, .. }) = known {
                used.insert(path.clone());
                blocked.insert(*number);
            }
        }
        again.map(|(_, number)| number)
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
    /// Path within the run. Empty if it is not known.
    path: String,
    attempts: Attempts,
    announced: AnnouncedUploads,
}

/// The reason why the content of an upload is not stored.
enum Setback {
    /// No attempt can succeed.
    Final(String),
    /// It is refused for a reason that may pass, and others come first.
    Later,
}

impl Upload {
    /// Removes the files of an upload that is over. Returns its number, and whether the files are gone. This
    /// takes a moment, during which other uploads go on.
    async fn settle(self) -> (u64, bool) {
        time::sleep(WRITTEN).await;
        let bytes = manifest::data_bytes(&self.directory(), self.number);
        if let Err(error) = manifest::remove(&self.directory(), self.number) {
            let message = format!("failed to remove a file that was uploaded: {error}; will retry");
            self.report(NoticeLevel::Warning, &message);
            time::sleep(LOOK_UP).await;
            return (self.number, false);
        }
        self.spool.give_back_upload_space(bytes);
        // The sender of a closed spool waits for the last upload.
        self.spool.sender_wake.notify_one();
        (self.number, true)
    }

    /// The directory changes its name with the producer.
    fn directory(&self) -> PathBuf {
        self.spool.uploads()
    }

    fn is_announced(&self) -> bool {
        self.announced.borrow().contains(&self.number)
    }

    /// Uploads, and appends the event. Returns whether the files are not needed any more. A panic does not
    /// end other uploads.
    async fn announce_or_report(&mut self) -> bool {
        match caught(self.announce()).await {
            Ok(is_over) => is_over,
            Err(panic) => self.is_announced() || self.note_panic(&panic),
        }
    }

    /// Reports a panic, once if it is repeated. Returns whether the upload is given up.
    fn note_panic(&mut self, panic: &str) -> bool {
        let path = if self.path.is_empty() { "a file" } else { &self.path };
        if self.attempts.count_panic() {
            let reason =
                format!("{MOST_PANICS} attempts have failed, the last one with \"{panic}\"; {ADVICE}");
            self.lose(path, &reason);
            self.spool.progress.update(|delivery| drop(delivery.failed_uploads.remove(&self.number)));
            // It may be a part, even if its manifest cannot be read.
            let manifest = Manifest::read(&self.directory(), self.number).ok().flatten();
            if manifest.is_none_or(|manifest| manifest.announcement == Announcement::Part) {
                self.note_failure();
            }
            return true;
        }
        let reason = format!("failed to upload {path} ({panic}); will retry; {ADVICE}");
        let shown = plain_line(&reason);
        let failure = UploadFailure { reason: shown.clone(), is_refused: false };
        let mut is_new = false;
        self.spool.progress.update(|delivery| {
            let earlier = delivery.failed_uploads.insert(self.number, failure);
            is_new = earlier.is_none_or(|earlier| earlier.reason != shown);
        });
        if is_new {
            self.report(NoticeLevel::Error, &reason);
        }
        self.attempts.put_off();
        false
    }

    /// Reports and counts an upload that can never arrive.
    fn lose(&self, path: &str, reason: &str) {
        self.report(NoticeLevel::Error, &format!("{path} was not uploaded, and is lost: {reason}"));
        self.spool.count_lost_upload();
    }

    /// Uploads, and appends the event. Returns whether the files are not needed any more.
    async fn announce(&mut self) -> bool {
        let manifest = match Manifest::read(&self.directory(), self.number) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return false,
            Err(error) => {
                self.cannot_read(&error);
                return false;
            }
        };
        let outcome = match self.upload(&manifest).await {
            Ok(content) => Ok(content),
            Err(Setback::Final(reason)) => Err(reason),
            Err(Setback::Later) => {
                self.attempts.put_off();
                return false;
            }
        };
        self.spool.progress.update(|delivery| drop(delivery.failed_uploads.remove(&self.number)));
        match outcome {
            Ok(content) => self.append(&manifest, content).await,
            // Its record would refer to nothing.
            Err(reason) => {
                self.lose(&manifest.path, &reason);
                if manifest.announcement == Announcement::Part {
                    self.note_failure();
                }
            }
        }
        true
    }

    /// Notes that this part of an object is missing, so that the object is not announced.
    fn note_failure(&self) {
        if let Err(error) = manifest::note_failure(&self.directory(), self.number) {
            self.report(NoticeLevel::Warning, &format!("failed to note an upload: {error}"));
        }
    }

    fn cannot_read(&mut self, error: &io::Error) {
        if error.kind() != io::ErrorKind::InvalidData {
            if !self.attempts.is_reported {
                self.attempts.is_reported = true;
                self.report(NoticeLevel::Warning, &format!("failed to read an upload: {error}; will retry"));
            }
            return self.attempts.put_off();
        }
        let message = match manifest::set_aside(&self.directory(), self.number) {
            Ok(_) => format!("the description of a file is damaged, so the file is lost: {error}"),
            Err(aside) => {
                format!("the description of a file is damaged: {error}; failed to set it aside: {aside}")
            }
        };
        self.report(NoticeLevel::Error, &message);
        self.spool.count_lost_upload();
        self.note_failure();
    }

    /// Makes as many attempts as it takes, as long as no other upload has a better chance.
    async fn upload(&mut self, manifest: &Manifest) -> Result<UploadedContent, Setback> {
        let mut restarts = 0;
        let mut is_checked = self.attempts.is_checked;
        loop {
            let path = &manifest.path;
            let directory = self.directory();
            let outcome = self.attempt(manifest, &directory, &mut is_checked).await;
            self.attempts.is_checked = is_checked;
            let error = match outcome {
                Ok((content, version)) => {
                    self.note_change(manifest, version);
                    return Ok(content);
                }
                // The files are elsewhere now.
                Err(_) if directory != self.directory() => continue,
                Err(TransferError::FileChanged) if restarts < MOST_RESTARTS => {
                    restarts += 1;
                    self.pause().await;
                    continue;
                }
                Err(TransferError::FileChanged) => {
                    return Err(Setback::Final(always_changed(&manifest.source)));
                }
                Err(TransferError::Request(error)) => error,
            };
            if is_final(&error) {
                return Err(Setback::Final(with_source(&error)));
            }
            // The content exists nowhere else, so errors that may pass are waited out.
            self.note_attempt(path, &error);
            if !error.is_temporary() {
                if !self.attempts.is_reported {
                    self.attempts.is_reported = true;
                    let message = format!("failed to upload {path}: {}; will retry", with_source(&error));
                    self.report(NoticeLevel::Warning, &message);
                }
                if self.attempts.count_refusal() {
                    return Err(Setback::Later);
                }
            }
            self.pause().await;
        }
    }

    async fn pause(&mut self) {
        let pause = self.attempts.backoff.next_pause();
        self.spool.progress.pause(pause).await;
    }

    /// Uploads once, and returns the content with the version of the file that has it. The first attempt
    /// checks content in the spool.
    async fn attempt(
        &self,
        manifest: &Manifest,
        directory: &Path,
        is_checked: &mut bool,
    ) -> Result<(UploadedContent, FileVersion), TransferError> {
        let failed = |source| HttpError::File { path: self.directory(), source };
        if let Some(digest) = manifest.data.clone().filter(|_| !*is_checked) {
            let data = data_path(directory, self.number);
            blocking(move || digest.check(&data)).await.flatten().map_err(failed)?;
            *is_checked = true;
        }
        let file = self.content(manifest).await.map_err(failed)?;
        let version = file.version()?;
        let artifact = Artifact {
            run_id: &self.spool.owner().run_id,
            path: &manifest.path,
            content_type: &manifest.content_type,
            file: &file,
            version,
        };
        let record = parts_path(directory, self.number);
        let content = match parts::upload(&self.gateway, &artifact, &record).await? {
            Some(content) => content,
            None => transfer::upload(&self.gateway, &artifact).await?,
        };
        Ok((content, version))
    }

    /// Notes why the last attempt has failed, for the health of the run and for `sync`.
    fn note_attempt(&self, path: &str, error: &HttpError) {
        let reason = plain_line(&format!("failed to upload {path}: {}", with_source(error)));
        let is_refused = matches!(error, HttpError::Refused { .. } | HttpError::NotFound { .. });
        let failure = UploadFailure { reason, is_refused };
        self.spool.progress.update(|delivery| drop(delivery.failed_uploads.insert(self.number, failure)));
    }

    /// Reports a file that is not the file of the call any more. What is stored is one version of it.
    fn note_change(&self, manifest: &Manifest, version: FileVersion) {
        if let Source::File { path, size, modified_us, .. } = &manifest.source
            && (*size != version.size || modified_us.is_some_and(|time| time != version.modified_us()))
        {
            let message = format!(
                "{} was changed after the call: the content that it had when it was uploaded is stored",
                path.display()
            );
            self.report(NoticeLevel::Warning, &message);
        }
    }

    /// The file with the content, which is encoded first if necessary.
    async fn content(&self, manifest: &Manifest) -> io::Result<ContentFile> {
        let directory = self.directory();
        let source = match &manifest.source {
            Source::Data => ContentFile::of_spool(data_path(&directory, self.number)),
            Source::File { path, id, .. } => ContentFile::of_user(path.clone(), *id),
        };
        if manifest.encoding == Encoding::Identity {
            return Ok(source);
        }
        let target = encoded_path(&directory, self.number);
        let encoding = manifest.encoding;
        let encoded = target.clone();
        blocking(move || media::encode_file(encoding, source.path(), &encoded)).await??;
        Ok(ContentFile::of_spool(target))
    }

    /// Appends the event, as soon as the spool has space for it.
    async fn append(&self, manifest: &Manifest, content: UploadedContent) {
        if manifest.announcement == Announcement::Part {
            return;
        }
        // They run already, or are over: `start_next` sees to that.
        while manifest.has_parts(&self.directory()) {
            time::sleep(PART_INTERVAL).await;
        }
        if manifest.has_failed_parts(&self.directory()) {
            let message = format!("{} is not shown: another file of its object is missing", manifest.path);
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
        // At once, so that no panic makes another attempt append it again.
        self.announced.borrow_mut().insert(self.number);
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

/// The reason why a file is given up that was changed during each attempt to upload it.
fn always_changed(source: &Source) -> String {
    let name = match source {
        Source::File { path, .. } => path.display().to_string(),
        Source::Data => "its copy in the spool".to_owned(),
    };
    let attempts = MOST_RESTARTS + 1;
    format!(
        "{name} was written to during each of {attempts} attempts to upload it; log a file that is not \
         written to until it is uploaded, such as a copy"
    )
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

#[cfg(test)]
mod tests;
