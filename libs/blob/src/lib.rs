//! BLOBS: large objects behind one page of trait, and the signed URLs that carry them past our servers.

mod bucket;
mod cloud;
mod content_type;
mod error;
mod health;
mod key;
mod place;
mod signer;

pub mod azure;
pub mod fs;
pub mod gcs;
pub mod layers;
pub mod s3;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use bucket::Created;
pub use cloud::Cloud;
pub use error::Error;
pub use health::probe;
pub use key::BlobKey;
pub use place::{RunFolder, is_folder, is_reserved};
pub use signer::{Clock, UPLOAD_PATH, UrlSigner};

use std::{ops::Range, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The most blobs that one page of a listing holds: the limit of S3.
pub const MAX_PAGE: usize = 1_000;

/// Bytes of a blob as they come, in pieces of at most 1 MiB.
pub type Content = BoxStream<'static, Result<Bytes>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    pub url: String,
    /// Headers that the PUT must carry besides Content-Type.
    pub headers: Vec<(String, String)>,
    pub expires: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    pub size: u64,
    /// Where the uploader gave none, whatever the store calls that, or nothing.
    pub content_type: String,
    /// Microseconds since the Unix epoch; many stores tell whole seconds.
    pub modified_us: i64,
}

/// What a listing tells of a blob: S3 tells no content type there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    pub size: u64,
    pub modified_us: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Ascending by key.
    pub blobs: Vec<(BlobKey, Listed)>,
    /// What the next page comes behind; `None` at the end.
    pub next: Option<BlobKey>,
}

/// Guarantees, each the name of a conformance case:
///
/// 1. *whole*: a blob is seen complete or not at all; a replaced one is seen old or new, never mixed.
/// 2. *durable*: what `put` or an upload by URL has answered survives kill -9 and power loss.
/// 3. *url*: an upload URL works for its key alone, until it expires, with or without a Content-Type.
/// 4. *range*: `read` gives exactly the asked bytes, cut at the end of the blob.
/// 5. *absent*: reading or describing what is not there answers `None`; deleting it succeeds.
/// 6. *list*: every blob below the folder that existed all the while is listed once, in key order.
/// 7. *safe keys*: no key reaches anything outside the store.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// A URL for one PUT of this blob.
    async fn presign(&self, key: &BlobKey, content_type: &str) -> Result<Upload>;

    /// Writes a blob through this process, and answers how large it is. A `size` that is told is checked.
    async fn put(
        &self,
        key: &BlobKey,
        content_type: &str,
        size: Option<u64>,
        content: Content,
    ) -> Result<u64>;

    /// The asked range of a blob (`None`: all of it) with its description, or `None` if it is not there.
    async fn read(&self, key: &BlobKey, range: Option<Range<u64>>) -> Result<Option<(Meta, Content)>>;

    async fn describe(&self, key: &BlobKey) -> Result<Option<Meta>>;

    /// Deletes these; those that could not be deleted come back with the reason.
    async fn delete(&self, keys: &[BlobKey]) -> Result<Vec<(BlobKey, Error)>>;

    /// One page, of at most `MAX_PAGE`, of the blobs below a folder (empty, or with a slash at its end) that come behind
    /// `after`.
    async fn list(&self, folder: &str, after: Option<&BlobKey>) -> Result<Listing>;
}
