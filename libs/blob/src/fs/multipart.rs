//! Files of uploads in parts: one for each upload, in which the parts are written in place. Every
//! function blocks; the caller chooses the thread.
//!
//! ```text
//! parts, sparse until they arrive | key, UTF-8 | size of the parts, u64 | length of the key, u16 | "open!"
//! ```
//!
//! The receipt of a part confirms that its bytes are durable, so completing an upload needs no other
//! record of the parts. Writers of parts lock the file together; completing locks it alone, so that
//! no late part changes a blob. Integers are big-endian. An id alone permits nothing,
//! because the URLs of parts contain it: writing a part, completing and aborting also need the key.
//! Uploads that an older version began have only their parts: they count for no project, take no more
//! parts, and expire like all others.

use std::{
    fs::{File, TryLockError},
    io,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, SystemTime},
};

use bytes::{Buf, BufMut, Bytes};
use cap_std::fs::{Dir, OpenOptions};

use super::write;
use crate::{BlobKey, Error, MultipartUpload, Result};

/// Age at which an upload that is neither completed nor written to is removed.
const MAX_AGE: Duration = Duration::from_hours(7 * 24);

/// Hexadecimal digits of an id.
const ID_DIGITS: usize = 32;

const MAGIC: &[u8; 5] = b"open!";

/// Length of the end of the file without the key.
const FIXED: usize = 8 + 2 + MAGIC.len();

/// Result of an attempt to complete an upload.
pub(super) enum Completion {
    Published,
    /// A part is still being written.
    InUse,
    /// The upload does not exist any more, or has another key.
    Missing,
}

/// Result of an attempt to open an upload for a part.
pub(super) enum OpenedPart {
    Open(File),
    /// The part would end after the upload.
    TooLong {
        size: u64,
    },
    /// The upload does not exist any more, is being completed, or has another key.
    Missing,
}

/// Creates the file of an upload.
pub(super) fn create(uploads: &Dir, id: &str, key: &BlobKey, size: u64) -> io::Result<()> {
    let file = uploads.open_with(id, OpenOptions::new().write(true).create_new(true))?.into_std();
    // Sparse: a file system that is too full reports it at the first part.
    file.write_all_at(&description(key, size), size)?;
    write::sync(uploads, Path::new(""))
}

/// The end of the file of an upload.
fn description(key: &BlobKey, size: u64) -> Vec<u8> {
    let key = key.as_str();
    let mut end = Vec::with_capacity(key.len() + FIXED);
    end.put_slice(key.as_bytes());
    end.put_u64(size);
    end.put_u16(u16::try_from(key.len()).expect("a blob key has at most 1,024 bytes"));
    end.put_slice(MAGIC);
    end
}

/// Reads the key and the size of an upload; `None` if an older version began it, or if it is being
/// completed.
pub(super) fn described(file: &File) -> io::Result<Option<(BlobKey, u64)>> {
    let file_size = file.metadata()?.len();
    let Some(fixed_at) = file_size.checked_sub(FIXED as u64) else { return Ok(None) };
    let mut fixed = [0; FIXED];
    if !read_at(file, &mut fixed, fixed_at)? {
        return Ok(None);
    }
    let mut fixed = &fixed[..];
    let size = fixed.get_u64();
    let length = fixed.get_u16();
    if fixed != MAGIC || size.checked_add(u64::from(length)) != Some(fixed_at) {
        return Ok(None);
    }
    let mut key = vec![0; length.into()];
    if !read_at(file, &mut key, size)? {
        return Ok(None);
    }
    let key = String::from_utf8(key).ok().and_then(|key| BlobKey::new(key).ok());
    Ok(key.map(|key| (key, size)))
}

/// Fills a buffer from a file; false if the file became shorter, because its upload is being completed.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
    match file.read_exact_at(buffer, offset) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens the file of the upload of a key to write a part that ends at this offset.
pub(super) fn open_part(uploads: &Dir, id: &str, key: &BlobKey, end: u64) -> io::Result<OpenedPart> {
    let Some(file) = open(uploads, id)? else { return Ok(OpenedPart::Missing) };
    // It may have been completed since it was opened.
    if file.try_lock_shared().is_err() || !uploads.exists(id) {
        return Ok(OpenedPart::Missing);
    }
    Ok(match described(&file)? {
        Some((begun_key, size)) if begun_key == *key && end > size => OpenedPart::TooLong { size },
        Some((begun_key, _)) if begun_key == *key => OpenedPart::Open(file),
        _ => OpenedPart::Missing,
    })
}

pub(super) fn write_at(file: &File, mut offset: u64, pieces: &[Bytes]) -> io::Result<()> {
    for piece in pieces {
        file.write_all_at(piece, offset)?;
        offset += piece.len() as u64;
    }
    Ok(())
}

/// Makes an upload of a key whose parts are durable a blob of this size.
pub(super) fn complete(
    uploads: &Dir,
    id: &str,
    key: &BlobKey,
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
    // After a failed attempt there is no description. Then the receipts of the parts show that this key is
    // the right one, because they are written only for the right key.
    if described(&file)?.is_some_and(|(begun_key, _)| begun_key != *key) {
        return Ok(Completion::Missing);
    }
    // Removes the description, or the trailer of an attempt that failed.
    file.set_len(size)?;
    file.write_all_at(trailer, size)?;
    file.sync_all()?;
    write::publish(uploads, id, data, path)?;
    Ok(Completion::Published)
}

/// Removes the upload of a key. Returns false if the upload has another key. An upload without a description is
/// left to expire, because it may belong to any key.
pub(super) fn abort(uploads: &Dir, id: &str, key: &BlobKey) -> io::Result<bool> {
    let Some(file) = open(uploads, id)? else { return Ok(true) };
    match described(&file)? {
        Some((begun_key, _)) if begun_key == *key => write::ignore_not_found(uploads.remove_file(id))?,
        Some(_) => return Ok(false),
        None => {}
    }
    Ok(true)
}

fn open(uploads: &Dir, id: &str) -> io::Result<Option<File>> {
    match uploads.open_with(id, OpenOptions::new().read(true).write(true)) {
        Ok(file) => Ok(Some(file.into_std())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Rejects ids in any other form, because an id becomes the name of a file.
pub(super) fn check_id(id: &str) -> Result<()> {
    let is_valid = id.len() == ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_valid { Ok(()) } else { Err(Error::NoUpload) }
}

/// Removes uploads that have been silent for too long, and returns the others, without their content
/// types.
pub(super) fn sweep(uploads: &Dir) -> io::Result<Vec<MultipartUpload>> {
    let now = SystemTime::now();
    let mut left = Vec::new();
    for entry in uploads.entries()? {
        let entry = entry?;
        let file = match entry.open() {
            Ok(file) => file.into_std(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if now.duration_since(file.metadata()?.modified()?).is_ok_and(|age| age > MAX_AGE) {
            write::ignore_not_found(entry.remove_file())?;
        } else if let Some((key, size)) = described(&file)? {
            let id = entry.file_name().to_string_lossy().into_owned();
            left.push(MultipartUpload { key, id, content_type: String::new(), size });
        }
    }
    Ok(left)
}
