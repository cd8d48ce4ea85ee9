//! Files that a translator stores itself.

use bytes::Bytes;
use futures::stream;
use matyan_proto::{
    ingest::v1::{StoreOpen, StoreRequest, store_request::Message},
    limits::CHUNK_BYTES,
};
use tonic::Status;

use crate::Channels;

/// Stores a file of a run, and returns its key. A file that was stored under the same path is replaced. The run lists the
/// file once a batch announces it.
pub async fn store_file(
    channels: &Channels,
    run_id: &str,
    path: &str,
    content_type: &str,
    mut content: Bytes,
) -> Result<String, Status> {
    let open = StoreOpen {
        run_id: run_id.to_owned(),
        artifact_path: path.to_owned(),
        content_type: content_type.to_owned(),
        size: Some(content.len() as u64),
    };
    let chunks = std::iter::from_fn(move || {
        (!content.is_empty()).then(|| Message::Chunk(content.split_to(content.len().min(CHUNK_BYTES))))
    });
    let messages = std::iter::once(Message::Open(open)).chain(chunks).chain([Message::Done(true)]);
    let requests = messages.map(|message| StoreRequest { message: Some(message) });
    Ok(channels.ingest().store(stream::iter(requests)).await?.into_inner().key)
}
