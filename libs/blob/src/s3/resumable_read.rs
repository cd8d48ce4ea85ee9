//! Content read from S3. If the connection breaks midway, the remainder is requested separately, of
//! the same version only.

use std::ops::Range;

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use futures::{StreamExt, stream};

use super::connection::BucketConnection;
use crate::{
    BlobKey, Content, Error, Result,
    bucket::connect::{ATTEMPTS, unavailable},
};

const ACTION: &str = "reading a blob";

pub(super) struct ResumableRead {
    pub(super) bucket: BucketConnection,
    pub(super) key: BlobKey,
    /// ETag of the version being read. Without one, a broken read is not resumed.
    pub(super) version: Option<String>,
    pub(super) body: ByteStream,
    /// The range still to be read.
    pub(super) rest: Range<u64>,
}

impl ResumableRead {
    pub(super) fn content(self) -> Content {
        stream::try_unfold(self, async |mut read| {
            let piece = read.next().await?;
            Ok(piece.map(|piece| (piece, read)))
        })
        .boxed()
    }

    /// Each piece gets all attempts: a blob may be so large that connections break often.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let mut attempts = ATTEMPTS;
        loop {
            let error = match self.body.try_next().await {
                Ok(Some(piece)) => {
                    self.rest.start += piece.len() as u64;
                    return Ok(Some(piece));
                }
                Ok(None) if self.rest.is_empty() => return Ok(None),
                Ok(None) => Error::unavailable(format!("{ACTION} failed: the content ends too early")),
                Err(error) => unavailable(ACTION, error),
            };
            attempts -= 1;
            if attempts == 0 || self.version.is_none() || self.rest.is_empty() {
                return Err(error);
            }
            tracing::debug!(key = %self.key, from = self.rest.start, %error, "resuming a broken read");
            self.resume().await?;
        }
    }

    async fn resume(&mut self) -> Result<()> {
        let request = self.bucket.get(&self.key, Some(&self.rest)).set_if_match(self.version.clone());
        let answer = request.send().await.map_err(|error| self.bucket.location.failure(ACTION, error))?;
        let begins = format!("bytes {}-", self.rest.start);
        if !answer.content_range().is_some_and(|range| range.starts_with(&begins)) {
            return Err(Error::unavailable(format!(
                "{ACTION} failed: the response resumes at a different offset than requested"
            )));
        }
        self.body = answer.body;
        Ok(())
    }
}
