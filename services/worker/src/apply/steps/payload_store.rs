//! Values that are too large for a row. They are uploaded to the blob store if it responds
//! promptly, and otherwise kept in the store, from which a job uploads them when the blob store is
//! back. Objects refer to uploaded and to kept values in the same way.

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use matyan_blob::BlobKey;
use matyan_model::{
    keys::{Counter, ItemPosition},
    object::BlobRef,
    pending_payload::{PendingPayload, is_pending, pending_content, pending_put},
    project::project_count,
};
use matyan_store::{Batch, Value};
use tokio::time::timeout;

use super::payload_uploads::{PayloadUploads, patience};
use crate::{
    apply::{
        apply_failure::ApplyFailure, decoded_record::PayloadRef, run_key::RunKey,
        transaction::commit_at_cursor,
    },
    deps::Deps,
    metrics::{TransactionError, TransactionMetrics},
};

#[derive(Clone, Copy)]
pub(crate) struct PayloadStore<'a> {
    pub(crate) deps: &'a Deps,
    pub(crate) run: &'a RunKey,
    pub(crate) uploads: &'a PayloadUploads,
    pub(crate) metrics: &'a TransactionMetrics,
    /// The stored cursor row; nothing is written to the store if it has changed.
    pub(crate) cursor: &'a Option<Value>,
}

enum Upload {
    Done,
    /// The blob store will never accept it.
    Rejected(String),
    /// The blob store is unavailable or slow.
    Postponed,
}

impl PayloadStore<'_> {
    /// Stores the payload of an item under a name derived from its content, so that repeating it
    /// changes nothing.
    pub(crate) async fn put(
        &self,
        content: Bytes,
        at: ItemPosition,
        received_us: i64,
    ) -> Result<PayloadRef, ApplyFailure> {
        let hash = blake3::hash(&content);
        let key = self.run.folder()?.payload_reference(&hash);
        let blob = BlobRef { key, size: content.len() as u64, hash: *hash.as_bytes() };
        match self.upload(&blob, content.clone()).await {
            Upload::Done => Ok(Ok(blob)),
            Upload::Rejected(reason) => Ok(Err(reason)),
            Upload::Postponed => {
                let run_id = self.run.id.clone();
                self.keep(PendingPayload { blob, run_id, at, received_us, refusal: None }, &content).await
            }
        }
    }

    async fn upload(&self, blob: &BlobRef, content: Bytes) -> Upload {
        if !self.uploads.should_try() {
            return Upload::Postponed;
        }
        let upload = async {
            let key = BlobKey::in_project(&self.run.project_name, &blob.key)?;
            let stream = futures::future::ready(Ok(content)).into_stream().boxed();
            self.deps.blobs.put(&key, "application/cbor", Some(blob.size), stream).await
        };
        let uploaded = timeout(patience(blob.size), upload).await;
        let (answer, problem) = match uploaded {
            Ok(Ok(_)) => (Upload::Done, None),
            Ok(Err(error)) if error.is_of_blob() => (Upload::Rejected(error.to_string()), None),
            // The job decides: it uploads other payloads next to this one.
            Ok(Err(error)) if error.is_doubtful() => (Upload::Postponed, None),
            Ok(Err(error)) => (Upload::Postponed, Some(error.to_string())),
            Err(_) => (Upload::Postponed, Some("the blob store is slow".to_owned())),
        };
        self.uploads.note(problem.is_none());
        if let Some(reason) = problem {
            self.metrics.failed(TransactionError::Blob);
            let run = self.run.id.as_str();
            tracing::warn!(run, reason, "failed to upload payload; keeping it in the store");
        }
        answer
    }

    /// Keeps a payload in the store, if the project's share permits.
    async fn keep(&self, payload: PendingPayload, content: &Bytes) -> Result<PayloadRef, ApplyFailure> {
        let project = self.run.project;
        let blob = &payload.blob;
        let snapshot = self.deps.store.snapshot().await?;
        if is_pending(&*snapshot, project, &blob.key).await? {
            return Ok(Ok(payload.blob));
        }
        let pending = project_count(&*snapshot, project, Counter::PendingBytes).await?;
        drop(snapshot);
        let max = self.uploads.max_pending;
        if u64::try_from(pending).unwrap_or_default() + blob.size > max {
            return Ok(Err(format!(
                "the blob store is unavailable, and the payloads of the project that wait for it would exceed {max} bytes"
            )));
        }
        for batch in pending_content(project, &blob.key, content) {
            self.commit(batch).await?;
        }
        let mut batch = Batch::buffered();
        pending_put(&mut batch, project, &payload);
        self.commit(batch).await?;
        Ok(Ok(payload.blob))
    }

    async fn commit(&self, batch: Batch) -> Result<(), ApplyFailure> {
        commit_at_cursor(self.deps, self.run, self.cursor, batch).await
    }
}
