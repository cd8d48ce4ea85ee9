//! Blobs of a run: everything in its folder but the payloads that we moved there, which travel with their objects.

use std::sync::{Arc, OnceLock};

use futures::{StreamExt, stream};
use matyan_blob::{BlobKey, Content, RunFolder, is_reserved};
use matyan_model::ids::RunId;
use matyan_proto::{backup::v1 as pb, limits};
use tonic::Streaming;

use super::stage;
use crate::{
    Context,
    call::Call,
    convert::at_most,
    error::{Error, Result},
    stream::{End, Sender},
};

/// More than an object store takes as one blob.
const MAX_BYTES: u64 = 5 << 40;

/// One page of a run's blobs, and what the next comes behind. No list tells types.
pub(super) async fn list(
    context: &Context,
    project_name: &str,
    id: &RunId,
    from: Option<&BlobKey>,
) -> Result<(Vec<pb::Blob>, Option<BlobKey>)> {
    let folder = RunFolder::new(project_name, id.as_str())?;
    let page = context.blobs.list(folder.prefix(), from).await?;
    let mut found = Vec::with_capacity(page.blobs.len());
    for (key, listed) in page.blobs {
        let path = key.as_str().strip_prefix(folder.prefix());
        let Some(path) = path.filter(|path| !is_reserved(path)) else { continue };
        found.push(pb::Blob { path: path.to_owned(), size: listed.size, content_type: String::new() });
    }
    Ok((found, page.next))
}

fn key(call: &Call, id: &RunId, path: &str) -> Result<BlobKey> {
    at_most("blob.path", path.len(), limits::ARTIFACT_PATH_BYTES)?;
    let folder = RunFolder::new(&call.project_name, id.as_str())?;
    let key = BlobKey::new(format!("{}{path}", folder.prefix()));
    key.map_err(|error| Error::field("blob.path", error.to_string()))
}

pub(super) async fn open(
    context: &Context,
    call: &Call,
    request: &pb::ReadBlobRequest,
) -> Result<(pb::Blob, Content)> {
    let found = context.run(call, &request.run_id).await?;
    drop(found);
    let key = key(call, &RunId::new(request.run_id.as_str()), &request.path)?;
    let read = context.blobs.read(&key, None).await?;
    let (meta, content) = read.ok_or_else(|| Error::not_found("blob", &request.path))?;
    let blob = pb::Blob { path: request.path.clone(), content_type: meta.content_type, size: meta.size };
    Ok((blob, content))
}

pub(super) async fn send(
    blob: pb::Blob,
    mut content: Content,
    sender: &Sender<pb::ReadBlobResponse>,
) -> Result<(), End> {
    sender.send(pb::ReadBlobResponse { blob: Some(blob), ..Default::default() }).await?;
    while let Some(chunk) = content.next().await {
        sender.send(pb::ReadBlobResponse { blob: None, chunk: chunk? }).await?;
    }
    Ok(())
}

/// Writes a blob, and moves the position of the restore behind it. What is there already is not read.
pub(super) async fn write(
    context: &Context,
    call: &Call,
    mut requests: Streaming<pb::WriteBlobRequest>,
) -> Result<u64> {
    let first =
        requests.message().await.map_err(|status| Error::UploadIncomplete(status.message().to_owned()))?;
    let first = first.ok_or_else(|| Error::field("blob", "has to come first"))?;
    let blob = first.blob.ok_or_else(|| Error::field("blob", "has to come first"))?;
    if blob.size > MAX_BYTES {
        return Err(Error::field("blob.size", format!("is over {MAX_BYTES}")));
    }
    at_most("blob.content_type", blob.content_type.len(), limits::CONTENT_TYPE_BYTES)?;
    let open = stage::open(context, call, &first.run_id, &first.source).await?;
    let key = key(call, &open.id, &blob.path)?;
    if first.position <= open.position {
        return Ok(open.position);
    }
    let failure = Arc::new(OnceLock::new());
    let content = content(first.chunk, requests, failure.clone());
    let put = context.blobs.put(&key, &blob.content_type, Some(blob.size), content).await;
    put.map_err(|error| failure.get().cloned().unwrap_or_else(|| failed(error)))?;
    open.advance(context, call, first.position).await
}

fn failed(error: matyan_blob::Error) -> Error {
    match error {
        matyan_blob::Error::Length { .. } => Error::UploadIncomplete(error.to_string()),
        matyan_blob::Error::BadContentType { .. } => Error::field("blob.content_type", error.to_string()),
        other => other.into(),
    }
}

/// The chunks behind the first message. What the client did wrong is left in `failure`.
fn content(
    first: bytes::Bytes,
    requests: Streaming<pb::WriteBlobRequest>,
    failure: Arc<OnceLock<Error>>,
) -> Content {
    let rest = requests.map(move |request| {
        let chunk = match request {
            Ok(request) => checked(request.chunk),
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

fn checked(chunk: bytes::Bytes) -> Result<bytes::Bytes> {
    at_most("chunk", chunk.len(), limits::CHUNK_BYTES).map(|()| chunk)
}
