//! Uploads through this server, for blob stores without a network address. Anyone with the
//! token of a URL may write that one blob. Data of an interrupted upload is discarded.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures::{Stream, StreamExt, stream};
use matyan_blob::{
    BlobKey, Blobs, Content, MultipartUploads, UploadGrant, UrlSigner,
    fs::{DiskSpace, FsBlobs},
};
use matyan_proto::{
    ingest::v1::{self as pb, upload_request::Message},
    limits,
};
use tonic::Status;

use crate::{
    convert::content_type_check,
    error::{Error, Result},
    metrics::UploadMetrics,
    project_names::KnownProjects,
    project_quota::{ProjectQuota, UploadRoom},
};

/// Uploads through this server.
#[derive(Clone)]
pub struct LocalUploads {
    /// Signer of the URLs.
    pub signer: UrlSigner,
    /// Store of the parts.
    pub parts: Arc<FsBlobs>,
}

impl LocalUploads {
    /// Returns why no upload is accepted while that many bytes must remain free, for readiness.
    pub async fn problem(&self, min_free_bytes: u64) -> Option<String> {
        match self.parts.disk_space().await {
            Ok(space) => check_space(space, min_free_bytes, 1).err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }
}

/// The blob store that clients upload to.
pub(crate) struct Uploads {
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) multipart: Arc<dyn MultipartUploads>,
    /// `None` if uploads bypass this server.
    pub(crate) local: Option<LocalUploads>,
    pub(crate) max_bytes: u64,
    pub(crate) free_space: Arc<FreeSpace>,
    pub(crate) quota: ProjectQuota,
    pub(crate) metrics: UploadMetrics,
}

pub(crate) async fn upload(
    uploads: &Uploads,
    projects: &KnownProjects,
    mut requests: impl Stream<Item = Result<pb::UploadRequest, Status>> + Send + Unpin + 'static,
) -> Result<pb::UploadResponse> {
    let local = uploads.local.as_ref().ok_or(Error::NoUploads)?;
    let open = open(requests.next().await)?;
    let key = BlobKey::new(open.key)?;
    content_type_check(&open.content_type).map_err(|reason| Error::field("content_type", reason))?;
    let grant = local.signer.verify(&key, &open.token)?;
    projects.check(key.project()).await?;
    let limit = match &grant {
        UploadGrant::Blob => uploads.max_bytes,
        UploadGrant::Part { length, .. } => *length,
    };
    if open.content_length.is_some_and(|length| length > limit) {
        return Err(Error::UploadTooLarge { limit });
    }
    let disk = Disk { blobs: local.parts.clone(), free_space: uploads.free_space.clone(), unchecked: 0 };
    disk.check(open.content_length.unwrap_or_default()).await?;

    // A part belongs to an upload that was checked as a whole.
    let room = match &grant {
        UploadGrant::Blob => {
            let bytes = open.content_length.unwrap_or_default();
            Some(uploads.quota.reserve(key.project(), bytes).await?)
        }
        UploadGrant::Part { .. } => None,
    };
    let room = Arc::new(Mutex::new(room));

    let failure = Arc::new(OnceLock::new());
    let needs_done = open.content_length.is_none();
    let chunks = Chunks { requests, needs_done, left: limit, limit, disk, room: room.clone() };
    let content = content(chunks, failure.clone());
    // The client's mistake is a better explanation than the resulting error of the blob
    // store.
    let explain = |error: matyan_blob::Error| failure.get().cloned().unwrap_or_else(|| error.into());
    let response = match grant {
        UploadGrant::Blob => {
            let put = uploads.blobs.put(&key, &open.content_type, open.content_length, content).await;
            uploads.metrics.uploads.inc_by(u64::from(put.is_ok()));
            let size = put.map_err(explain)?;
            if let Some(room) = room.lock().unwrap_or_else(PoisonError::into_inner).take() {
                room.keep(size);
            }
            pb::UploadResponse { size, etag: String::new() }
        }
        UploadGrant::Part { upload, offset, length } => {
            let put = local.parts.put_part(&key, &upload, offset, length, content).await;
            pb::UploadResponse { size: length, etag: put.map_err(explain)? }
        }
    };
    uploads.metrics.bytes.inc_by(response.size);
    Ok(response)
}

fn open(first: Option<Result<pb::UploadRequest, Status>>) -> Result<pb::UploadOpen> {
    match first {
        Some(Ok(pb::UploadRequest { message: Some(Message::Open(open)) })) => Ok(open),
        _ => Err(Error::field("open", "must be the first message")),
    }
}

/// The remaining chunks of an upload.
struct Chunks<R> {
    requests: R,
    needs_done: bool,
    /// Number of bytes that may still arrive.
    left: u64,
    limit: u64,
    disk: Disk,
    room: Arc<Mutex<Option<UploadRoom>>>,
}

/// The space that uploads leave free on the disk, which the log and the store may share, and whether
/// they are refused because of it. The log says once when that begins, and once when it ends.
pub(crate) struct FreeSpace {
    pub(crate) min_bytes: u64,
    /// While uploads are refused: the free space at which all of the refused ones would be accepted.
    needed: Mutex<Option<u64>>,
}

impl FreeSpace {
    pub(crate) fn new(min_bytes: u64) -> Self {
        Self { min_bytes, needed: Mutex::new(None) }
    }

    /// Checks that enough remains free after more bytes, and logs a change.
    fn check(&self, space: DiskSpace, more: u64) -> Result<()> {
        let outcome = check_space(space, self.min_bytes, more);
        let own = reserve(space, self.min_bytes).saturating_add(more);
        let mut needed = self.needed.lock().unwrap_or_else(PoisonError::into_inner);
        match (&outcome, *needed) {
            (Err(error), None) => {
                tracing::warn!(%error, "refusing uploads: the disk is nearly full; free some space");
                *needed = Some(own);
            }
            (Err(_), Some(known)) => *needed = Some(known.max(own)),
            // A smaller upload may fit while the one that was refused does not.
            (Ok(()), Some(known)) if space.free >= known => {
                tracing::info!(free = space.free, "accepting uploads again: the disk has enough space");
                *needed = None;
            }
            (Ok(()), _) => {}
        }
        outcome
    }
}

/// Checks that `min_bytes` remain free after more bytes.
fn check_space(space: DiskSpace, min_bytes: u64, more: u64) -> Result<()> {
    let wanted = reserve(space, min_bytes);
    match space.free < wanted.saturating_add(more) {
        true => Err(Error::DiskFull { free: space.free, wanted }),
        false => Ok(()),
    }
}

/// The space that remains free. On a small disk, the default would leave no room for anything.
fn reserve(space: DiskSpace, min_bytes: u64) -> u64 {
    min_bytes.min(space.total / 10)
}

/// Number of bytes after which the disk is checked again: other uploads fill it, too.
const CHECKED_BYTES: u64 = 64 << 20;

/// The disk that uploads are written to.
struct Disk {
    blobs: Arc<FsBlobs>,
    free_space: Arc<FreeSpace>,
    /// Number of bytes since the last check.
    unchecked: u64,
}

impl Disk {
    /// Checks that enough remains free after more bytes.
    async fn check(&self, more: u64) -> Result<()> {
        self.free_space.check(self.blobs.disk_space().await?, more)
    }

    async fn count(&mut self, bytes: u64) -> Result<()> {
        self.unchecked += bytes;
        if self.unchecked < CHECKED_BYTES {
            return Ok(());
        }
        self.unchecked = 0;
        self.check(0).await
    }
}

/// Converts the chunks to a content stream. A client error is stored in `failure`, and ends the
/// content with an error.
fn content<R>(chunks: Chunks<R>, failure: Arc<OnceLock<Error>>) -> Content
where
    R: Stream<Item = Result<pb::UploadRequest, Status>> + Send + Unpin + 'static,
{
    let chunks = stream::unfold(Some(chunks), move |chunks| {
        let failure = failure.clone();
        async move {
            let mut chunks = chunks?;
            match chunks.next().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(chunks))),
                Ok(None) => None,
                Err(error) => {
                    let reason = error.to_string();
                    failure.get_or_init(|| error);
                    Some((Err(matyan_blob::Error::unavailable(reason)), None))
                }
            }
        }
    });
    chunks.boxed()
}

impl<R: Stream<Item = Result<pb::UploadRequest, Status>> + Unpin> Chunks<R> {
    /// Returns the next chunk; `None` at the end of a complete upload.
    async fn next(&mut self) -> Result<Option<bytes::Bytes>> {
        let chunk = chunk(self.requests.next().await, self.needs_done)?;
        let size = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        self.left = self.left.checked_sub(size).ok_or(Error::UploadTooLarge { limit: self.limit })?;
        self.disk.count(size).await?;
        if let Some(room) = self.room.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            room.grow_to(self.limit - self.left)?;
        }
        Ok(chunk)
    }
}

fn chunk(
    request: Option<Result<pb::UploadRequest, Status>>,
    needs_done: bool,
) -> Result<Option<bytes::Bytes>> {
    match request {
        Some(Ok(request)) => match request.message {
            Some(Message::Chunk(chunk)) if chunk.len() <= limits::CHUNK_BYTES => Ok(Some(chunk)),
            Some(Message::Chunk(chunk)) => {
                Err(Error::TooLarge { field: "chunk", size: chunk.len(), limit: limits::CHUNK_BYTES })
            }
            Some(Message::Done(true)) => Ok(None),
            Some(Message::Done(false) | Message::Open(_)) | None => {
                Err(Error::field("message", "is neither a chunk nor the end mark"))
            }
        },
        None if needs_done => {
            Err(Error::UploadIncomplete("the upload ended without an end mark or a content length".into()))
        }
        None => Ok(None),
        Some(Err(_)) => Err(Error::UploadIncomplete("the upload was interrupted".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_are_refused_until_the_one_that_was_refused_fits() {
        let space = FreeSpace::new(100);
        let with = |free| DiskSpace { free, total: 10_000 };
        let is_refusing = || space.needed.lock().unwrap().is_some();
        let check = |free, more, is_accepted, is_refusing_after| {
            assert_eq!(space.check(with(free), more).is_ok(), is_accepted, "{free} {more}");
            assert_eq!(is_refusing(), is_refusing_after, "{free} {more}");
        };
        check(200, 100, true, false);
        check(150, 100, false, true);
        check(150, 10, true, true);
        check(200, 10, true, false);
        assert!(check_space(with(100), 100, 1).is_err());
        assert!(check_space(with(101), 100, 1).is_ok());
    }
}
