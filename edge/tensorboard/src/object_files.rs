//! The files of objects, which are stored before the objects that refer to them.

use matyan_channels::{Channels, store_file};
use matyan_proto::ingest::v1::{LogObject, event::Kind};
use matyan_tfrecord::{Object, fitting_name};
use matyan_value::{Value, cbor};
use tonic::Status;

use crate::names::object_path;

/// Stores the files of an object. Returns the event that logs it.
pub(crate) async fn store_files(channels: &Channels, run_id: &str, object: Object) -> Result<Kind, Status> {
    let Object { tag, dtype, step, parts, .. } = object;
    let mut values = Vec::new();
    for (index, part) in parts.into_iter().enumerate() {
        let mut value = part.value;
        if let Some(file) = part.file {
            // The same file of the same step has the same path, so a repeated call replaces the file by an equal file.
            let path = object_path(&tag, step, index, file.format);
            let key = store_file(channels, run_id, &path, file.content_type, file.content.into()).await?;
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
