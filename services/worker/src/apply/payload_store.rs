//! The blobs of a run that its rows refer to: values and parked items that are too large for a
//! row.

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use matyan_blob::{BlobKey, Blobs};
use matyan_model::object::BlobRef;

use super::{ApplyFailure, RunKey};

#[derive(Clone, Copy)]
pub(super) struct PayloadStore<'a> {
    blobs: &'a dyn Blobs,
    run: &'a RunKey,
}

impl<'a> PayloadStore<'a> {
    pub(super) fn new(blobs: &'a dyn Blobs, run: &'a RunKey) -> Self {
        Self { blobs, run }
    }

    /// Writes a blob under a name derived from its content, so that repeating it changes
    /// nothing.
    pub(super) async fn put(&self, content: Bytes, content_type: &str) -> Result<BlobRef, ApplyFailure> {
        let hash = blake3::hash(&content);
        let size = content.len() as u64;
        let reference = self.run.folder()?.payload_reference(&hash);
        let key = BlobKey::in_project(&self.run.project_name, &reference)?;
        let stream = futures::future::ready(Ok(content)).into_stream().boxed();
        self.blobs.put(&key, content_type, Some(size), stream).await?;
        Ok(BlobRef { key: reference, size, hash: *hash.as_bytes() })
    }
}
