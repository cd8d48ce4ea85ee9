//! An upload through this server, for blob stores that have no address on the network. Whoever holds the token of a URL may
//! write that one blob; nothing is kept of an upload that breaks off.

use std::sync::{Arc, OnceLock};

use futures::{Stream, StreamExt, stream};
use matyan_blob::{BlobKey, Content};
use matyan_proto::{
    ingest::v1::{self as pb, upload_request::Message},
    limits,
};
use tonic::Status;

use crate::{
    Shared,
    convert::content_type_check,
    error::{Error, Result},
};

pub(crate) async fn upload(
    shared: &Shared,
    mut requests: impl Stream<Item = Result<pb::UploadRequest, Status>> + Send + Unpin + 'static,
) -> Result<pb::UploadResponse> {
    let signer = shared.uploads.as_ref().ok_or(Error::NoUploads)?;
    let open = open(requests.next().await)?;
    let key = BlobKey::new(open.key)?;
    content_type_check(&open.content_type).map_err(|reason| Error::field("content_type", reason))?;
    signer.verify(&key, &open.token)?;

    let failure = Arc::new(OnceLock::new());
    let content = content(requests, open.content_length.is_none(), failure.clone());
    let put = shared.blobs.put(&key, &open.content_type, open.content_length, content).await;
    // What the client did wrong tells more than what the store made of it.
    let meta = put.map_err(|error| failure.get().cloned().unwrap_or_else(|| error.into()))?;
    shared.metrics.uploads.inc();
    shared.metrics.upload_bytes.inc_by(meta.size);
    Ok(pb::UploadResponse { size: meta.size })
}

fn open(first: Option<Result<pb::UploadRequest, Status>>) -> Result<pb::UploadOpen> {
    match first {
        Some(Ok(pb::UploadRequest { message: Some(Message::Open(open)) })) => Ok(open),
        _ => Err(Error::field("open", "has to come first")),
    }
}

/// The chunks of an upload. An error of the client is left in `failure`, and ends the content with an error.
fn content(
    requests: impl Stream<Item = Result<pb::UploadRequest, Status>> + Send + Unpin + 'static,
    needs_done: bool,
    failure: Arc<OnceLock<Error>>,
) -> Content {
    let chunks = stream::unfold(Some(requests), move |requests| {
        let failure = failure.clone();
        async move {
            let mut requests = requests?;
            match chunk(requests.next().await, needs_done) {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(requests))),
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
                Err(Error::field("message", "is neither a chunk nor the end"))
            }
        },
        None if needs_done => {
            Err(Error::UploadIncomplete("the upload has no end mark, and told no length".into()))
        }
        None => Ok(None),
        Some(Err(_)) => Err(Error::UploadIncomplete("the upload broke off".into())),
    }
}
