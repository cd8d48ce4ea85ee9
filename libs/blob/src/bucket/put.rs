//! Puts a blob in one request, or as a multipart upload if it is large.

use super::{
    Bucket,
    abandoned_uploads::{AbandonedUploads, OpenUpload},
    part_splitter::{Part, PartSplitter},
};
use crate::{BlobKey, Content, Result};

/// Above the minimum of S3 and a multiple of the granularity of GCS, yet small enough that an
/// upload can hold several in memory.
pub(super) const PART_BYTES: usize = 8 << 20;

/// Limit of S3.
const MAX_PARTS: u64 = 10_000;

/// Returns `PART_BYTES`, or a multiple of it for a blob that would otherwise have too many parts.
fn part_size(size: Option<u64>) -> usize {
    let parts = size.unwrap_or(0).div_ceil(MAX_PARTS * PART_BYTES as u64).max(1);
    PART_BYTES * usize::try_from(parts).unwrap_or(1)
}

pub(super) async fn put<B: Bucket>(
    bucket: &B,
    abandoned: &AbandonedUploads,
    key: &BlobKey,
    content_type: &str,
    size: Option<u64>,
    content: Content,
) -> Result<u64> {
    let mut splitter = PartSplitter::new(content, part_size(size), size);
    let mut part = match splitter.next().await? {
        Part::Last(whole) => {
            bucket.put(key, content_type, whole).await?;
            return Ok(splitter.received());
        }
        Part::Full(first) => first,
    };
    let parts = bucket.put_parts(key, content_type).await?;
    // From here on, an error or cancellation leaves the upload to `abandoned`.
    let mut open = OpenUpload::new(parts, abandoned);
    loop {
        open.parts().put(part).await?;
        part = match splitter.next().await? {
            Part::Full(next) => next,
            Part::Last(last) => {
                open.parts().finish(last).await?;
                open.end();
                return Ok(splitter.received());
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_blob_has_too_many_parts() {
        for size in [0, 1, PART_BYTES as u64, 80 << 30, 90 << 30, 5 << 40] {
            assert!(size.div_ceil(part_size(Some(size)) as u64) <= MAX_PARTS, "{size}");
        }
        assert_eq!(part_size(None), PART_BYTES);
    }
}
