//! A multipart upload with several parts in flight, to hide the latency of a distant store.
//! Each part is a task, so that it makes progress while the next is still being collected.

use async_trait::async_trait;
use aws_sdk_s3::types::CompletedPart;
use bytes::Bytes;
use tokio::task::JoinSet;

use super::{
    client,
    connection::{BucketConnection, DISCARDING, is_missing},
};
use crate::{
    BlobKey, Error, Result,
    bucket::{
        PartUpload,
        connect::{ATTEMPTS, CONCURRENT_PARTS},
    },
};

pub(super) struct S3Upload {
    bucket: BucketConnection,
    key: BlobKey,
    id: String,
    in_flight: JoinSet<Result<CompletedPart>>,
    done: Vec<CompletedPart>,
    /// Number of parts started; part numbers start at one.
    count: i32,
}

impl S3Upload {
    pub(super) fn new(bucket: BucketConnection, key: BlobKey, id: String) -> Self {
        Self { bucket, key, id, in_flight: JoinSet::new(), done: Vec::new(), count: 0 }
    }

    /// Waits until no more than `at_most` parts are in flight.
    async fn wait(&mut self, at_most: usize) -> Result<()> {
        while self.in_flight.len() > at_most {
            let part = self.in_flight.join_next().await.expect("a part is in flight");
            self.done.push(part.expect("the task of a part neither panics nor is canceled")?);
        }
        Ok(())
    }

    fn send(&mut self, part: Bytes) {
        self.count += 1;
        let location = self.bucket.location.clone();
        let number = self.count;
        let sending = client::with_content_timeout(part.len());
        let upload = self.bucket.client.upload_part().bucket(&location.bucket).key(self.key.as_str());
        let upload = upload.upload_id(&self.id).part_number(number).body(part.into());
        self.in_flight.spawn(async move {
            let sent = upload.customize().config_override(sending).send().await;
            let sent = sent.map_err(|error| location.failure("writing a part of a blob", error))?;
            Ok(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build())
        });
    }

    /// Whether S3 still stores parts: a part that arrived during the abort may remain.
    async fn has_parts(&self) -> Result<bool> {
        let parts = self.bucket.client.list_parts().bucket(&self.bucket.location.bucket);
        match parts.key(self.key.as_str()).upload_id(&self.id).send().await {
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(self.bucket.location.failure(DISCARDING, error)),
            Ok(parts) => Ok(!parts.parts().is_empty()),
        }
    }
}

#[async_trait]
impl PartUpload for S3Upload {
    async fn put(&mut self, part: Bytes) -> Result<()> {
        self.wait(CONCURRENT_PARTS - 1).await?;
        self.send(part);
        Ok(())
    }

    async fn finish(&mut self, last: Bytes) -> Result<()> {
        // An upload needs at least one part.
        if self.count == 0 || !last.is_empty() {
            self.put(last).await?;
        }
        self.wait(0).await?;
        // Parts finish in any order, but must be listed by number.
        self.done.sort_by_key(|part| part.part_number);
        self.bucket.complete_upload(&self.key, &self.id, std::mem::take(&mut self.done)).await
    }

    async fn discard(&mut self) -> Result<()> {
        // Stops parts that would otherwise arrive after the abort.
        self.in_flight.shutdown().await;
        // An abort may miss a part that arrives at the same time.
        for _ in 0..ATTEMPTS {
            self.bucket.abort_upload(&self.key, &self.id).await?;
            if !self.has_parts().await? {
                return Ok(());
            }
        }
        Err(Error::unavailable(format!("{DISCARDING} failed: some of its parts remain")))
    }
}
