//! Named documents as JSON objects: what MLflow keeps besides runs.

use std::time::Duration;

use matyan_proto::documents::v1::{DeleteRequest, Document, GetRequest, ListRequest, WriteRequest};
use serde_json::{Map, Value};
use tonic::Code;
use uuid::Uuid;

use crate::error::{ErrorCode, MlflowError, Result, is_missing};
use matyan_channels::Channels;

/// Size of the documents that one search may find. They are sorted in memory.
const FOUND_BYTES: usize = 64 << 20;

/// Attempts to change a document that others change at the same time. With the pauses, they take some seconds.
const ATTEMPTS: u32 = 32;
/// The longest pause between two attempts.
const LONGEST_PAUSE_MS: u32 = 250;

/// Tags of experiments, and where their files are.
pub(crate) const EXPERIMENTS: &str = "mlflow-experiment";
/// Registered models with their versions.
pub(crate) const REGISTERED_MODELS: &str = "mlflow-registered-model";
pub(crate) const LOGGED_MODELS: &str = "mlflow-logged-model";

/// A document as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) content: Map<String, Value>,
    /// 0: there is none.
    pub(crate) version: i64,
}

impl Stored {
    fn new(document: Document) -> Result<Self> {
        let content = serde_json::from_slice(&document.content).map_err(|error| {
            tracing::error!(kind = document.kind, name = document.name, %error, "a document is not JSON");
            MlflowError::new(ErrorCode::InternalError, "a stored document is damaged: see the server's log")
        })?;
        Ok(Self { name: document.name, content, version: document.updated_us })
    }
}

/// Reads a document; `None` if there is none.
pub(crate) async fn read(channels: &Channels, kind: &str, name: &str) -> Result<Option<Stored>> {
    let request = GetRequest { kind: kind.to_owned(), name: name.to_owned() };
    match channels.documents().get(request).await {
        Ok(response) => {
            let document = response.into_inner().document.ok_or_else(|| MlflowError::broken("document"))?;
            Stored::new(document).map(Some)
        }
        // A name that no document can have names no document.
        Err(status) if is_missing(&status) || status.code() == Code::InvalidArgument => Ok(None),
        Err(status) => Err(status.into()),
    }
}

/// Reads all documents of a kind, and returns what `find` makes of them; `None` leaves a document out.
pub(crate) async fn list<T>(
    channels: &Channels,
    kind: &str,
    mut find: impl FnMut(Stored) -> Result<Option<T>>,
) -> Result<Vec<T>> {
    let request = ListRequest { kind: kind.to_owned(), ..ListRequest::default() };
    let mut messages = channels.documents().list(request).await?.into_inner();
    let mut found = Vec::new();
    let mut bytes = 0;
    while let Some(message) = messages.message().await? {
        for document in message.documents {
            let size = document.content.len();
            let Some(entry) = find(Stored::new(document)?)? else { continue };
            bytes += size;
            if bytes > FOUND_BYTES {
                return Err(MlflowError::invalid(format!(
                    "the search finds more than {} MiB: use a filter that finds less, or delete what is not needed",
                    FOUND_BYTES >> 20
                )));
            }
            found.push(entry);
        }
    }
    Ok(found)
}

/// Changes a document, and returns what `change` returns. It gets the content as it is, empty if there is no document;
/// it is called again if another caller has changed the document in the meantime.
pub(crate) async fn change<T>(
    channels: &Channels,
    kind: &str,
    name: &str,
    mut change: impl FnMut(&mut Map<String, Value>, bool) -> Result<T>,
) -> Result<T> {
    for attempt in 1..=ATTEMPTS {
        let stored = read(channels, kind, name).await?;
        let (mut content, version) = match stored {
            Some(stored) => (stored.content, stored.version),
            None => (Map::new(), 0),
        };
        let changed = change(&mut content, version != 0)?;
        if write(channels, kind, name, &content, version).await?.is_some() {
            return Ok(changed);
        }
        tokio::time::sleep(pause(attempt)).await;
    }
    Err(conflict(name))
}

/// The pause after an attempt. It is random, so that callers do not meet again.
fn pause(attempt: u32) -> Duration {
    let longest_ms = LONGEST_PAUSE_MS.min(attempt.saturating_mul(10));
    let random = Uuid::new_v4().as_u128() % u128::from(longest_ms);
    Duration::from_millis(u64::try_from(random).unwrap_or_default())
}

/// Writes a document that still has this version, 0 if there is none, and returns its new version; `None` if it has
/// another one.
pub(crate) async fn write(
    channels: &Channels,
    kind: &str,
    name: &str,
    content: &Map<String, Value>,
    version: i64,
) -> Result<Option<i64>> {
    let content = serde_json::to_vec(content).map_err(|error| MlflowError::invalid(error.to_string()))?;
    let request = WriteRequest {
        kind: kind.to_owned(),
        name: name.to_owned(),
        content: content.into(),
        if_updated_us: Some(version),
    };
    match channels.documents().write(request).await {
        Ok(response) => Ok(Some(response.into_inner().updated_us)),
        Err(status) if status.code() == Code::Aborted => Ok(None),
        Err(status) if status.code() == Code::ResourceExhausted => Err(MlflowError::invalid(format!(
            "'{name}' would become too large: {}; delete versions, tags or descriptions that are not needed",
            status.message()
        ))),
        Err(status) => Err(status.into()),
    }
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

/// Result of deleting a document in the version that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deletion {
    Done,
    /// There is no such document.
    Missing,
    /// The document has another version.
    Changed,
}

/// Deletes a document if it has this version.
pub(crate) async fn delete_unchanged(
    channels: &Channels,
    kind: &str,
    name: &str,
    version: i64,
) -> Result<Deletion> {
    let request =
        DeleteRequest { kind: kind.to_owned(), name: name.to_owned(), if_updated_us: Some(version) };
    match channels.documents().delete(request).await {
        Ok(_) => Ok(Deletion::Done),
        Err(status) if is_missing(&status) => Ok(Deletion::Missing),
        Err(status) if status.code() == Code::Aborted => Ok(Deletion::Changed),
        Err(status) => Err(status.into()),
    }
}

pub(crate) fn conflict(name: &str) -> MlflowError {
    let message = format!("'{name}' was changed by others at the same time: try again");
    // A repetition reads the document again, and clients repeat a request with this answer.
    MlflowError::new(ErrorCode::TemporarilyUnavailable, message)
}

/// The text of a member; empty if there is none.
pub(crate) fn member<'c>(content: &'c Map<String, Value>, name: &str) -> &'c str {
    content.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The number of a member; 0 if there is none.
pub(crate) fn integer(content: &Map<String, Value>, name: &str) -> i64 {
    content.get(name).and_then(Value::as_i64).unwrap_or_default()
}

/// The members of a map inside of a document, such as its tags, which is created if it is missing.
pub(crate) fn map_in<'c>(content: &'c mut Map<String, Value>, name: &str) -> &'c mut Map<String, Value> {
    let value = content.entry(name).or_insert_with(|| Value::Object(Map::new()));
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was made an object above")
}

/// The pairs of a map inside of a document, as MLflow lists them.
pub(crate) fn pairs(content: &Map<String, Value>, name: &str) -> Vec<Value> {
    let members = content.get(name).and_then(Value::as_object);
    let pair = |(key, value): (&String, &Value)| serde_json::json!({"key": key, "value": value});
    members.into_iter().flatten().map(pair).collect()
}
