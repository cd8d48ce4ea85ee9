//! The file that an upload reads, and how a change of it is noticed.
//!
//! An upload takes time, and the file may change during that time, such as a checkpoint that is
//! replaced after each epoch. What was sent would then be a mixture of two contents, with a valid hash. So the
//! version of the file is taken before it is read and compared afterwards, and only a file that stayed the same
//! is announced.

use std::{
    fs, io,
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

/// A file with the content of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContentFile {
    path: PathBuf,
    is_in_spool: bool,
}

impl ContentFile {
    /// A file of the spool, which does not change. Its time does, because the spool marks its files as
    /// used.
    pub(super) fn of_spool(path: PathBuf) -> Self {
        Self { path, is_in_spool: true }
    }

    pub(super) fn of_user(path: PathBuf) -> Self {
        Self { path, is_in_spool: false }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn version(&self) -> Result<FileVersion, HttpError> {
        let metadata = fs::metadata(&self.path).map_err(|source| self.failed(source))?;
        let modified = metadata.modified().ok().filter(|_| !self.is_in_spool);
        let modified = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified_ns = modified.and_then(|time| u64::try_from(time.as_nanos()).ok()).unwrap_or(0);
        Ok(FileVersion { size: metadata.len(), modified_ns })
    }

    /// The error for a file that cannot be read.
    pub(super) fn failed(&self, source: io::Error) -> HttpError {
        HttpError::File { path: self.path.clone(), source }
    }
}
