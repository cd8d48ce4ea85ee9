//! Writing and deleting files so that a crash, a full disk or a neighbour at the same folder leaves nothing half done.
//! Every function blocks; the caller sees to the thread.

use std::{
    collections::BTreeSet,
    fs::{File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use cap_std::fs::{Dir, OpenOptions};

use super::path;
use crate::BlobKey;

/// How often a folder may be pruned under our feet before we give up. Each time means that somebody else got on.
const PUBLISH_ATTEMPTS: usize = 100;

/// A file in `tmp` that is not a blob yet. Dropping it removes it.
pub(super) struct Draft {
    file: File,
    tmp: Dir,
    name: String,
    size: u64,
    published: bool,
}

impl Draft {
    pub(super) fn create(tmp: &Dir) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let name = format!("{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let file = match tmp.open_with(&name, OpenOptions::new().write(true).create_new(true)) {
                Ok(file) => file.into_std(),
                // A process of the same number in another container, or before a crash.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            };
            match file.try_lock() {
                Ok(()) => return Ok(Self { file, tmp: tmp.try_clone()?, name, size: 0, published: false }),
                // The sweep of another process was quicker, and removes it.
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

    /// Puts the file in its place, over whatever is there, and returns when it will stay there.
    pub(super) fn publish(mut self, root: &Dir, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        let folder = path.parent().expect("a blob's path ends in a file name");
        let mut attempts = 0;
        while let Err(error) = self.rename(root, folder, path) {
            attempts += 1;
            // A delete has pruned the folder between its making and our rename, or between our finding it there and our
            // looking whether it is a folder.
            let is_pruned = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists);
            if !is_pruned || attempts == PUBLISH_ATTEMPTS {
                return Err(error);
            }
        }
        self.published = true;
        // Up to the root: a folder that we found may have been made by somebody who has not synced it yet.
        folder.ancestors().try_for_each(|folder| sync(root, folder))
    }

    fn rename(&self, root: &Dir, folder: &Path, path: &Path) -> io::Result<()> {
        if !folder.as_os_str().is_empty() {
            root.create_dir_all(folder)?;
        }
        self.tmp.rename(&self.name, root, path)
    }
}

impl Drop for Draft {
    /// One quick call, so it may happen on any thread; what it cannot remove, the next sweep does.
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = self.tmp.remove_file(&self.name)
        {
            tracing::warn!(name = self.name, %error, "an unfinished upload could not be removed");
        }
    }
}

/// Removes what processes that are gone have left.
pub(super) fn sweep(tmp: &Dir) -> io::Result<()> {
    for entry in tmp.entries()? {
        let entry = entry?;
        let file = match entry.open_with(OpenOptions::new().write(true)) {
            Ok(file) => file.into_std(),
            // Published or removed by its process just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => absent_is_fine(entry.remove_file())?,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(())
}

/// Deletes these and the folders that they leave empty; returns those that are still there, and why.
pub(super) fn delete(root: &Dir, keys: Vec<BlobKey>) -> Vec<(BlobKey, io::Error)> {
    let mut failed = Vec::new();
    let mut touched = BTreeSet::new();
    let mut gone = Vec::new();
    for key in keys {
        match delete_one(root, &path::of_blob(&key)) {
            Ok(folder) => {
                touched.insert(folder);
                gone.push(key);
            }
            Err(error) => failed.push((key, error)),
        }
    }
    // One sync for each folder. If one fails, none of the deletions is known to last.
    if let Err(error) = touched.iter().try_for_each(|folder| sync(root, folder)) {
        let again = |key| (key, io::Error::new(error.kind(), error.to_string()));
        failed.extend(gone.into_iter().map(again));
    }
    failed
}

/// Returns the folder whose entries have changed last: the first above the file that is not empty.
fn delete_one(root: &Dir, path: &Path) -> io::Result<PathBuf> {
    absent_is_fine(root.remove_file(path))?;
    let mut folders = path.ancestors().skip(1);
    loop {
        let folder = folders.next().expect("the root is the last ancestor, and the loop ends there");
        if folder.as_os_str().is_empty() {
            return Ok(folder.to_owned());
        }
        match root.remove_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(folder.to_owned()),
            removed => absent_is_fine(removed)?,
        }
    }
}

/// Makes the entries of a folder durable. One that is gone has none; who removed it syncs the folder above.
fn sync(root: &Dir, folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    absent_is_fine(root.open(folder).and_then(|folder| folder.sync_all()))
}

fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
