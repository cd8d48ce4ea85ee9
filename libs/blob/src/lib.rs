//! Blobs: large objects behind a one-page trait, and the signed URLs that let their content
//! bypass our servers.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use futures::{StreamExt as _, TryStreamExt as _, stream};
//! use matyan_blob::{BlobKey, Blobs as _, Clock, UrlSigner, fs::FsBlobs};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let clock: Clock = Arc::new(|| 1_767_225_600_000_000);
//! let signer = UrlSigner::new(b"secret", Duration::from_secs(3600), clock.clone());
//! let blobs = FsBlobs::open(directory.path(), signer, clock)?;
//!
//! let key = BlobKey::new("run-1/model.bin")?;
//! let content = stream::once(async { Ok("weights".into()) }).boxed();
//! assert_eq!(blobs.put(&key, "application/octet-stream", None, content).await?, 7);
//! let (meta, content) = blobs.read(&key, Some(0..3)).await?.expect("it was just written");
//! assert_eq!(meta.size, 7);
//! assert_eq!(content.try_collect::<Vec<_>>().await?.concat(), b"wei");
//! assert!(blobs.presign(&key, "", Some(7)).await?.url.contains("signature="));
//! # Ok(())
//! # }
//! ```

#[cfg(any(feature = "azure", feature = "gcs", feature = "s3"))]
mod bucket;
mod bucket_creation;
mod cloud;
mod content_type;
mod error;
mod health;
mod key;
mod key_layout;
mod multipart;
mod signer;
mod upload_limits;

#[cfg(feature = "azure")]
pub mod azure;
pub mod cloud_settings;
pub mod fs;
#[cfg(feature = "gcs")]
pub mod gcs;
#[cfg(feature = "faults")]
pub mod layers;
#[cfg(feature = "s3")]
pub mod s3;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use bucket_creation::BucketCreation;
pub use cloud::Cloud;
pub use error::{Error, Result};
pub use health::probe;
pub use key::BlobKey;
pub use key_layout::{RunFolder, is_reserved_path, is_valid_folder_name, other_projects_end, project_folder};
pub use multipart::{
    MAX_UPLOAD_BYTES, MultipartUpload, MultipartUploads, OpenBucket, Part, UPLOAD_ID_BYTES, part_bytes,
};
pub use signer::{Clock, UPLOAD_PATH, UploadGrant, UrlSigner};
pub use upload_limits::{
    LimitReached, LimitedBlobs, MAX_UNSIZED_PARTS, UnsizedUpload, UnsizedUploads, UploadLimits,
    within_idle_limit,
};

use std::{ops::Range, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

/// Most blobs in one page of a listing: the limit of S3.
pub const MAX_PAGE: usize = 1_000;

/// Content of a blob as a stream of pieces of at most 1 MiB.
pub type Content = BoxStream<'static, Result<Bytes>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresignedUpload {
    pub url: String,
    /// Headers that the PUT must carry in addition to Content-Type.
    pub headers: Vec<(String, String)>,
    pub expires: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobMeta {
    pub size: u64,
    /// If the uploader gave none, the store's default type or an empty string.
    pub content_type: String,
    /// Microseconds since the Unix epoch; many stores have a precision of one second.
    pub modified_us: i64,
    /// Differs if the content was replaced by another. Any text; empty if the store reports none.
    pub version: String,
}

/// Metadata of a blob in a listing, without the content type, which S3 omits there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedBlob {
    pub size: u64,
    pub modified_us: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Ascending by key.
    pub blobs: Vec<(BlobKey, ListedBlob)>,
    /// Pass this as `after` for the next page; `None` at the end.
    pub next: Option<BlobKey>,
}

/// Guarantees, each the name of a conformance case:
///
/// 1. *whole*: a blob is visible completely or not at all; readers of a replaced blob see the
///    old or the new one, never a mix.
/// 2. *durable*: what `put` or an upload by URL has acknowledged survives kill -9 and power
///    loss.
/// 3. *url*: an upload URL works for its key only, until it expires, with or without a
///    Content-Type. If its size was given, it works for content of that size only, unless the
///    store signs no sizes.
/// 4. *range*: `read` returns exactly the requested bytes, truncated at the end of the blob.
/// 5. *absent*: reading or describing a missing blob returns `None`; deleting it succeeds.
/// 6. *list*: every blob below the folder that exists throughout the listing is listed once, in
///    key order.
/// 7. *safe keys*: no key reaches anything outside the store.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// Returns a URL for one PUT of this blob. `size` is the size of the content, if the client knows it.
    async fn presign(&self, key: &BlobKey, content_type: &str, size: Option<u64>) -> Result<PresignedUpload>;

    /// Writes a blob through this process and returns its size. If `size` is given, the
    /// content must have that length.
    async fn put(
        &self,
        key: &BlobKey,
        content_type: &str,
        size: Option<u64>,
        content: Content,
    ) -> Result<u64>;

    /// Returns the requested range of a blob (`None`: all of it) with its metadata, or
    /// `None` if the blob does not exist.
    async fn read(&self, key: &BlobKey, range: Option<Range<u64>>) -> Result<Option<(BlobMeta, Content)>>;

    async fn describe(&self, key: &BlobKey) -> Result<Option<BlobMeta>>;

    /// Deletes these blobs. Returns the keys that could not be deleted, each with the
    /// reason.
    async fn delete(&self, keys: &[BlobKey]) -> Result<Vec<(BlobKey, Error)>>;

    /// Returns one page, of at most `MAX_PAGE`, of the blobs below a folder (empty, or with
    /// a trailing slash) with keys greater than `after`.
    async fn list(&self, folder: &str, after: Option<&BlobKey>) -> Result<Listing>;
}
