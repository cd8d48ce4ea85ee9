//! Uploads through this server: with the token of a URL, for blob stores without a network address, or of
//! an artifact by its path, for any blob store. Anyone with the token of a URL may write that one blob. Data of
//! an interrupted upload is discarded.

use std::sync::{Arc, OnceLock};

use futures::{Stream, StreamExt, stream};
use matyan_blob::{
    BlobKey, Blobs, Content, LimitedBlobs, UnsizedUploads, UploadGrant, UrlSigner, within_idle_limit,
};
use matyan_proto::{
    ingest::v1::{self as pb, upload_request::Message},
    limits,
};
use tonic::Status;

use crate::{
    convert::{Caller, UploadTarget},
    error::{Error, Result},
    field_checks::content_type_check,
    metrics::UploadMetrics,
    project_lookup::KnownProjects,
};

/// The blob store that clients upload to.
pub(crate) struct Uploads {
    pub(crate) blobs: Arc<LimitedBlobs>,
    pub(crate) unsized_uploads: UnsizedUploads,
    /// Signer of the URLs of uploads through this server; `None` if uploads bypass it.
    pub(crate) signer: Option<UrlSigner>,
    pub(crate) metrics: UploadMetrics,
}

pub(crate) async fn upload(
    uploads: &Uploads,
    projects: &KnownProjects,
    mut requests: impl Stream<Item = Result<pb::UploadRequest, Status>> + Send + Unpin + 'static,
) -> Result<pb::UploadResponse> {
    let signer = uploads.signer.as_ref().ok_or(Error::NoUploads)?;
    let open = open(within_idle_limit(requests.next()).await?)?;
    let key = BlobKey::new(open.key)?;
    content_type_check(&open.content_type).map_err(|reason| Error::field("content_type", reason))?;
    let grant = signer.verify(&key, &open.token)?;
    projects.check(key.project()).await?;

    let failure = Arc::new(OnceLock::new());
    let needs_done = open.content_length.is_none();
    let content = content(Chunks { requests, needs_done }, failure.clone());
    // The client's mistake is a better explanation than the resulting error of the blob
    // store.
    let explain = |error: matyan_blob::Error| failure.get().cloned().unwrap_or_else(|| error.into());
    let response = match grant {
        UploadGrant::Blob { size } => {
            if let (Some(announced), Some(received)) = (size, open.content_length)
                && announced != received
            {
                return Err(matyan_blob::Error::WrongLength { announced, received }.into());
            }
            let size = size.or(open.content_length);
            let put = uploads.blobs.put(&key, &open.content_type, size, content).await;
            uploads.metrics.uploads.inc_by(u64::from(put.is_ok()));
            let size = put.map_err(explain)?;
            // Clients that send parts expect a tag of each. Without a tag, the blob is stored as well.
            let stored = uploads.blobs.describe(&key).await.unwrap_or_else(|error| {
                tracing::warn!(%key, %error, "failed to read the version of an upload");
                None
            });
            pb::UploadResponse { size, etag: stored.map(|meta| meta.version).unwrap_or_default() }
        }
        UploadGrant::Part { upload, offset, length } => {
            if let Some(announced) = open.content_length.filter(|announced| *announced > length) {
                return Err(matyan_blob::Error::WrongLength { announced: length, received: announced }.into());
            }
            let put = uploads.blobs.put_part(&key, &upload, offset, length, content).await;
            pb::UploadResponse { size: length, etag: put.map_err(explain)? }
        }
    };
    uploads.metrics.bytes.inc_by(response.size);
    Ok(response)
}

/// Stores an artifact of a run.
pub(crate) async fn store(
    uploads: &Uploads,
    caller: &Caller,
    mut requests: impl Stream<Item = Result<pb::StoreRequest, Status>> + Send + Unpin + 'static,
) -> Result<pb::StoreResponse> {
    let target = match within_idle_limit(requests.next()).await? {
        Some(Ok(pb::StoreRequest { message: Some(pb::store_request::Message::Open(open)) })) => {
            let pb::StoreOpen { run_id, artifact_path, content_type, size } = open;
            let target = pb::PresignRequest { run_id, artifact_path, content_type, size };
            UploadTarget::parse(caller, target)?
        }
        _ => return Err(Error::field("open", "must be the first message")),
    };
    let failure = Arc::new(OnceLock::new());
    let needs_done = target.size.is_none();
    let requests = requests.map(|request| request.map(upload_request));
    let content = content(Chunks { requests, needs_done }, failure.clone());
    let explain = |error: matyan_blob::Error| failure.get().cloned().unwrap_or_else(|| error.into());
    let put = uploads.blobs.put(&target.key, &target.content_type, target.size, content).await;
    uploads.metrics.uploads.inc_by(u64::from(put.is_ok()));
    let size = put.map_err(explain)?;
    uploads.metrics.bytes.inc_by(size);
    Ok(pb::StoreResponse { key: target.reference, size })
}

/// The same piece of an upload.
fn upload_request(request: pb::StoreRequest) -> pb::UploadRequest {
    let message = request.message.and_then(|message| match message {
        pb::store_request::Message::Chunk(chunk) => Some(Message::Chunk(chunk)),
        pb::store_request::Message::Done(done) => Some(Message::Done(done)),
        pb::store_request::Message::Open(_) => None,
    });
    pb::UploadRequest { message }
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
        chunk(self.requests.next().await, self.needs_done)
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
