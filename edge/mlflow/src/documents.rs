//! Named documents as JSON objects, for everything that MLflow keeps besides runs.

use matyan_channels::documents::{DocumentError, Effect, StoredDocument};
use matyan_channels::{Channels, documents, is_missing};
use matyan_proto::documents::v1::{DeleteRequest, ListRequest, RenameRequest};
use serde_json::{Map, Value};
use tonic::Code;

use crate::error::{MlflowError, Result};

/// Size of the documents that one search may find. They are sorted in memory.
const FOUND_BYTES: usize = 64 << 20;

/// Tags of experiments, and the locations of their files.
pub(crate) const EXPERIMENTS: &str = "mlflow-experiment";
/// Registered models with their versions.
pub(crate) const REGISTERED_MODELS: &str = "mlflow-registered-model";
pub(crate) const LOGGED_MODELS: &str = "mlflow-logged-model";

/// Reads all documents of a kind, and returns what `find` makes of each; `None` leaves a document out. Damaged documents
/// are left out as well: they must not hide the others.
pub(crate) async fn list<T>(
    channels: &Channels,
    kind: &str,
    mut find: impl FnMut(StoredDocument) -> Result<Option<T>>,
) -> Result<Vec<T>> {
    let request = ListRequest { kind: kind.to_owned(), ..ListRequest::default() };
    let mut messages = channels.documents().list(request).await?.into_inner();
    let mut found = Vec::new();
    let mut bytes = 0;
    while let Some(message) = messages.message().await? {
        for stored in StoredDocument::read_all(message.documents).await {
            // A damaged document is in the log.
            let Ok(stored) = stored else { continue };
            let size = stored.bytes;
            let Some(entry) = find(stored)? else { continue };
            bytes += size;
            if bytes > FOUND_BYTES {
                return Err(MlflowError::invalid(format!(
                    "the search finds more than {} MiB: use a filter that finds less, or delete models that are not needed",
                    FOUND_BYTES >> 20
                )));
            }
            found.push(entry);
        }
    }
    Ok(found)
}

/// Reads a document; `None` if there is none.
pub(crate) async fn read(channels: &Channels, kind: &str, name: &str) -> Result<Option<StoredDocument>> {
    Ok(documents::read(channels, kind, name).await?)
}

/// Changes a document, and returns what `change` returns. `change` gets the current content, empty if there is no
/// document, and whether there is one.
pub(crate) async fn change<T>(
    channels: &Channels,
    kind: &str,
    name: &str,
    effect: Effect,
    change: impl FnMut(&mut Map<String, Value>, bool) -> Result<T>,
) -> Result<T> {
    documents::change(channels, kind, name, effect, change).await
}

/// Deletes a document; returns false if there is none.
pub(crate) async fn delete(channels: &Channels, kind: &str, name: &str) -> Result<bool> {
    let request = DeleteRequest { kind: kind.to_owned(), name: name.to_owned(), if_updated_us: None };
    match channels.documents().delete(request).await {
        Ok(_) => Ok(true),
        Err(status) if is_missing(&status) || status.code() == Code::InvalidArgument => Ok(false),
        Err(status) => Err(status.into()),
    }
}

/// The result of giving a document another name.
#[derive(Clone, Debug)]
pub(crate) enum Renaming {
    Done(StoredDocument),
    /// There is no such document.
    Missing,
    /// Another document has the new name.
    NameTaken,
}

/// Gives a document another name.
pub(crate) async fn rename(channels: &Channels, kind: &str, name: &str, new_name: &str) -> Result<Renaming> {
    let request = RenameRequest {
        kind: kind.to_owned(),
        name: name.to_owned(),
        new_name: new_name.to_owned(),
        if_updated_us: None,
    };
    match channels.documents().rename(request).await {
        Ok(response) => {
            let document = response.into_inner().document.ok_or(DocumentError::NoAnswer)?;
            Ok(Renaming::Done(StoredDocument::new(document)?))
        }
        Err(status) if is_missing(&status) => Ok(Renaming::Missing),
        Err(status) if status.code() == Code::AlreadyExists => Ok(Renaming::NameTaken),
        Err(status) => Err(status.into()),
    }
}

/// The text of a member; empty if there is none.
pub(crate) fn member<'c>(content: &'c Map<String, Value>, name: &str) -> &'c str {
    content.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The number of a member; 0 if there is none.
pub(crate) fn integer(content: &Map<String, Value>, name: &str) -> i64 {
    content.get(name).and_then(Value::as_i64).unwrap_or_default()
}

/// The members of a map inside a document, such as its tags. The map is created if it is missing.
pub(crate) fn map_in<'c>(content: &'c mut Map<String, Value>, name: &str) -> &'c mut Map<String, Value> {
    let value = content.entry(name).or_insert_with(|| Value::Object(Map::new()));
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was made an object above")
}

/// The pairs of a map inside a document, in the form in which MLflow lists them.
pub(crate) fn pairs(content: &Map<String, Value>, name: &str) -> Vec<Value> {
    let members = content.get(name).and_then(Value::as_object);
    members
        .into_iter()
        .flatten()
        .map(|(key, value)| serde_json::json!({"key": key, "value": value}))
        .collect()
}
