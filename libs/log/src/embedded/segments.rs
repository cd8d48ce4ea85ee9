//! The segments of a topic, in a directory: oldest first, without gaps. Records are appended to
//! the last one by the `Appender`, and whole segments are deleted from the front.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use super::{
    disk::{CreationError, Disk},
    partition::PARTITION,
    segment::{START, Segment, SharedSegment},
    unavailable,
};
use crate::{Error, Record, Result};

pub(super) struct Segments {
    directory: PathBuf,
    identity: [u8; 16],
    disk: Arc<dyn Disk>,
    list: Mutex<VecDeque<SharedSegment>>,
}

impl Segments {
    /// Creates a topic in which `first` is the offset of the first record. Deletes the files of an
    /// interrupted attempt.
    pub(super) fn create(
        directory: PathBuf,
        identity: [u8; 16],
        disk: Arc<dyn Disk>,
        first: u64,
    ) -> io::Result<Self> {
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        let segment = Segment::create(&*disk, &directory, &identity, first, 0)?;
        Ok(Self { directory, identity, disk, list: Mutex::new(VecDeque::from([Arc::new(segment)])) })
    }

    /// True if any segment in the directory has records.
    pub(super) fn has_records(directory: &Path) -> io::Result<bool> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            entries => entries?,
        };
        for entry in entries {
            if entry?.metadata()?.len() > START.into() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Opens a topic whose records before `first` were trimmed. Returns the offset after the
    /// last record, too.
    pub(super) fn open(
        directory: PathBuf,
        identity: [u8; 16],
        disk: Arc<dyn Disk>,
        first: u64,
    ) -> Result<(Self, u64)> {
        let failed = |source| unavailable(&format!("failed to read `{}`", directory.display()), source);
        let files = segment_files(&directory, &*disk).map_err(failed)?;
        let mut list = VecDeque::new();
        let mut bytes_before = 0;
        for (at, (offset, path)) in files.iter().enumerate() {
            if files.get(at + 1).is_some_and(|(next, _)| *next <= first) {
                disk.remove(path).map_err(failed)?;
                continue;
            }
            let segment = Segment::open(path, &identity, *offset, bytes_before)?;
            bytes_before = segment.bytes_before_end();
            list.push_back(Arc::new(segment));
        }
        let (Some(oldest), Some(newest)) = (list.front(), list.back()) else {
            return Err(missing(&directory, first));
        };
        if oldest.first > first {
            return Err(missing(&directory, first));
        }
        let end = newest.recover(&*disk)?;
        if end < first {
            return Err(missing(&directory, end));
        }
        Ok((Self { directory, identity, disk, list: Mutex::new(list) }, end))
    }

    pub(super) fn newest(&self) -> SharedSegment {
        self.lock().back().expect("a topic always has a segment").clone()
    }

    /// Adds an empty segment for the records from `first` on.
    pub(super) fn add(&self, first: u64) -> Result<SharedSegment, CreationError> {
        let bytes_before = self.newest().bytes_before_end();
        let segment = Segment::create(&*self.disk, &self.directory, &self.identity, first, bytes_before)?;
        let segment = Arc::new(segment);
        self.lock().push_back(segment.clone());
        Ok(segment)
    }

    /// Deletes the segments that end before `first`. A segment that cannot be deleted now is
    /// deleted by the next opening.
    pub(super) fn delete_before(&self, first: u64) {
        let mut list = self.lock();
        while list.get(1).is_some_and(|next| next.first <= first)
            && let Some(oldest) = list.pop_front()
        {
            if let Err(error) = self.disk.remove(&oldest.file.path) {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    segment = %oldest.file.path.display(),
                    "failed to delete trimmed segment; the next start deletes it"
                );
            }
        }
    }

    /// Reads records from `from` up to and excluding `end`: at least one, and about `max_bytes`
    /// at most.
    pub(super) fn read(&self, from: u64, end: u64, max_bytes: usize) -> Result<Vec<Record>> {
        let records = self.find(from)?.read(from, end, max_bytes)?;
        if records.is_empty() { Err(missing(&self.directory, from)) } else { Ok(records) }
    }

    /// Bytes before the record with this offset, counted from the opening of the log.
    pub(super) fn bytes_before(&self, offset: u64) -> Result<u64> {
        self.find(offset)?.bytes_before(offset)
    }

    /// The first offset of the oldest segment with at least `bytes` before it, or of the newest.
    pub(super) fn first_after(&self, bytes: u64) -> u64 {
        let list = self.lock();
        let wanted = list[0].bytes_before + bytes;
        let found = list.iter().find(|segment| segment.bytes_before >= wanted);
        found.or(list.back()).expect("a topic always has a segment").first
    }

    /// The segment with the record of this offset.
    fn find(&self, offset: u64) -> Result<SharedSegment> {
        let list = self.lock();
        let after = list.partition_point(|segment| segment.first <= offset);
        match after.checked_sub(1) {
            Some(at) => Ok(list[at].clone()),
            None => Err(Error::Trimmed { partition: PARTITION, requested: offset, first: list[0].first }),
        }
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<SharedSegment>> {
        self.list.lock().expect("no thread panics while holding the segments")
    }
}

/// First offset and path of each segment in the directory, in ascending order. Deletes segments
/// whose creation was interrupted.
fn segment_files(directory: &Path, disk: &dyn Disk) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let first = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        match (first, path.extension().and_then(|extension| extension.to_str())) {
            (Some(first), Some("log")) => files.push((first, path)),
            (Some(_), Some("new")) => disk.remove(&path)?,
            _ => {}
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn missing(directory: &Path, offset: u64) -> Error {
    Error::corrupt(format!(
        "the records from offset {offset} on are missing in `{}`: restore the data directory from a backup, or move the log's \
         directory away to continue without unapplied records",
        directory.display()
    ))
}
