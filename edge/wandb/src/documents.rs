//! Named documents as JSON objects: the artifacts of W&B, and their collections.

use matyan_channels::documents::{Effect, StoredDocument};
use matyan_channels::{CALLS_AT_A_TIME, Channels, call_all, documents, is_missing};
use matyan_proto::documents::v1::{DeleteRequest, ListRequest};
use serde_json::{Map, Value};

use crate::error::Result;

pub(crate) const ARTIFACTS: &str = "wandb-artifact";
/// The versions and aliases of the artifacts of one name.
pub(crate) const COLLECTIONS: &str = "wandb-collection";

/// The content of a document.
pub(crate) type Members = Map<String, Value>;

/// A member that is a text; empty if there is none.
pub(crate) fn text<'a>(members: &'a Members, name: &str) -> &'a str {
    members.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Reads a document; `None` if there is none.
pub(crate) async fn read(channels: &Channels, kind: &str, name: &str) -> Result<Option<Members>> {
    Ok(documents::read(channels, kind, name).await?.map(|stored| stored.content))
}

/// Reads documents, some at the same time, in the order of these names; `None` for each that does not exist.
pub(crate) async fn read_together(
    channels: &Channels,
    kind: &str,
    names: &[&str],
) -> Result<Vec<Option<Members>>> {
    call_all(CALLS_AT_A_TIME, names.iter().map(|name| read(channels, kind, name))).await
}

/// Reads the documents whose names start with a text, in the order of their names. Damaged documents are left out: they
/// must not hide the others.
pub(crate) async fn list(channels: &Channels, kind: &str, name_prefix: &str) -> Result<Vec<Members>> {
    let request = ListRequest { kind: kind.to_owned(), name_prefix: name_prefix.to_owned() };
    let mut messages = channels.documents().list(request).await?.into_inner();
    let mut found = Vec::new();
    while let Some(message) = messages.message().await? {
        let stored = StoredDocument::read_all(message.documents).await.into_iter().flatten();
        found.extend(stored.map(|stored| stored.content));
    }
    Ok(found)
}

/// Changes a document, and returns what `change` returns. `change` gets the current content, empty if there is no
/// document.
pub(crate) async fn change<T>(
    channels: &Channels,
    kind: &str,
    name: &str,
    effect: Effect,
    mut change: impl FnMut(&mut Members) -> Result<T>,
) -> Result<T> {
    documents::change(channels, kind, name, effect, |members, _| change(members)).await
}

/// Calls `prepare` with the content of a document, and deletes the document. If another caller changes the document
/// in between, `prepare` is called again with the new content. A missing document is no error for a caller who may
/// delete it.
pub(crate) async fn delete_prepared<P: Future<Output = Result<()>>>(
    channels: &Channels,
    kind: &str,
    name: &str,
    prepare: impl Fn(Members) -> P,
) -> Result<()> {
    let mut attempt = 1;
    while let Some(StoredDocument { content, version, .. }) = documents::read(channels, kind, name).await? {
        prepare(content).await?;
        if documents::delete_unchanged(channels, kind, name, version).await? {
            return Ok(());
        }
        documents::wait_to_retry(name, attempt).await?;
        attempt += 1;
    }
    // Checks the right of the caller.
    delete(channels, kind, name).await
}

/// Deletes a document. A missing document is no error.
pub(crate) async fn delete(channels: &Channels, kind: &str, name: &str) -> Result<()> {
    let request = DeleteRequest { kind: kind.to_owned(), name: name.to_owned(), if_updated_us: None };
    match channels.documents().delete(request).await {
        Ok(_) => Ok(()),
        Err(status) if is_missing(&status) => Ok(()),
        Err(status) => Err(status.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_context::empty_context;

    #[tokio::test]
    async fn documents_are_read_together() {
        let (context, counts) = empty_context();
        let names = ["a"; 3 * CALLS_AT_A_TIME];
        let found = read_together(&context.channels, ARTIFACTS, &names).await.unwrap();
        assert_eq!(found, vec![None; names.len()], "none exists");
        assert_eq!(counts.total_and_most(), (names.len(), CALLS_AT_A_TIME));
    }
}
