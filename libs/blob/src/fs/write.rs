//! Writes and deletes files so that a crash, a full disk or a concurrent writer to the same
//! folder leaves nothing half done. Every function blocks; the caller chooses the thread.

use std::{
    collections::BTreeSet,
    fs::{File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use cap_std::fs::{Dir, OpenOptions};

use super::path;
use crate::BlobKey;

/// Number of times a folder may be pruned concurrently before a publish gives up. Each time
/// means that another writer made progress.
const PUBLISH_ATTEMPTS: usize = 100;

/// A file in `tmp` that is not yet a blob. It is removed on drop. Holds one file descriptor.
pub(super) struct Draft {
    file: File,
    tmp: Arc<Dir>,
    name: String,
    size: u64,
    published: bool,
}

impl Draft {
    pub(super) fn create(tmp: &Arc<Dir>) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let name = format!("{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let file = match tmp.open_with(&name, OpenOptions::new().write(true).create_new(true)) {
                Ok(file) => file.into_std(),
                // A process with the same id in another container, or before a
                // crash.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            };
            // The lock shows other processes that the file is in use.
            match file.try_lock() {
                Ok(()) => return Ok(Self { file, tmp: tmp.clone(), name, size: 0, published: false }),
                // The sweep of another process locked the file first, and will
                // remove it.
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    pub(super) fn write(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        for piece in pieces {
            self.file.write_all(piece)?;
            self.size += piece.len() as u64;
        }
        Ok(())
    }

    /// Bytes written so far.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Renames the file to its final path, replacing an existing file, and returns once the
    /// rename is durable.
    pub(super) fn publish(mut self, root: &Dir, path: &Path) -> io::Result<()> {
        // The content must be durable before its name is.
        self.file.sync_all()?;
        publish(&self.tmp, &self.name, root, path)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Draft {
    /// A file that cannot be removed is left to the next sweep.
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = self.tmp.remove_file(&self.name)
        {
            tracing::warn!(name = self.name, %error, "failed to remove an unfinished upload");
        }
    }
}

/// Renames a file to its final path, and creates the folder if necessary.
fn rename(from: &Dir, name: &str, root: &Dir, path: &Path) -> io::Result<()> {
    let folder = path.parent().expect("a blob's path ends with a file name");
    if !folder.as_os_str().is_empty() {
        root.create_dir_all(folder)?;
    }
    from.rename(name, root, path)
}

/// Renames a durable file to its final path and returns once the rename is durable.
pub(super) fn publish(from: &Dir, name: &str, root: &Dir, path: &Path) -> io::Result<()> {
    let folder = path.parent().expect("a blob's path ends with a file name");
    let mut attempts = 0;
    while let Err(error) = rename(from, name, root, path) {
        attempts += 1;
        // A delete pruned the folder between our creating it and the rename, or
        // between `create_dir_all` seeing it and checking that it is a directory.
        let is_pruned = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists);
        if !is_pruned || attempts == PUBLISH_ATTEMPTS {
            return Err(error);
        }
    }
    // Up to the root: a folder that already existed may have been created by a
    // writer that has not synced it yet.
    folder.ancestors().try_for_each(|folder| sync(root, folder))
}

/// Removes the files of processes that no longer run.
pub(super) fn sweep(tmp: &Dir) -> io::Result<()> {
    for entry in tmp.entries()? {
        let entry = entry?;
        let file = match entry.open_with(OpenOptions::new().write(true)) {
            Ok(file) => file.into_std(),
            // Its process has just published or removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            // Nothing holds the lock, so the writing process has ended.
            Ok(()) => ignore_not_found(entry.remove_file())?,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(())
}

/// Deletes these blobs and the folders that become empty. Returns the keys that still exist,
/// each with the reason.
pub(super) fn delete(root: &Dir, keys: Vec<BlobKey>) -> Vec<(BlobKey, io::Error)> {
    let mut failed = Vec::new();
    let mut touched = BTreeSet::new();
    let mut gone = Vec::new();
    for key in keys {
        match delete_one(root, &path::blob_path(&key)) {
            Ok(folder) => {
                touched.insert(folder);
                gone.push(key);
            }
            Err(error) => failed.push((key, error)),
        }
    }
    // One sync per folder. If any fails, none of the deletions can be assumed durable.
    if let Err(error) = touched.iter().try_for_each(|folder| sync(root, folder)) {
        failed.extend(gone.into_iter().map(|key| (key, io::Error::new(error.kind(), error.to_string()))));
    }
    failed
}

/// Deletes one file. Returns the last folder that was changed: the nearest ancestor that is not
/// empty.
fn delete_one(root: &Dir, path: &Path) -> io::Result<PathBuf> {
    ignore_not_found(root.remove_file(path))?;
    let mut folders = path.ancestors().skip(1);
    loop {
        let folder = folders.next().expect("the loop ends at the root, which is the last ancestor");
        if folder.as_os_str().is_empty() {
            return Ok(folder.to_owned());
        }
        match root.remove_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(folder.to_owned()),
            removed => ignore_not_found(removed)?,
        }
    }
}

/// Makes the entries of a folder durable. A deleted folder has none, and its deletion is made
/// durable by a sync of its parent.
pub(super) fn sync(root: &Dir, folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    ignore_not_found(root.open(folder).and_then(|folder| folder.sync_all()))
}

pub(super) fn ignore_not_found(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
