//! One process per directory: a file that stays locked while the store is open.
//!
//! The engine's own lock does not suffice, because it is released whenever the engine is
//! reopened after an error.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use crate::{Error, Result};

/// Held by the committer; the operating system releases it when the process ends, for any
/// reason.
pub(super) struct DirectoryLock(#[expect(dead_code, reason = "holds the lock until dropped")] File);

impl DirectoryLock {
    pub(super) fn acquire(directory: &Path) -> Result<Self> {
        let path = directory.join("lock");
        let failed = |error: std::io::Error| Error::Unavailable {
            reason: format!("cannot lock {}", path.display()),
            source: Some(std::sync::Arc::new(error)),
        };
        std::fs::create_dir_all(directory).and_then(|()| sync_parent(directory)).map_err(failed)?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let mut file = lock(directory, file, failed)?;
        // The process id appears in the error of a second process.
        file.set_len(0).map_err(failed)?;
        write!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self(file))
    }

    /// Locks a directory in which nothing may change. A directory that was never locked is not in use.
    pub(super) fn acquire_existing(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join("lock");
        let failed = |error: std::io::Error| Error::Unavailable {
            reason: format!("cannot lock {}", path.display()),
            source: Some(std::sync::Arc::new(error)),
        };
        match File::open(&path) {
            Ok(file) => Ok(Some(Self(lock(directory, file, failed)?))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

fn lock(directory: &Path, file: File, failed: impl Fn(std::io::Error) -> Error) -> Result<File> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(in_use(directory, file)),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Syncs the parent of a new directory, without which a power failure could lose the directory.
fn sync_parent(directory: &Path) -> std::io::Result<()> {
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn in_use(directory: &Path, mut file: File) -> Error {
    let mut holder = String::new();
    let holder = match file.read_to_string(&mut holder) {
        Ok(length) if length > 0 => format!("process {holder}"),
        _ => "another process".to_owned(),
    };
    let directory = directory.display();
    Error::InUse {
        reason: format!(
            "the store in {directory} is in use by {holder}: stop that process, or start this one with another data directory"
        ),
    }
}
