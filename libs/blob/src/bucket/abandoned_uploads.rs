//! Abandoned multipart uploads. A store keeps their parts until they are discarded, so they are
//! remembered until then.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::PartUpload;

/// Most uploads remembered at a time. Beyond that, the oldest stays in the bucket.
const MAX_UPLOADS: usize = 1_000;

#[derive(Default)]
pub(super) struct AbandonedUploads(Mutex<VecDeque<Box<dyn PartUpload>>>);

impl AbandonedUploads {
    fn add(&self, parts: Box<dyn PartUpload>) {
        let mut all = self.0.lock();
        if all.len() == MAX_UPLOADS {
            all.pop_front();
            tracing::warn!(
                most = MAX_UPLOADS,
                "gave up discarding an unfinished upload: too many are pending"
            );
        }
        all.push_back(parts);
    }

    fn take(&self) -> Option<Box<dyn PartUpload>> {
        self.0.lock().pop_front()
    }

    /// Discards all uploads. Stops at the first temporary failure: that upload and the
    /// remaining ones wait for the next call.
    pub(super) async fn discard(&self) {
        while let Some(parts) = self.take() {
            let mut open = OpenUpload::new(parts, self);
            match open.parts().discard().await {
                Err(error) if error.is_temporary() => {
                    tracing::debug!(%error, "failed to discard an unfinished upload; will retry");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to discard an unfinished upload; it stays in the bucket")
                }
                Ok(()) => {}
            }
            open.end();
        }
    }
}

/// A multipart upload in progress. If dropped before `end`, it is remembered as abandoned.
pub(super) struct OpenUpload<'a> {
    parts: Option<Box<dyn PartUpload>>,
    abandoned: &'a AbandonedUploads,
}

impl<'a> OpenUpload<'a> {
    pub(super) fn new(parts: Box<dyn PartUpload>, abandoned: &'a AbandonedUploads) -> Self {
        Self { parts: Some(parts), abandoned }
    }

    pub(super) fn parts(&mut self) -> &mut dyn PartUpload {
        &mut **self.parts.as_mut().expect("the upload is present until drop")
    }

    /// Marks the upload as finished or discarded, so that nothing remains to be cleaned up.
    pub(super) fn end(mut self) {
        self.parts = None;
    }
}

impl Drop for OpenUpload<'_> {
    fn drop(&mut self) {
        if let Some(parts) = self.parts.take() {
            self.abandoned.add(parts);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use bytes::Bytes;

    use super::*;
    use crate::{Error, Result};

    /// Results of the attempts to discard, in reverse order.
    #[derive(Clone, Default)]
    struct ScriptedUpload(Arc<Mutex<Vec<Result<()>>>>);

    impl ScriptedUpload {
        fn new(answers: Vec<Result<()>>) -> Self {
            Self(Arc::new(Mutex::new(answers)))
        }

        fn answers_left(&self) -> usize {
            self.0.lock().len()
        }
    }

    #[async_trait]
    impl PartUpload for ScriptedUpload {
        async fn put(&mut self, _: Bytes) -> Result<()> {
            Ok(())
        }

        async fn finish(&mut self, _: Bytes) -> Result<()> {
            Ok(())
        }

        async fn discard(&mut self) -> Result<()> {
            self.0.lock().pop().unwrap()
        }
    }

    fn away() -> Result<()> {
        Err(Error::unavailable("unreachable"))
    }

    #[tokio::test]
    async fn an_upload_that_cannot_be_discarded_yet_is_discarded_later() {
        let abandoned = AbandonedUploads::default();
        let refused = Err(Error::Setup { reason: "no".to_owned() });
        let uploads = [vec![Ok(()), away()], vec![Ok(()), refused], vec![Ok(())]].map(ScriptedUpload::new);
        for upload in &uploads {
            drop(OpenUpload::new(Box::new(upload.clone()), &abandoned));
        }
        let left = || uploads.each_ref().map(ScriptedUpload::answers_left);
        abandoned.discard().await;
        assert_eq!(left(), [1, 2, 1], "the store is unavailable: the others wait as well");
        abandoned.discard().await;
        assert_eq!(left(), [0, 1, 0], "a permanent refusal is not retried");
        abandoned.discard().await;
        assert_eq!(left(), [0, 1, 0]);
    }

    #[tokio::test]
    async fn the_oldest_upload_is_forgotten_when_there_are_too_many() {
        let abandoned = AbandonedUploads::default();
        let uploads: Vec<_> = (0..=MAX_UPLOADS).map(|_| ScriptedUpload::new(vec![Ok(())])).collect();
        for upload in &uploads {
            drop(OpenUpload::new(Box::new(upload.clone()), &abandoned));
        }
        abandoned.discard().await;
        assert_eq!(uploads[0].answers_left(), 1);
        assert!(uploads[1..].iter().all(|upload| upload.answers_left() == 0));
    }
}
