//! Named documents whose contents are JSON objects. Translators keep data in them that does not belong to a run.

use std::time::Duration;

use bytes::Bytes;
use matyan_proto::common::v1::Code as ProductCode;
use matyan_proto::documents::v1::{DeleteRequest, Document, GetRequest, WriteRequest};
use serde_json::{Map, Value};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::Channels;
use crate::large_work::{json_bytes, run_apart};
use crate::status::{is_missing, product_code};

/// Attempts to change a document that others change at the same time. With the pauses, they take some seconds.
const ATTEMPTS: u32 = 32;

/// The longest pause between two attempts.
const LONGEST_PAUSE_MS: u32 = 250;

/// A document as it was read.
#[derive(Clone, Debug)]
pub struct StoredDocument {
    pub name: String,
    pub content: Map<String, Value>,
    /// 0: there is none.
    pub version: i64,
    /// The size of the content as it is stored.
    pub bytes: usize,
}

impl StoredDocument {
    pub fn new(document: Document) -> Result<Self, DocumentError> {
        let content = serde_json::from_slice(&document.content).map_err(|error| {
            tracing::warn!(kind = document.kind, name = document.name, %error, "failed to read a document; its content is not a JSON object");
            DocumentError::Damaged
        })?;
        Ok(Self { name: document.name, content, version: document.updated_us, bytes: document.content.len() })
    }

    /// Reads documents in their order, off the async threads if they are large. A damaged document is an error
    /// in its place.
    pub async fn read_all(documents: Vec<Document>) -> Vec<Result<Self, DocumentError>> {
        let bytes: usize = documents.iter().map(|document| document.content.len()).sum();
        run_apart(bytes, move || documents.into_iter().map(Self::new).collect()).await
    }
}

/// The effect of a change on a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The change adds something, or replaces a text.
    Adds,
    /// The change takes something away that others may use, which needs the right to edit.
    Deletes,
}

/// The reason why a document was not read or written.
#[derive(Clone, Debug)]
pub enum DocumentError {
    Call(Status),
    /// The content is not a JSON object. The log has the reason.
    Damaged,
    /// The service has answered without the document.
    NoAnswer,
    /// The document would be larger than the limit that the message names.
    TooLarge {
        name: String,
        message: String,
    },
    /// Other callers kept changing the document. A repeated request reads the document again.
    Conflict {
        name: String,
    },
}

impl From<Status> for DocumentError {
    fn from(status: Status) -> Self {
        Self::Call(status)
    }
}

/// Reads a document; `None` if there is none.
pub async fn read(
    channels: &Channels,
    kind: &str,
    name: &str,
) -> Result<Option<StoredDocument>, DocumentError> {
    let request = GetRequest { kind: kind.to_owned(), name: name.to_owned() };
    match channels.documents().get(request).await {
        Ok(response) => {
            let document = response.into_inner().document.ok_or(DocumentError::NoAnswer)?;
            run_apart(document.content.len(), move || StoredDocument::new(document)).await.map(Some)
        }
        // A document cannot have this name, so there is none.
        Err(status) if is_missing(&status) || status.code() == Code::InvalidArgument => Ok(None),
        Err(status) => Err(status.into()),
    }
}

/// Changes a document, and returns what `change` returns. `change` gets the current content, empty if there is no
/// document, and whether there is one. `change` is called again if another caller has changed the document since it was
/// read. Content that is unchanged or empty is not written. A change that deletes is refused without the right to edit.
pub async fn change<T, E: From<DocumentError>>(
    channels: &Channels,
    kind: &str,
    name: &str,
    effect: Effect,
    mut change: impl FnMut(&mut Map<String, Value>, bool) -> Result<T, E>,
) -> Result<T, E> {
    let mut attempt = 1;
    loop {
        let (before, mut content, version) = match read(channels, kind, name).await? {
            Some(StoredDocument { content, version, bytes, .. }) => {
                let (before, content) = run_apart(bytes, move || (content.clone(), content)).await;
                (before, content, version)
            }
            None => (Map::new(), Map::new(), 0),
        };
        let changed = change(&mut content, version != 0)?;
        let Some(content) = changed_text(before, content).await else { return Ok(changed) };
        let new = NewContent { content, replaced: version, effect };
        if write(channels, kind, name, new).await?.is_some() {
            return Ok(changed);
        }
        wait_to_retry(name, attempt).await?;
        attempt += 1;
    }
}

/// Deletes a document if it still has this version. Returns false if it has another version. A missing
/// document is not an error.
pub async fn delete_unchanged(
    channels: &Channels,
    kind: &str,
    name: &str,
    version: i64,
) -> Result<bool, DocumentError> {
    let request =
        DeleteRequest { kind: kind.to_owned(), name: name.to_owned(), if_updated_us: Some(version) };
    match channels.documents().delete(request).await {
        Ok(_) => Ok(true),
        Err(status) if is_missing(&status) => Ok(true),
        Err(status) if status.code() == Code::Aborted => Ok(false),
        Err(status) => Err(status.into()),
    }
}

/// Waits before another attempt to change a document, or fails after the last attempt. Attempts start at 1.
pub async fn wait_to_retry(name: &str, attempt: u32) -> Result<(), DocumentError> {
    if attempt >= ATTEMPTS {
        return Err(DocumentError::Conflict { name: name.to_owned() });
    }
    tokio::time::sleep(retry_pause(attempt)).await;
    Ok(())
}

/// The pause before another attempt to change a document. It is random, so that callers do not meet again.
fn retry_pause(attempt: u32) -> Duration {
    let longest_ms = LONGEST_PAUSE_MS.min(attempt.saturating_mul(10));
    let random = Uuid::new_v4().as_u128() % u128::from(longest_ms);
    Duration::from_millis(u64::try_from(random).unwrap_or_default())
}

/// The text of the content of a document after a change; `None` if the content is the same as before. Large content is
/// compared and encoded off the async threads.
async fn changed_text(before: Map<String, Value>, content: Map<String, Value>) -> Option<Bytes> {
    let before = Value::Object(before);
    let content = Value::Object(content);
    let bytes = json_bytes(&before).max(json_bytes(&content));
    let encode = move || {
        let text =
            || serde_json::to_vec(&content).expect("a map of JSON with texts as keys is written to memory");
        (content != before).then(text)
    };
    run_apart(bytes, encode).await.map(Bytes::from)
}

/// Content that replaces the content of one version of a document.
struct NewContent {
    content: Bytes,
    /// 0: there is no document.
    replaced: i64,
    effect: Effect,
}

/// Writes a document if it still has the version that is replaced, and returns its new version; `None` if it has another
/// version.
async fn write(
    channels: &Channels,
    kind: &str,
    name: &str,
    new: NewContent,
) -> Result<Option<i64>, DocumentError> {
    let NewContent { content, replaced, effect } = new;
    let request = WriteRequest {
        kind: kind.to_owned(),
        name: name.to_owned(),
        content,
        if_updated_us: Some(replaced),
        deletes: effect == Effect::Deletes,
    };
    match channels.documents().write(request).await {
        Ok(response) => Ok(Some(response.into_inner().updated_us)),
        Err(status) if status.code() == Code::Aborted => Ok(None),
        Err(status) if product_code(&status) == Some(ProductCode::TooLarge) => {
            Err(DocumentError::TooLarge { name: name.to_owned(), message: status.message().to_owned() })
        }
        Err(status) => Err(status.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_content_is_compared_and_encoded_on_another_thread() {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let (release, released) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || released.recv());
            let content = |text: &str| Map::from_iter([("text".to_owned(), Value::from(text))]);
            assert_eq!(changed_text(content("a"), content("a")).await, None);
            let written = changed_text(content("a"), content("b")).await;
            assert_eq!(
                written.as_deref(),
                Some(&br#"{"text":"b"}"#[..]),
                "small content needs no other thread"
            );
            let large = "x".repeat(1 << 20);
            let mut unchanged = Box::pin(changed_text(content(&large), content(&large)));
            assert!(futures::poll!(unchanged.as_mut()).is_pending(), "the only other thread is busy");
            drop(release);
            assert_eq!(unchanged.await, None);
            busy.await.unwrap().expect_err("nothing was sent");
        });
    }

    #[tokio::test]
    async fn documents_are_read_in_their_order_and_a_damaged_one_hides_no_other() {
        let document = |name: &str, content: String| Document {
            name: name.to_owned(),
            content: Bytes::from(content),
            ..Document::default()
        };
        let large = format!(r#"{{"text": "{}"}}"#, "x".repeat(1 << 20));
        let large_bytes = large.len();
        let documents =
            vec![document("a", large), document("b", "[]".to_owned()), document("c", "{}".to_owned())];
        let read = StoredDocument::read_all(documents).await;
        let found: Vec<Option<(String, usize)>> =
            read.into_iter().map(|read| read.ok().map(|stored| (stored.name, stored.bytes))).collect();
        assert_eq!(found, [Some(("a".to_owned(), large_bytes)), None, Some(("c".to_owned(), 2))]);
    }
}
