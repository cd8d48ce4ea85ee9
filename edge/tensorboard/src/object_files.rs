//! The files of objects, which are stored before the objects that refer to them.

use bytes::Bytes;
use futures::stream;
use matyan_channels::Channels;
use matyan_proto::{
    ingest::v1::{LogObject, StoreOpen, StoreRequest, event::Kind, store_request::Message},
    limits::CHUNK_BYTES,
};
use matyan_value::{Value, cbor};
use tonic::Status;

use crate::{
    names::{fitting_name, object_path},
    values::{Object, ObjectFile},
};

/// Stores the files of an object. Returns the event that logs it.
pub(crate) async fn store_files(channels: &Channels, run_id: &str, object: Object) -> Result<Kind, Status> {
    let Object { tag, dtype, step, parts, .. } = object;
    let mut values = Vec::new();
    for (index, part) in parts.into_iter().enumerate() {
        let mut value = part.value;
        if let Some(file) = part.file {
            let path = object_path(&tag, step, index, file.format);
            let key = store(channels, run_id, path, file).await?;
            value.insert("s3_key".to_owned(), Value::Text(key));
        }
        values.push(Value::Map(value));
    }
    let value = if values.len() == 1 { values.swap_remove(0) } else { Value::List(values) };
    Ok(Kind::LogObject(LogObject {
        name: fitting_name(&tag).into_owned(),
        context: String::new(),
        dtype: dtype.to_owned(),
        step: Some(step),
        epoch: None,
        value: cbor::encode(&value).into(),
    }))
}

/// Sends a file to the blob store. Returns its key. The same file of the same step has the same key, so a repeated call
/// replaces the file by an equal file.
async fn store(channels: &Channels, run_id: &str, path: String, file: ObjectFile) -> Result<String, Status> {
    let open = StoreOpen {
        run_id: run_id.to_owned(),
        artifact_path: path,
        content_type: file.content_type.to_owned(),
        size: Some(file.content.len() as u64),
    };
    let mut content = Bytes::from(file.content);
    let chunks = std::iter::from_fn(move || {
        (!content.is_empty()).then(|| Message::Chunk(content.split_to(content.len().min(CHUNK_BYTES))))
    });
    let messages = std::iter::once(Message::Open(open)).chain(chunks).chain([Message::Done(true)]);
    let requests = messages.map(|message| StoreRequest { message: Some(message) });
    Ok(channels.ingest().store(stream::iter(requests)).await?.into_inner().key)
}
