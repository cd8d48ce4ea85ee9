//! Blobs in an object store bucket: the logic that S3, GCS and Azure share. Content is streamed
//! in parts of bounded size, several parts are in flight at the same time, and failed deletes
//! are retried.
//!
//! A blob that fits into one part is a single request. A larger one is a multipart upload,
//! which is invisible until it is finished. An abandoned upload is stored until it is
//! discarded, so it is remembered and discarded before the next put or a later one. A process
//! that dies leaves its uploads behind; a bucket rule that discards unfinished uploads is good
//! practice.

mod abandoned_uploads;
pub(crate) mod connect;
mod delete;
#[cfg(any(feature = "azure", feature = "gcs"))]
pub(crate) mod object_store_client;
mod part_splitter;
mod put;

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};

use crate::{
    BlobKey, BlobMeta, Blobs, Content, Error, ListedBlob, Listing, MAX_PAGE, MultipartUpload,
    MultipartUploads, OpenBucket, Part, PresignedUpload, Result, content_type,
};
use abandoned_uploads::AbandonedUploads;

/// Largest piece of content yielded to a reader.
const MAX_PIECE_BYTES: usize = 1 << 20;

/// One bucket, in terms of its service's API.
#[async_trait]
pub(crate) trait Bucket: Send + Sync + 'static {
    /// The URL is for content of this size, if there is one and the service signs sizes.
    async fn presign(&self, key: &BlobKey, size: Option<u64>, lifetime: Duration) -> Result<PresignedUpload>;

    /// The range is not empty. A range that starts past the end of the blob may be an
    /// error.
    async fn get(&self, key: &BlobKey, range: Option<Range<u64>>) -> Result<Option<(BlobMeta, Content)>>;

    async fn head(&self, key: &BlobKey) -> Result<Option<BlobMeta>>;

    async fn put(&self, key: &BlobKey, content_type: &str, content: Bytes) -> Result<()>;

    /// Starts a multipart upload of our own.
    async fn put_parts(&self, key: &BlobKey, content_type: &str) -> Result<Box<dyn PartUpload>>;

    /// Returns each key that still exists, with the reason. A missing key is not a failure.
    /// Makes a single attempt; the caller retries.
    async fn delete(&self, keys: &[BlobKey]) -> Vec<(BlobKey, Error)>;

    /// Returns the first `MAX_PAGE` blobs after `after`, or more.
    async fn list(&self, folder: &str, after: Option<&BlobKey>) -> Result<BucketPage>;

    /// Like `MultipartUploads::is_sequential`.
    const SEQUENTIAL_PARTS: bool;

    /// Like `MultipartUploads::begin`.
    async fn begin(&self, key: &BlobKey, content_type: &str, size: u64) -> Result<String>;

    async fn presign_part(
        &self,
        upload: &MultipartUpload,
        part: &Part,
        lifetime: Duration,
    ) -> Result<PresignedUpload>;

    /// Like `MultipartUploads::complete`. The caller checks the size of the blob afterward.
    async fn complete(&self, upload: &MultipartUpload, etags: &[String]) -> Result<()>;

    /// Whether a completed upload looks so old that it could be deleted before anything refers to
    /// it, because blobs without references are deleted by their date.
    fn took_too_long(&self, _completed: &BlobMeta) -> bool {
        false
    }

    /// Like `MultipartUploads::abort`.
    async fn abort(&self, upload: &MultipartUpload) -> Result<()>;
}

/// A multipart upload. Every part has `put::PART_BYTES` bytes except the last, which may be smaller
/// or empty.
#[async_trait]
pub(crate) trait PartUpload: Send {
    async fn put(&mut self, part: Bytes) -> Result<()>;

    async fn finish(&mut self, last: Bytes) -> Result<()>;

    async fn discard(&mut self) -> Result<()>;
}

/// One page of a listing, in key order.
#[derive(Debug, Default)]
pub(crate) struct BucketPage {
    pub(crate) blobs: Vec<(BlobKey, ListedBlob)>,
    /// Whether more blobs follow.
    pub(crate) more: bool,
}

pub(crate) struct BucketBlobs<B> {
    bucket: B,
    /// Validity of upload URLs.
    lifetime: Duration,
    abandoned: AbandonedUploads,
}

impl<B: Bucket> BucketBlobs<B> {
    pub(crate) fn new(bucket: B, lifetime: Duration) -> Self {
        Self { bucket, lifetime, abandoned: AbandonedUploads::default() }
    }
}

#[async_trait]
impl<B: Bucket> Blobs for BucketBlobs<B> {
    async fn presign(&self, key: &BlobKey, _: &str, size: Option<u64>) -> Result<PresignedUpload> {
        self.bucket.presign(key, size, self.lifetime).await
    }

    async fn put(
        &self,
        key: &BlobKey,
        content_type: &str,
        size: Option<u64>,
        content: Content,
    ) -> Result<u64> {
        content_type::check(content_type)?;
        // Uploads of earlier puts that could not be discarded at the time.
        self.abandoned.discard().await;
        let done = put::put(&self.bucket, &self.abandoned, key, content_type, size, content).await;
        // The upload of this put was remembered when it was dropped.
        if done.is_err() {
            self.abandoned.discard().await;
        }
        done
    }

    async fn read(&self, key: &BlobKey, range: Option<Range<u64>>) -> Result<Option<(BlobMeta, Content)>> {
        // A range over the whole blob needs no range request.
        let Some(range) = range.filter(|range| *range != (0..u64::MAX)) else {
            return Ok(self
                .bucket
                .get(key, None)
                .await?
                .map(|(meta, content)| (meta, split_pieces(content))));
        };
        let failure = if range.is_empty() {
            None
        } else {
            match self.bucket.get(key, Some(range.clone())).await {
                Ok(found) => return Ok(found.map(|(meta, content)| (meta, split_pieces(content)))),
                Err(error) => Some(error),
            }
        };
        // Stores refuse a range that starts past the end of the blob; here it is an
        // empty range.
        let Some(meta) = self.bucket.head(key).await? else { return Ok(None) };
        match failure {
            Some(error) if range.start < meta.size => Err(error),
            _ => Ok(Some((meta, stream::empty().boxed()))),
        }
    }

    async fn describe(&self, key: &BlobKey) -> Result<Option<BlobMeta>> {
        self.bucket.head(key).await
    }

    async fn delete(&self, keys: &[BlobKey]) -> Result<Vec<(BlobKey, Error)>> {
        Ok(delete::delete(&self.bucket, keys).await)
    }

    async fn list(&self, folder: &str, after: Option<&BlobKey>) -> Result<Listing> {
        // No key can start with an invalid folder name, so the folder is empty.
        if !folder.is_empty() && BlobKey::new(folder.strip_suffix('/').unwrap_or("")).is_err() {
            return Ok(Listing::default());
        }
        let BucketPage { mut blobs, mut more } = self.bucket.list(folder, after).await?;
        more |= blobs.len() > MAX_PAGE;
        blobs.truncate(MAX_PAGE);
        let next = blobs.last().filter(|_| more).map(|(key, _)| key.clone());
        Ok(Listing { blobs, next })
    }
}

impl<B: Bucket> From<BucketBlobs<B>> for OpenBucket {
    fn from(blobs: BucketBlobs<B>) -> Self {
        let blobs = Arc::new(blobs);
        Self { blobs: blobs.clone(), multipart: blobs }
    }
}

#[async_trait]
impl<B: Bucket> MultipartUploads for BucketBlobs<B> {
    fn is_sequential(&self) -> bool {
        B::SEQUENTIAL_PARTS
    }

    async fn begin(&self, key: &BlobKey, content_type: &str, size: u64) -> Result<String> {
        content_type::check(content_type)?;
        self.bucket.begin(key, content_type, size).await
    }

    async fn presign_part(&self, upload: &MultipartUpload, part: &Part) -> Result<PresignedUpload> {
        self.bucket.presign_part(upload, part, self.lifetime).await
    }

    async fn complete(&self, upload: &MultipartUpload, etags: &[String]) -> Result<()> {
        content_type::check(&upload.content_type)?;
        self.bucket.complete(upload, etags).await?;
        // Stores accept a list that omits parts at the end.
        let completed = self.bucket.head(&upload.key).await?;
        if completed.as_ref().is_some_and(|meta| self.bucket.took_too_long(meta)) {
            return Err(Error::NoUpload);
        }
        let stored = completed.map_or(0, |meta| meta.size);
        if stored != upload.size {
            let reason = format!("{stored} of {} bytes were stored", upload.size);
            return Err(Error::PartsMissing { reason });
        }
        Ok(())
    }

    async fn abort(&self, upload: &MultipartUpload) -> Result<()> {
        self.bucket.abort(upload).await
    }
}

fn split_pieces(content: Content) -> Content {
    content
        .flat_map(|piece| {
            let pieces: Vec<Result<Bytes>> = match piece {
                Err(error) => vec![Err(error)],
                Ok(mut rest) => {
                    let count = rest.len().div_ceil(MAX_PIECE_BYTES);
                    (0..count).map(|_| Ok(rest.split_to(rest.len().min(MAX_PIECE_BYTES)))).collect()
                }
            };
            stream::iter(pieces)
        })
        .boxed()
}
