//! Files of uploads in parts: one for each upload, in which the parts are written in place. Every
//! function blocks; the caller chooses the thread.
//!
//! The receipt of a part confirms that its bytes are durable, so completing an upload needs no other
//! record of the parts. Writers of parts lock the file together; completing locks it alone, so that
//! no late part changes a blob.

use std::{
    fs::{File, TryLockError},
    io,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use cap_std::fs::{Dir, OpenOptions};

use super::write;
use crate::{Error, Result};

/// Age at which an upload that is neither completed nor written to is removed.
const MAX_AGE: Duration = Duration::from_hours(7 * 24);

/// Hexadecimal digits of an id.
const ID_DIGITS: usize = 32;

/// Result of an attempt to complete an upload.
pub(super) enum Completion {
    Published,
    /// A part is still being written.
    InUse,
    /// The upload does not exist any more.
    Missing,
}

/// Creates the file of an upload, and removes those that have been silent for too long.
pub(super) fn create(uploads: &Dir, id: &str, size: u64) -> io::Result<()> {
    sweep(uploads)?;
    let file = uploads.open_with(id, OpenOptions::new().write(true).create_new(true))?;
    // Only the size: a file system that is too full reports it at the first part.
    file.set_len(size)?;
    write::sync(uploads, Path::new(""))
}

/// Opens the file of an upload to write a part. `None` if the upload does not exist any more, or is
/// being completed.
pub(super) fn open_part(uploads: &Dir, id: &str) -> io::Result<Option<File>> {
    let Some(file) = open(uploads, id)? else { return Ok(None) };
    // It may have been completed since it was opened.
    let is_open = file.try_lock_shared().is_ok() && uploads.exists(id);
    Ok(is_open.then_some(file))
}

pub(super) fn write_at(file: &File, mut offset: u64, pieces: &[Bytes]) -> io::Result<()> {
    for piece in pieces {
        file.write_all_at(piece, offset)?;
        offset += piece.len() as u64;
    }
    Ok(())
}

/// Makes an upload whose parts are durable a blob of this size.
pub(super) fn complete(
    uploads: &Dir,
    id: &str,
    size: u64,
    trailer: &[u8],
    data: &Dir,
    path: &Path,
) -> io::Result<Completion> {
    let Some(file) = open(uploads, id)? else { return Ok(Completion::Missing) };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Completion::InUse),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Removes the trailer of an attempt that failed.
    file.set_len(size)?;
    file.write_all_at(trailer, size)?;
    file.sync_all()?;
    write::publish(uploads, id, data, path)?;
    Ok(Completion::Published)
}

pub(super) fn abort(uploads: &Dir, id: &str) -> io::Result<()> {
    write::ignore_not_found(uploads.remove_file(id))
}

fn open(uploads: &Dir, id: &str) -> io::Result<Option<File>> {
    match uploads.open_with(id, OpenOptions::new().write(true)) {
        Ok(file) => Ok(Some(file.into_std())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Rejects ids that are not ours, as they become the name of a file.
pub(super) fn check_id(id: &str) -> Result<()> {
    let is_valid = id.len() == ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_valid { Ok(()) } else { Err(Error::NoUpload) }
}

/// Removes uploads that have been silent for too long.
pub(super) fn sweep(uploads: &Dir) -> io::Result<()> {
    let now = SystemTime::now();
    for entry in uploads.entries()? {
        let entry = entry?;
        let modified = match entry.metadata() {
            Ok(metadata) => metadata.modified()?.into_std(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if now.duration_since(modified).is_ok_and(|age| age > MAX_AGE) {
            write::ignore_not_found(entry.remove_file())?;
        }
    }
    Ok(())
}
