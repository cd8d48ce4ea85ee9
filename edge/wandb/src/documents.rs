//! Named documents as JSON objects: the artifacts of W&B, and their collections.

use matyan_proto::documents::v1::{DeleteRequest, Document, GetRequest, ListRequest, WriteRequest};
use serde_json::{Map, Value};
use tonic::Code;

use crate::error::{Result, WandbError, is_missing};
use matyan_channels::Channels;

/// Attempts to change a document that others change at the same time.
const ATTEMPTS: usize = 16;

pub(crate) const ARTIFACTS: &str = "wandb-artifact";
/// The versions and aliases of the artifacts of one name.
pub(crate) const COLLECTIONS: &str = "wandb-collection";

fn content(document: &Document) -> Result<Map<String, Value>> {
    serde_json::from_slice(&document.content).map_err(|error| {
        tracing::error!(kind = document.kind, name = document.name, %error, "a document is not JSON");
        WandbError::broken("content")
    })
}

async fn document(channels: &Channels, kind: &str, name: &str) -> Result<Option<Document>> {
    let request = GetRequest { kind: kind.to_owned(), name: name.to_owned() };
    match channels.documents().get(request).await {
        Ok(response) => {
            response.into_inner().document.map(Some).ok_or_else(|| WandbError::broken("document"))
        }
        // A name that no document can have names no document.
        Err(status) if is_missing(&status) || status.code() == Code::InvalidArgument => Ok(None),
        Err(status) => Err(status.into()),
    }
}

/// Reads a document; `None` if there is none.
pub(crate) async fn read(channels: &Channels, kind: &str, name: &str) -> Result<Option<Map<String, Value>>> {
    document(channels, kind, name).await?.as_ref().map(content).transpose()
}

/// Reads the documents whose names begin with a text, in the order of their names.
pub(crate) async fn list(
    channels: &Channels,
    kind: &str,
    name_prefix: &str,
) -> Result<Vec<Map<String, Value>>> {
    let request = ListRequest { kind: kind.to_owned(), name_prefix: name_prefix.to_owned() };
    let mut messages = channels.documents().list(request).await?.into_inner();
    let mut found = Vec::new();
    while let Some(message) = messages.message().await? {
        for document in &message.documents {
            found.push(content(document)?);
        }
    }
    Ok(found)
}

/// Changes a document, and returns what `change` returns. It gets the content as it is, empty if there is no document;
/// it is called again if another caller has changed the document in the meantime. A content that stays as it is, or
/// empty, is not written.
pub(crate) async fn change<T>(
    channels: &Channels,
    kind: &str,
    name: &str,
    mut change: impl FnMut(&mut Map<String, Value>) -> Result<T>,
) -> Result<T> {
    for _ in 0..ATTEMPTS {
        let stored = document(channels, kind, name).await?;
        let (mut members, version) = match &stored {
            Some(document) => (content(document)?, document.updated_us),
            None => (Map::new(), 0),
        };
        let before = members.clone();
        let changed = change(&mut members)?;
        if members == before {
            return Ok(changed);
        }
        let request = WriteRequest {
            kind: kind.to_owned(),
            name: name.to_owned(),
            content: Value::Object(members).to_string().into_bytes().into(),
            if_updated_us: Some(version),
        };
        match channels.documents().write(request).await {
            Ok(_) => return Ok(changed),
            Err(status) if status.code() == Code::Aborted => {}
            Err(status) => return Err(status.into()),
        }
    }
    let message = format!("`{name}` was changed by others at the same time: try again");
    Err(WandbError::new(http::StatusCode::CONFLICT, message))
}

/// Deletes a document. One that does not exist is no error.
pub(crate) async fn delete(channels: &Channels, kind: &str, name: &str) -> Result<()> {
    let request = DeleteRequest { kind: kind.to_owned(), name: name.to_owned(), if_updated_us: None };
    match channels.documents().delete(request).await {
        Ok(_) => Ok(()),
        Err(status) if is_missing(&status) => Ok(()),
        Err(status) => Err(status.into()),
    }
}
