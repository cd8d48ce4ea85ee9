//! Blobs of a run: everything in its folder except offloaded payloads, which travel with their
//! objects.

use std::{
    collections::BTreeMap,
    future::ready,
    sync::{Arc, OnceLock},
};

use futures::{StreamExt, TryStreamExt, stream};
use matyan_blob::{BlobKey, Content, RunFolder, is_reserved_path, within_idle_limit};
use matyan_model::ids::{Project, RunId};
use matyan_proto::{
    backup::v1::{self as pb, lost_blob::What, piece::Content as Piece},
    limits,
};
use matyan_store::Store;
use tonic::Streaming;

use super::stage::{self, OpenRestore};
use crate::server::{
    call::Call,
    convert::check_limit,
    deps::Deps,
    error::{Error, Result},
    stream::{Sender, StreamEnd},
};

/// More than any object store accepts as one blob.
const MAX_BYTES: u64 = 5 << 40;

/// Concurrent lookups of blobs, which hide the latency of a remote store.
const CONCURRENT_LOOKUPS: usize = 16;

/// One page of a run's blobs, and the key the next page starts after. Listings contain no
/// content types.
pub(super) async fn list(
    deps: &Deps,
    project_name: &str,
    id: &RunId,
    from: Option<&BlobKey>,
) -> Result<(Vec<pb::Blob>, Option<BlobKey>)> {
    let folder = RunFolder::new(project_name, id.as_str())?;
    let page = deps.blobs.list(folder.prefix(), from).await?;
    let mut found = Vec::with_capacity(page.blobs.len());
    for (key, listed) in page.blobs {
        let path = key.as_str().strip_prefix(folder.prefix());
        let Some(path) = path.filter(|path| !is_reserved_path(path)) else { continue };
        found.push(pb::Blob { path: path.to_owned(), size: listed.size, content_type: String::new() });
    }
    Ok((found, page.next))
}

/// Artifacts whose blobs have not been listed yet, by expected key.
pub(super) struct UnlistedBlobs {
    folder: RunFolder,
    project_name: String,
    lost: BTreeMap<String, pb::LostBlob>,
}

impl UnlistedBlobs {
    pub(super) fn new(project_name: &str, id: &RunId, pieces: &[pb::Piece]) -> Result<Self> {
        let lost = pieces.iter().filter_map(|piece| {
            let Some(Piece::Artifact(artifact)) = &piece.content else { return None };
            let lost = pb::LostBlob {
                blob_key: artifact.blob_key.clone(),
                what: Some(What::Artifact(artifact.path.clone())),
            };
            let key = BlobKey::in_project(project_name, &artifact.blob_key);
            Some((key.map_or_else(|_| artifact.blob_key.clone(), |key| key.to_string()), lost))
        });
        let folder = RunFolder::new(project_name, id.as_str())?;
        Ok(Self { folder, project_name: project_name.to_owned(), lost: lost.collect() })
    }

    pub(super) fn remove_listed(&mut self, blobs: &[pb::Blob]) {
        for blob in blobs {
            self.lost.remove(&format!("{}{}", self.folder.prefix(), blob.path));
        }
    }

    /// The blobs that do not exist anywhere: some blobs may be in a folder other than the listed one.
    pub(super) async fn into_lost(self, deps: &Deps) -> Result<Vec<pb::LostBlob>> {
        let project_name = self.project_name.as_str();
        let lookups = self.lost.into_values().map(|blob| async move {
            let exists = match BlobKey::in_project(project_name, &blob.blob_key) {
                Ok(key) => deps.blobs.describe(&key).await?.is_some(),
                // An invalid key cannot refer to a blob.
                Err(_) => false,
            };
            Ok::<_, Error>((!exists).then_some(blob))
        });
        let lookups = stream::iter(lookups).buffered(CONCURRENT_LOOKUPS);
        lookups.try_filter_map(|lost| ready(Ok(lost))).try_collect().await
    }
}

fn blob_key(call: &Call, id: &RunId, path: &str) -> Result<BlobKey> {
    check_limit("blob.path", path.len(), limits::ARTIFACT_PATH_BYTES)?;
    let folder = RunFolder::new(&call.project_name, id.as_str())?;
    let key = BlobKey::new(format!("{}{path}", folder.prefix()));
    key.map_err(|error| Error::field("blob.path", error.to_string()))
}

pub(super) async fn open(
    deps: &Deps,
    call: &Call,
    request: &pb::ReadBlobRequest,
) -> Result<(pb::Blob, Content)> {
    let found = deps.find_kept_run(call, &request.run_id).await?;
    drop(found);
    let key = blob_key(call, &RunId::new(request.run_id.as_str()), &request.path)?;
    let read = deps.blobs.read(&key, None).await?;
    let (meta, content) = read.ok_or_else(|| Error::not_found("blob", &request.path))?;
    let blob = pb::Blob { path: request.path.clone(), content_type: meta.content_type, size: meta.size };
    Ok((blob, content))
}

pub(super) async fn send(
    blob: pb::Blob,
    mut content: Content,
    sender: &Sender<pb::ReadBlobResponse>,
) -> Result<(), StreamEnd> {
    sender.send(pb::ReadBlobResponse { blob: Some(blob), ..Default::default() }).await?;
    while let Some(chunk) = content.next().await {
        sender.send(pb::ReadBlobResponse { blob: None, chunk: chunk? }).await?;
    }
    Ok(())
}

/// Writes a blob and advances the position of the restore. A blob that was already written is
/// not received again.
pub(super) async fn write(
    deps: &Deps,
    call: &Call,
    mut requests: Streaming<pb::WriteBlobRequest>,
) -> Result<u64> {
    let first = within_idle_limit(requests.message())
        .await?
        .map_err(|status| Error::UploadIncomplete(status.message().to_owned()))?;
    let first = first.ok_or_else(|| Error::field("blob", "is missing: send it in the first message"))?;
    let blob = first.blob.ok_or_else(|| Error::field("blob", "is missing: send it in the first message"))?;
    if blob.size > MAX_BYTES {
        return Err(Error::field("blob.size", format!("is over the limit of {MAX_BYTES} bytes")));
    }
    check_limit("blob.content_type", blob.content_type.len(), limits::CONTENT_TYPE_BYTES)?;
    let open = stage::open(deps, call, &first.run_id, &first.source).await?;
    let key = blob_key(call, &open.id, &blob.path)?;
    // An earlier call has stored this blob.
    if first.position <= open.position {
        return Ok(open.position);
    }
    let failure = Arc::new(OnceLock::new());
    let content = content(first.chunk, requests, failure.clone());
    let content =
        hold_last_chunk(content, blob.size, (deps.store.clone(), call.project, &open), failure.clone());
    let put = deps.blobs.put(&key, &blob.content_type, Some(blob.size), content).await;
    // An error of the content stream comes back as one of the blob store; report the
    // original.
    put.map_err(|error| failure.get().cloned().unwrap_or_else(|| put_error(error)))?;
    open.advance(deps, call, first.position).await
}

fn put_error(error: matyan_blob::Error) -> Error {
    match error {
        matyan_blob::Error::WrongLength { .. } => Error::UploadIncomplete(error.to_string()),
        matyan_blob::Error::BadContentType { .. } => Error::field("blob.content_type", error.to_string()),
        other => other.into(),
    }
}

/// The chunks from the first message on. An error caused by the client is stored in `failure`.
fn content(
    first: bytes::Bytes,
    requests: Streaming<pb::WriteBlobRequest>,
    failure: Arc<OnceLock<Error>>,
) -> Content {
    let rest = requests.map(move |request| {
        let chunk = match request {
            Ok(request) => check_chunk(request.chunk),
            Err(status) => Err(Error::UploadIncomplete(status.message().to_owned())),
        };
        chunk.map_err(|error| {
            let reason = error.to_string();
            failure.get_or_init(|| error);
            matyan_blob::Error::unavailable(reason)
        })
    });
    let first = (!first.is_empty()).then_some(Ok(first));
    stream::iter(first).chain(rest).boxed()
}

/// Holds back the last chunk until the run id is confirmed to be free: a completed blob belongs
/// to whichever run has the id.
fn hold_last_chunk(
    content: Content,
    size: u64,
    (store, project, open): (Arc<dyn Store>, Project, &OpenRestore),
    failure: Arc<OnceLock<Error>>,
) -> Content {
    let id = open.id.clone();
    let staged = open.staged;
    let mut bytes_left = size;
    // An empty blob has no chunk that could be held back.
    let end = (size == 0).then(|| Ok(bytes::Bytes::new()));
    let content = content.chain(stream::iter(end));
    let guarded = content.then(move |chunk| {
        bytes_left = bytes_left.saturating_sub(chunk.as_ref().map_or(0, |chunk| chunk.len() as u64));
        let store = store.clone();
        let id = id.clone();
        let failure = failure.clone();
        let is_last = bytes_left == 0;
        async move {
            if is_last && let Err(error) = stage::check_id_free(&*store, project, &id, &staged).await {
                let reason = error.to_string();
                failure.get_or_init(|| error);
                return Err(matyan_blob::Error::unavailable(reason));
            }
            chunk
        }
    });
    guarded.boxed()
}

fn check_chunk(chunk: bytes::Bytes) -> Result<bytes::Bytes> {
    check_limit("chunk", chunk.len(), limits::CHUNK_BYTES).map(|()| chunk)
}
