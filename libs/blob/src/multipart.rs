//! Uploads of large blobs in parts, which clients send directly to the store. An interruption
//! costs one part instead of the whole blob, and parts can be sent at the same time.
//!
//! No state is kept between the calls: a client describes its upload in each call, and the store
//! adds only the id from `begin`.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{BlobKey, Blobs, Error, PresignedUpload, Result};

/// Smallest size of a part. Large enough that the requests around it are negligible, small enough
/// that repeating one after an interruption is cheap.
const MIN_PART_BYTES: u64 = 32 << 20;

/// Limit of S3.
const MAX_PARTS: u64 = 10_000;

/// Limit of S3 for a blob.
pub const MAX_UPLOAD_BYTES: u64 = 5 << 40;

/// Longest id of an upload. The ids of Google and Amazon have some hundred bytes.
pub const UPLOAD_ID_BYTES: usize = 1_024;

/// An upload in parts, described by its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultipartUpload {
    pub key: BlobKey,
    /// The id that `begin` returned.
    pub id: String,
    pub content_type: String,
    /// Size of the whole blob in bytes, greater than zero.
    pub size: u64,
}

/// One part of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// From one.
    pub number: u32,
    pub offset: u64,
    pub length: u64,
}

impl MultipartUpload {
    pub fn part_count(&self) -> u32 {
        u32::try_from(self.size.div_ceil(part_bytes(self.size))).unwrap_or(u32::MAX)
    }

    /// Returns a part by its number; `None` if the upload has no such part.
    pub fn part(&self, number: u32) -> Option<Part> {
        let offset = u64::from(number.checked_sub(1)?).checked_mul(part_bytes(self.size))?;
        let left = self.size.checked_sub(offset).filter(|left| *left > 0)?;
        Some(Part { number, offset, length: left.min(part_bytes(self.size)) })
    }

    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        (1..).map_while(|number| self.part(number))
    }
}

/// Returns the size of every part but the last: a power of two, so that clients can combine hashes
/// of parts (BLAKE3) into the hash of the blob.
pub fn part_bytes(size: u64) -> u64 {
    let mut bytes = MIN_PART_BYTES;
    while size.div_ceil(bytes) > MAX_PARTS {
        bytes *= 2;
    }
    bytes
}

/// Guarantees, each the name of a conformance case:
///
/// 1. *invisible*: nothing of an upload is visible before `complete`, or after `abort`.
/// 2. *any order*: parts may be sent in any order, at the same time, and repeatedly, unless
///    `is_sequential`.
/// 3. *complete*: `complete` fails if any part is missing, and the blob is durable after it.
/// 4. *url*: the URL of a part works for that part only, until it expires.
#[async_trait]
pub trait MultipartUploads: Send + Sync + 'static {
    /// Whether parts have to be sent one after another, in order.
    fn is_sequential(&self) -> bool;

    /// Starts an upload and returns its id.
    async fn begin(&self, key: &BlobKey, content_type: &str, size: u64) -> Result<String>;

    /// Returns a URL for one PUT of this part. Google confirms all parts but the last with the
    /// status 308.
    async fn presign_part(&self, upload: &MultipartUpload, part: &Part) -> Result<PresignedUpload>;

    /// Makes the blob visible. `etags` come from the responses to the parts, in order; empty where
    /// a response had none.
    async fn complete(&self, upload: &MultipartUpload, etags: &[String]) -> Result<()>;

    /// Discards the upload. Does nothing if it does not exist any more. A directory and S3 do not discard the
    /// upload of another key; the id of an upload to Google is a secret, like the URLs of its parts.
    async fn abort(&self, upload: &MultipartUpload) -> Result<()>;
}

/// A bucket, with uploads in parts.
#[derive(Clone)]
pub struct OpenBucket {
    pub blobs: Arc<dyn Blobs>,
    pub multipart: Arc<dyn MultipartUploads>,
}

/// Returns an id for stores that have no own.
pub(crate) fn new_id() -> Result<String> {
    let mut bytes = [0; 16];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Ok(format!("{:032x}", u128::from_be_bytes(bytes))),
        Err(error) => Err(Error::unavailable(format!("the system returned no random bytes: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(size: u64) -> MultipartUpload {
        let key = BlobKey::new("run/x").unwrap();
        MultipartUpload { key, id: "id".to_owned(), content_type: String::new(), size }
    }

    fn check(size: u64) {
        let upload = upload(size);
        let parts: Vec<_> = upload.parts().collect();
        assert!(parts.len() as u64 <= MAX_PARTS, "{size}");
        assert_eq!(parts.len() as u32, upload.part_count(), "{size}");
        let mut end = 0;
        for (index, part) in parts.iter().enumerate() {
            assert_eq!((part.number as usize, part.offset), (index + 1, end), "{size}");
            end += part.length;
        }
        assert_eq!(end, size);
    }

    #[test]
    fn parts_cover_a_blob_exactly() {
        for size in [1, MIN_PART_BYTES - 1, MIN_PART_BYTES, MIN_PART_BYTES + 1] {
            check(size);
        }
        for size in [MIN_PART_BYTES * MAX_PARTS, MIN_PART_BYTES * MAX_PARTS + 1, MAX_UPLOAD_BYTES] {
            check(size);
        }
    }

    #[test]
    fn parts_outside_of_a_blob_do_not_exist() {
        let upload = upload(MIN_PART_BYTES);
        assert!(upload.part(1).is_some());
        assert_eq!([0, 2, u32::MAX].map(|number| upload.part(number)), [None; 3]);
    }
}
