//! Writer for archives. An unfinished archive has a marker file with the filters, the server
//! and the log positions of the snapshot; the manifest replaces it at the end. Starting the
//! same backup again resumes the unfinished archive unless another process is still writing it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

use matyan_proto::backup::v1 as pb;
use matyan_value::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

use super::{
    BLOB_LIST, ENTITIES, Error, Fields, JsonObject, LOST, MANIFEST, PARTS, PROJECT, RUNS, Result, STUDIES,
    TOMBSTONES, UNFINISHED, VERSION,
    checksums::{self, Checksums},
    durable, entities, file_error,
    lines::{self, LineReader},
    pack::packed,
    run_folder,
};
pub use super::{blob_file::BlobFile, run_writer::RunWriter, studies_file::StudiesFile};

const PREFIX: &str = "matyan-backup-";

/// The scope of a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupFilters {
    pub runs: Vec<String>,
    pub experiment: Option<String>,
    /// The text given by the user.
    pub since: Option<String>,
    pub blobs: bool,
}

impl BackupFilters {
    fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        if !self.runs.is_empty() {
            let runs = self.runs.iter().map(|run| Value::Text(run.clone()));
            fields = fields.set("runs", Value::List(runs.collect()));
        }
        for (key, text) in [("experiment", &self.experiment), ("since", &self.since)] {
            if let Some(text) = text {
                fields = fields.text(key, text);
            }
        }
        fields
    }

    /// Returns the filters as they appear in the marker file.
    fn marker_text(&self) -> String {
        self.fields().bool("blobs", self.blobs).json()
    }
}

/// The server that a backup reads, and the positions of its log.
#[derive(Clone, Debug, Default)]
pub struct BackupOrigin {
    pub server: String,
    pub cut: pb::Cut,
}

impl BackupOrigin {
    /// Whether the log is still the log of this cut, and its positions have not moved back.
    fn follows(&self, cut: &pb::Cut) -> bool {
        (&self.cut.identity, self.cut.partitions) == (&cut.identity, cut.partitions)
            && cut.applied.iter().all(|before| {
                self.cut.applied.iter().any(|now| {
                    now.partition == before.partition && (now.log, now.next) >= (before.log, before.next)
                })
            })
    }
}

pub struct ArchiveWriter {
    pub root: PathBuf,
    pub is_resumed: bool,
    filters: BackupFilters,
    created: OffsetDateTime,
    cut: pb::Cut,
    /// Folders of the complete runs.
    done: BTreeSet<String>,
    /// Held on the marker file, so that no other process writes this archive.
    _lock: File,
}

/// Summary of a finished archive.
#[derive(Debug, Default)]
pub struct ArchiveContents {
    pub runs: usize,
    pub entities: BTreeMap<&'static str, u64>,
    pub blobs: u64,
    pub blob_bytes: u64,
    /// Blobs that runs refer to but the blob store no longer had.
    pub lost: u64,
    /// The files that list these blobs.
    pub lost_in: Vec<String>,
}

impl ArchiveWriter {
    /// Returns the unfinished archive of the same backup from the same server below
    /// `output`, if any.
    pub fn resume(output: &Path, filters: &BackupFilters, origin: &BackupOrigin) -> Result<Option<Self>> {
        let entries = match fs::read_dir(output) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_error(output)(error)),
        };
        let mut roots = Vec::new();
        for entry in entries {
            let entry = entry.map_err(file_error(output))?;
            if entry.file_name().to_string_lossy().starts_with(PREFIX)
                && entry.path().join(UNFINISHED).is_file()
            {
                roots.push(entry.path());
            }
        }
        roots.sort();
        // The names contain the time of creation: newest first.
        for root in roots.into_iter().rev() {
            let mark = lines::object(&root, UNFINISHED)?;
            let cut = mark.inner("log")?.ok_or_else(|| mark.error("`log` is missing"))?;
            let cut = entities::cut(&cut)?;
            let is_same = mark.required_text("filters")? == filters.marker_text()
                && mark.text("server")?.as_ref() == Some(&origin.server);
            if is_same
                && origin.follows(&cut)
                && let Some(lock) = lock(&root)?
            {
                return Self::open(root, lock, filters, cut, &mark).map(Some);
            }
        }
        Ok(None)
    }

    fn open(
        root: PathBuf,
        lock: File,
        filters: &BackupFilters,
        cut: pb::Cut,
        mark: &JsonObject,
    ) -> Result<Self> {
        let created = OffsetDateTime::parse(&mark.required_text("created_at")?, &Rfc3339);
        let created = created.map_err(|error| mark.error(format!("`created_at`: {error}")))?;
        let (done, sums) = complete_runs(&root, &checksums::read(&root)?.unwrap_or_default())?;
        // Removes the checksums of incomplete runs.
        checksums::write(&root, &sums)?;
        Ok(Self { root, is_resumed: true, filters: filters.clone(), created, cut, done, _lock: lock })
    }

    /// Creates an archive. Fails with an error that `is_already_exists` recognizes if `output` already
    /// has an archive, packed or not, of the same second.
    pub fn begin(
        output: &Path,
        filters: &BackupFilters,
        origin: &BackupOrigin,
        now: OffsetDateTime,
    ) -> Result<Self> {
        let root = output.join(format!("{PREFIX}{}", stamp(now)));
        fs::create_dir_all(output).map_err(file_error(output))?;
        fs::create_dir(&root).map_err(file_error(&root))?;
        // Checked after the folder is created: packing removes the folder only once the
        // file exists.
        if packed(&root).exists() {
            fs::remove_dir(&root).map_err(file_error(&root))?;
            return Err(already_exists(&root));
        }
        let runs = root.join(RUNS);
        fs::create_dir(&runs).map_err(file_error(&runs))?;
        let mark = Fields::default()
            .text("filters", &filters.marker_text())
            .text("server", &origin.server)
            .text("created_at", &rfc3339(now))
            .set("log", entities::cut_fields(&origin.cut).value());
        durable::put(&root, UNFINISHED, &mark.json())?;
        // A process that requested the same backup at the same time may have resumed
        // this one already.
        let lock = lock(&root)?.ok_or_else(|| already_exists(&root))?;
        let filters = filters.clone();
        let cut = origin.cut.clone();
        Ok(Self { root, is_resumed: false, filters, created: now, cut, done: BTreeSet::new(), _lock: lock })
    }

    pub fn has_run(&self, run_id: &str) -> bool {
        self.done.contains(&run_folder(run_id))
    }

    pub fn includes_blobs(&self) -> bool {
        self.filters.blobs
    }

    pub fn begin_run(&self, head: pb::RunHead) -> Result<RunWriter> {
        RunWriter::begin(&self.root, head)
    }

    /// Starts the file of the studies, replacing the file of an earlier attempt.
    pub fn begin_studies(&self) -> Result<StudiesFile> {
        StudiesFile::begin(&self.root)
    }

    pub fn mark_run_done(&mut self, run_id: &str) {
        self.done.insert(run_folder(run_id));
    }

    fn put(&self, name: &str, text: &str) -> Result<()> {
        durable::put(&self.root, name, text)
    }

    /// Writes the files that belong to no run and the manifest, and removes the marker
    /// file.
    pub fn finish(
        self,
        settings: &pb::Settings,
        entities: &[pb::Entity],
        tombstones: &[pb::Tombstone],
    ) -> Result<(PathBuf, ArchiveContents)> {
        // Removes runs that were started but not finished.
        remove_folder(&self.root.join(PARTS))?;
        let mut contents = ArchiveContents { runs: self.done.len(), ..ArchiveContents::default() };
        let mut text = String::new();
        for entity in entities {
            let (kind, line) = entities::entity_line(entity);
            *contents.entities.entry(kind).or_default() += 1;
            text.push_str(&(line + "\n"));
        }
        self.put(ENTITIES, &text)?;
        self.put(PROJECT, &(entities::settings_fields(settings).json() + "\n"))?;
        // A run in the archive existed when it was read, so its later deletion is not
        // part of the archive.
        let deleted = tombstones.iter().filter(|tombstone| !self.has_run(&tombstone.run_id));
        let deleted: String = deleted.map(|tombstone| entities::tombstone_line(tombstone) + "\n").collect();
        self.put(TOMBSTONES, &deleted)?;
        self.count_blobs(&mut contents)?;
        self.put(MANIFEST, &self.manifest(&contents))?;
        let mut own = checksums::Checksums::new();
        for name in [ENTITIES, PROJECT, STUDIES, TOMBSTONES, MANIFEST] {
            // A project without studies has no file for them.
            if self.root.join(name).exists() {
                own.insert(name.to_owned(), checksums::sum(&self.root, name)?);
            }
        }
        checksums::append(&self.root, &own)?;
        // Removed last, because the archive counts as complete without it.
        let mark = self.root.join(UNFINISHED);
        fs::remove_file(&mark).map_err(file_error(&mark))?;
        durable::sync(&self.root)?;
        Ok((self.root, contents))
    }

    /// Counts the blobs, including the blobs of runs read by an earlier attempt.
    fn count_blobs(&self, contents: &mut ArchiveContents) -> Result<()> {
        for run in &self.done {
            if let Some(mut lines) = LineReader::open(&self.root, &format!("{RUNS}/{run}/{BLOB_LIST}"), 0)? {
                while let Some(blob) = lines.next()? {
                    contents.blobs += 1;
                    contents.blob_bytes += blob.unsigned("size")?.unwrap_or_default();
                }
            }
            let lost = format!("{RUNS}/{run}/{LOST}");
            if let Some(mut lines) = LineReader::open(&self.root, &lost, 0)? {
                while lines.next()?.is_some() {
                    contents.lost += 1;
                }
                contents.lost_in.push(lost);
            }
        }
        Ok(())
    }

    fn manifest(&self, contents: &ArchiveContents) -> String {
        let hashes = self.done.iter().map(|run| Value::Text(run.clone()));
        let counts = contents
            .entities
            .iter()
            .fold(Fields::default(), |fields, (kind, count)| fields.unsigned(kind, *count));
        Fields::default()
            .integer("format_version", VERSION)
            .text("created_at", &rfc3339(self.created))
            .unsigned("run_count", contents.runs as u64)
            .set("run_hashes", Value::List(hashes.collect()))
            .set("entity_counts", counts.value())
            .unsigned("blob_count", contents.blobs)
            .unsigned("blob_bytes", contents.blob_bytes)
            .unsigned("blobs_lost", contents.lost)
            .set("filters", self.filters.fields().value())
            .bool("include_blobs", self.filters.blobs)
            .set("log", entities::cut_fields(&self.cut).value())
            .json()
            + "\n"
    }
}

/// Returns the runs whose files are all listed, with their checksums. Any other run folder is
/// incomplete and is removed; its run may have been deleted by now.
fn complete_runs(root: &Path, listed: &Checksums) -> Result<(BTreeSet<String>, Checksums)> {
    let mut done = BTreeSet::new();
    let mut sums = Checksums::new();
    let folder = root.join(RUNS);
    for entry in fs::read_dir(&folder).map_err(file_error(&folder))? {
        let entry = entry.map_err(file_error(&folder))?;
        let run = entry.file_name().to_string_lossy().into_owned();
        let mut files = BTreeSet::new();
        checksums::collect_files(root, &Path::new(RUNS).join(&run), &mut files)?;
        let prefix = format!("{RUNS}/{run}/");
        let named = listed.range(prefix.clone()..).take_while(|(file, _)| file.starts_with(&prefix));
        if !files.is_empty() && files.iter().eq(named.clone().map(|(file, _)| file)) {
            sums.extend(named.map(|(file, sum)| (file.clone(), sum.clone())));
            done.insert(run);
        } else {
            remove_folder(&entry.path())?;
        }
    }
    Ok((done, sums))
}

fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error(folder)(error)),
        _ => Ok(()),
    }
}

/// Returns the time in the name of an archive.
pub(super) fn stamp(moment: OffsetDateTime) -> String {
    let format = format_description!("[year][month][day]-[hour][minute][second]");
    moment.format(format).expect("numeric components can be formatted")
}

pub(super) fn rfc3339(moment: OffsetDateTime) -> String {
    moment.format(&Rfc3339).expect("a current time can be formatted")
}

/// Locks the marker file for the writing process; the operating system releases the lock
/// however the process ends. Returns `None` if another process holds it or has finished the
/// archive.
fn lock(root: &Path) -> Result<Option<File>> {
    let path = root.join(UNFINISHED);
    // Some file systems lock only files that are open for writing.
    let mark = match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(mark) => mark,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error(&path)(error)),
    };
    match mark.try_lock() {
        // The previous holder may have finished the archive before it released the lock.
        Ok(()) => Ok(path.exists().then_some(mark)),
        Err(TryLockError::WouldBlock) => Ok(None),
        // The file system has no locks, like NFS without a lock daemon: the user must
        // not start the same backup twice.
        Err(TryLockError::Error(_)) => Ok(Some(mark)),
    }
}

fn already_exists(root: &Path) -> Error {
    file_error(root)(io::ErrorKind::AlreadyExists.into())
}

/// Whether an error means that an archive exists already, such as one made in the same second.
pub fn is_already_exists(error: &Error) -> bool {
    matches!(error, Error::File { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
}

#[cfg(test)]
mod tests;
