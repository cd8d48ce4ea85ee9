//! The file that an upload reads, and how a change of it is noticed.
//!
//! An upload takes time, and the file may change during that time, such as a checkpoint that is
//! replaced after each epoch. What was sent would then be a mixture of two contents, with a valid hash. So the
//! version of the file is taken before it is read and compared afterwards, and only a file that stayed the same
//! is announced.

use std::{
    fs::{self, Metadata},
    io,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize};

use crate::http::HttpError;

/// Failure of an attempt to upload a file.
#[derive(Debug)]
pub(super) enum TransferError {
    /// The file was changed while it was read.
    FileChanged,
    Request(HttpError),
}

impl TransferError {
    /// Returns whether the same request may succeed later.
    pub(super) fn is_temporary(&self) -> bool {
        matches!(self, Self::Request(error) if error.is_temporary())
    }
}

impl From<HttpError> for TransferError {
    fn from(error: HttpError) -> Self {
        Self::Request(error)
    }
}

/// Size and time of the last change of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileVersion {
    pub(super) size: u64,
    /// Nanoseconds since the Unix epoch; 0 for a file of the spool.
    pub(super) modified_ns: u64,
}

impl FileVersion {
    /// Time of the last change in microseconds, as manifests have it.
    pub(super) fn modified_us(self) -> i64 {
        i64::try_from(self.modified_ns / 1000).unwrap_or(i64::MAX)
    }
}

/// Device and number of a file. Another file in its place has others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileId {
    device: u64,
    number: u64,
}

impl FileId {
    #[cfg(unix)]
    pub(super) fn of(metadata: &Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        Some(Self { device: metadata.dev(), number: metadata.ino() })
    }

    /// Files have no numbers here.
    #[cfg(not(unix))]
    pub(super) fn of(_: &Metadata) -> Option<Self> {
        None
    }
}

/// A file with the content of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContentFile {
    path: PathBuf,
    is_in_spool: bool,
    /// The only file that may be read at the path. `None` if any file may.
    id: Option<FileId>,
}

impl ContentFile {
    /// A file of the spool, which does not change. Its time does, because the spool marks its files as
    /// used.
    pub(super) fn of_spool(path: PathBuf) -> Self {
        Self { path, is_in_spool: true, id: None }
    }

    pub(super) fn of_user(path: PathBuf, id: Option<FileId>) -> Self {
        Self { path, is_in_spool: false, id }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn version(&self) -> Result<FileVersion, HttpError> {
        let metadata = fs::metadata(&self.path).map_err(|source| self.failed(source))?;
        self.check_identity(&metadata)?;
        let modified = metadata.modified().ok().filter(|_| !self.is_in_spool);
        let modified = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified_ns = modified.and_then(|time| u64::try_from(time.as_nanos()).ok()).unwrap_or(0);
        Ok(FileVersion { size: metadata.len(), modified_ns })
    }

    /// Fails if this is the metadata of a file that may not be read.
    pub(super) fn check_identity(&self, metadata: &Metadata) -> Result<(), HttpError> {
        if self.id.is_none() || self.id == FileId::of(metadata) {
            return Ok(());
        }
        let reason = "another file has taken its place";
        Err(self.failed(io::Error::new(io::ErrorKind::InvalidData, reason)))
    }

    /// The error for a file that cannot be read.
    pub(super) fn failed(&self, source: io::Error) -> HttpError {
        HttpError::File { path: self.path.clone(), source }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn rule_72_another_file_in_the_place_of_an_opened_one_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model");
        let secret = directory.path().join("secret");
        fs::write(&path, "model").unwrap();
        fs::write(&secret, "secret").unwrap();
        let opened = File::open(&path).unwrap();
        let id = FileId::of(&opened.metadata().unwrap());
        let [any, only] = [None, id].map(|id| ContentFile::of_user(path.clone(), id));
        let is_readable = |file: &ContentFile| {
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!(file.version().is_ok(), file.check_identity(&metadata).is_ok());
            file.version().is_ok()
        };
        assert!(is_readable(&any) && is_readable(&only));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&secret, &path).unwrap();
        assert!(is_readable(&any) && !is_readable(&only));
    }
}
