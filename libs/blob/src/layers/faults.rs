//! A store that is slow, fails before or after its work, or breaks a stream midway, according to
//! its plan. The plan is a function of the call, so that a test controls the seed and the counters.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, future, stream};

use crate::{BlobKey, BlobMeta, Blobs, Content, Error, Listing, PresignedUpload, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlobCall {
    Presign,
    Put,
    Read,
    Describe,
    Delete,
    List,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobFault {
    None,
    /// The call starts after a delay.
    Delay(Duration),
    /// Nothing is done, and an error is returned.
    Refuse,
    /// The work is done, but an error is returned.
    LoseAnswer,
    /// The first key of a delete is kept, with an error (`Setup`) that a retry does not fix;
    /// other calls fail as with `Refuse`.
    Lock,
    /// The content of a put or read breaks off after this many bytes; other calls fail as
    /// with `Refuse`.
    Cut(u64),
}

pub struct FaultyBlobs {
    inner: Arc<dyn Blobs>,
    plan: Box<dyn Fn(BlobCall) -> BlobFault + Send + Sync>,
}

impl FaultyBlobs {
    pub fn new(inner: Arc<dyn Blobs>, plan: impl Fn(BlobCall) -> BlobFault + Send + Sync + 'static) -> Self {
        Self { inner, plan: Box::new(plan) }
    }

    async fn run<T>(&self, fault: BlobFault, work: impl Future<Output = Result<T>>) -> Result<T> {
        match fault {
            BlobFault::None => work.await,
            BlobFault::Delay(time) => {
                tokio::time::sleep(time).await;
                work.await
            }
            BlobFault::Refuse | BlobFault::Lock | BlobFault::Cut(_) => Err(injected()),
            BlobFault::LoseAnswer => work.await.and_then(|_| Err(injected())),
        }
    }

    /// Separates `Cut` from the other faults: the call that returns a stream succeeds even
    /// if the stream breaks later.
    fn split_cut(&self, call: BlobCall) -> (BlobFault, Option<u64>) {
        match (self.plan)(call) {
            BlobFault::Cut(after) => (BlobFault::None, Some(after)),
            fault => (fault, None),
        }
    }
}

fn injected() -> Error {
    Error::unavailable("injected fault")
}

/// Yields the first `after` bytes, then an error.
fn cut(content: Content, after: Option<u64>) -> Content {
    let Some(after) = after else { return content };
    let kept = content.scan(after, |left, piece| {
        if *left == 0 {
            return future::ready(None);
        }
        let piece = piece.map(|mut piece: Bytes| {
            piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= piece.len() as u64;
            piece
        });
        future::ready(Some(piece))
    });
    kept.chain(stream::once(future::ready(Err(injected())))).boxed()
}

#[async_trait]
impl Blobs for FaultyBlobs {
    async fn presign(&self, key: &BlobKey, content_type: &str, size: Option<u64>) -> Result<PresignedUpload> {
        self.run((self.plan)(BlobCall::Presign), self.inner.presign(key, content_type, size)).await
    }

    async fn put(
        &self,
        key: &BlobKey,
        content_type: &str,
        size: Option<u64>,
        content: Content,
    ) -> Result<u64> {
        let (fault, after) = self.split_cut(BlobCall::Put);
        self.run(fault, self.inner.put(key, content_type, size, cut(content, after))).await
    }

    async fn read(&self, key: &BlobKey, range: Option<Range<u64>>) -> Result<Option<(BlobMeta, Content)>> {
        let (fault, after) = self.split_cut(BlobCall::Read);
        let found = self.run(fault, self.inner.read(key, range)).await?;
        Ok(found.map(|(meta, content)| (meta, cut(content, after))))
    }

    async fn describe(&self, key: &BlobKey) -> Result<Option<BlobMeta>> {
        self.run((self.plan)(BlobCall::Describe), self.inner.describe(key)).await
    }

    async fn delete(&self, keys: &[BlobKey]) -> Result<Vec<(BlobKey, Error)>> {
        match ((self.plan)(BlobCall::Delete), keys) {
            (BlobFault::Lock, [locked, others @ ..]) => {
                let mut left = self.inner.delete(others).await?;
                left.push((locked.clone(), Error::Setup { reason: "injected lock".to_owned() }));
                Ok(left)
            }
            (fault, keys) => self.run(fault, self.inner.delete(keys)).await,
        }
    }

    async fn list(&self, folder: &str, after: Option<&BlobKey>) -> Result<Listing> {
        self.run((self.plan)(BlobCall::List), self.inner.list(folder, after)).await
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    async fn check(pieces: &[&'static str], after: u64, expected: &str) {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        let mut seen = Vec::new();
        let end = cut(stream::iter(pieces).boxed(), Some(after))
            .try_for_each(|piece| {
                future::ready({
                    seen.extend_from_slice(&piece);
                    Ok(())
                })
            })
            .await;
        assert!(end.is_err(), "a cut stream ends in an error");
        assert_eq!(seen, expected.as_bytes());
    }

    #[tokio::test]
    async fn a_cut_stream_yields_the_first_bytes_and_an_error() {
        check(&["abc", "def"], 0, "").await;
        check(&["abc", "def"], 2, "ab").await;
        check(&["abc", "", "def"], 3, "abc").await;
        check(&["abc", "def"], 4, "abcd").await;
        check(&["abc", "def"], 9, "abcdef").await;
    }
}
