//! One S3 bucket: one request per operation.

use std::{ops::Range, time::Duration};

use async_trait::async_trait;
use aws_sdk_s3::{
    Client,
    presigning::PresigningConfig,
    primitives::DateTime,
    types::{CompletedPart, Object},
};
use bytes::Bytes;

use super::{
    client::{self, system_time},
    connection::BucketConnection,
    delete,
    failure::refusal,
    multipart_upload::S3Upload,
    resumable_read::ResumableRead,
};
use crate::{
    BlobKey, BlobMeta, Clock, Content, Error, ListedBlob, MAX_PAGE, MultipartUpload, Part, PresignedUpload,
    Result,
    bucket::{Bucket, BucketPage, PartUpload, connect::unavailable},
};

/// Longest time between the start and the end of an upload in parts: half of the age at which
/// blobs without references are deleted.
const LONGEST_UPLOAD_US: i64 = 84 * 3_600_000_000;

pub(super) struct S3Bucket {
    pub(super) connection: BucketConnection,
    /// May use a different endpoint than the connection does.
    pub(super) signer: Client,
    pub(super) clock: Clock,
}

/// Truncated to seconds, the precision of some S3 responses.
fn modified_us(time: Option<&DateTime>) -> i64 {
    time.map_or(0, |time| time.secs() * 1_000_000)
}

fn length(length: Option<i64>) -> Result<u64> {
    let length = length.and_then(|length| u64::try_from(length).ok());
    length.ok_or_else(|| Error::unavailable("the response of S3 has no blob size"))
}

/// Returns the size of the whole blob, taken from `bytes 0-9/1234` in the response to a range
/// request.
fn whole_size(content_range: Option<&str>, content_length: Option<i64>) -> Result<u64> {
    match content_range.and_then(|range| range.rsplit_once('/')) {
        Some((_, size)) => size.parse().map_err(|error| unavailable("reading a size", error)),
        None => length(content_length),
    }
}

fn listed(object: &Object) -> Result<(BlobKey, ListedBlob)> {
    let key = BlobKey::new(object.key().unwrap_or_default())?;
    let size = length(object.size())?;
    Ok((key, ListedBlob { size, modified_us: modified_us(object.last_modified()) }))
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl S3Bucket {
    fn presigning(&self, lifetime: Duration) -> Result<PresigningConfig> {
        let config =
            PresigningConfig::builder().start_time(system_time(&self.clock)).expires_in(lifetime).build();
        config.map_err(|error| Error::Setup {
            reason: format!("S3 signs no URL for that long: reduce S3_PRESIGN_EXPIRY: {error}"),
        })
    }
}

#[async_trait]
impl Bucket for S3Bucket {
    async fn presign(&self, key: &BlobKey, size: Option<u64>, lifetime: Duration) -> Result<PresignedUpload> {
        let config = self.presigning(lifetime)?;
        let put = self.signer.put_object().bucket(&self.connection.location.bucket).key(key.as_str());
        // Every PUT has this header, so a client need not know that it is signed. S3 stores at most 5 GiB by one PUT.
        let length = size.map(|size| i64::try_from(size).unwrap_or(i64::MAX));
        let signed = put.set_content_length(length).presigned(config).await;
        let signed =
            signed.map_err(|error| self.connection.location.failure("signing an upload URL", error))?;
        Ok(PresignedUpload { url: signed.uri().to_owned(), headers: Vec::new(), expires: lifetime })
    }

    async fn get(&self, key: &BlobKey, range: Option<Range<u64>>) -> Result<Option<(BlobMeta, Content)>> {
        let answer = match self.connection.get(key, range.as_ref()).send().await {
            Ok(answer) => answer,
            Err(error) if error.as_service_error().is_some_and(|error| error.is_no_such_key()) => {
                return Ok(None);
            }
            Err(error) => return Err(self.connection.location.failure("reading a blob", error)),
        };
        let meta = BlobMeta {
            size: whole_size(answer.content_range(), answer.content_length())?,
            content_type: answer.content_type().unwrap_or_default().to_owned(),
            modified_us: modified_us(answer.last_modified()),
            version: answer.e_tag().unwrap_or_default().to_owned(),
        };
        // `ResumableRead` resumes by absolute offsets.
        let start = range.map_or(0, |range| range.start);
        let rest = start..start + length(answer.content_length())?;
        let read = ResumableRead {
            bucket: self.connection.clone(),
            key: key.clone(),
            version: answer.e_tag,
            body: answer.body,
            rest,
        };
        Ok(Some((meta, read.content())))
    }

    async fn head(&self, key: &BlobKey) -> Result<Option<BlobMeta>> {
        let head =
            self.connection.client.head_object().bucket(&self.connection.location.bucket).key(key.as_str());
        match head.send().await {
            Ok(answer) => Ok(Some(BlobMeta {
                size: length(answer.content_length())?,
                content_type: answer.content_type().unwrap_or_default().to_owned(),
                modified_us: modified_us(answer.last_modified()),
                version: answer.e_tag().unwrap_or_default().to_owned(),
            })),
            // A HEAD response has no body, so a missing bucket looks the same as a missing blob.
            Err(error) if refusal(&error).is_some_and(|refusal| refusal.status == 404) => Ok(None),
            Err(error) => Err(self.connection.location.failure("describing a blob", error)),
        }
    }

    async fn put(&self, key: &BlobKey, content_type: &str, content: Bytes) -> Result<()> {
        let put =
            self.connection.client.put_object().bucket(&self.connection.location.bucket).key(key.as_str());
        let sending = client::with_content_timeout(content.len());
        let put = put.set_content_type(non_empty(content_type)).body(content.into());
        let put = put.customize().config_override(sending).send().await;
        put.map(drop).map_err(|error| self.connection.location.put_failure(error))
    }

    async fn put_parts(&self, key: &BlobKey, content_type: &str) -> Result<Box<dyn PartUpload>> {
        let id = self.connection.create_upload(key, non_empty(content_type)).await?;
        Ok(Box::new(S3Upload::new(self.connection.clone(), key.clone(), id)))
    }

    async fn delete(&self, keys: &[BlobKey]) -> Vec<(BlobKey, Error)> {
        let mut left = Vec::new();
        for page in keys.chunks(MAX_PAGE) {
            left.extend(delete::delete(&self.connection, page).await);
        }
        left
    }

    async fn list(&self, folder: &str, after: Option<&BlobKey>) -> Result<BucketPage> {
        let mut page = BucketPage::default();
        let mut token = None;
        loop {
            let list = self
                .connection
                .client
                .list_objects_v2()
                .bucket(&self.connection.location.bucket)
                .set_prefix(non_empty(folder));
            let list = list.set_start_after(after.map(|key| key.as_str().to_owned()));
            let answer = list.set_continuation_token(token).send().await;
            let answer = answer.map_err(|error| self.connection.location.failure("listing blobs", error))?;
            for object in answer.contents() {
                match listed(object) {
                    Ok((key, listed)) if after.is_none_or(|after| key > *after) => {
                        page.blobs.push((key, listed));
                    }
                    Ok(_) => {}
                    Err(error @ Error::BadKey { .. }) => {
                        tracing::warn!(%error, "skipped an object with an invalid key in a listing");
                    }
                    Err(error) => return Err(error),
                }
            }
            token = answer.next_continuation_token;
            page.more = token.is_some();
            // A response may have no matching keys although more follow.
            if !page.more || !page.blobs.is_empty() {
                return Ok(page);
            }
        }
    }

    const SEQUENTIAL_PARTS: bool = false;

    async fn begin(&self, key: &BlobKey, content_type: &str, _size: u64) -> Result<String> {
        self.connection.create_upload(key, non_empty(content_type)).await
    }

    async fn presign_part(
        &self,
        upload: &MultipartUpload,
        part: &Part,
        lifetime: Duration,
    ) -> Result<PresignedUpload> {
        let config = self.presigning(lifetime)?;
        let number = i32::try_from(part.number).expect("an upload has at most ten thousand parts");
        let put = self.signer.upload_part().bucket(&self.connection.location.bucket);
        let put = put.key(upload.key.as_str()).upload_id(&upload.id).part_number(number);
        let length = i64::try_from(part.length).expect("S3 stores at most 5 GiB in a part");
        let signed = put.content_length(length).presigned(config).await;
        let signed =
            signed.map_err(|error| self.connection.location.failure("signing the URL of a part", error))?;
        Ok(PresignedUpload { url: signed.uri().to_owned(), headers: Vec::new(), expires: lifetime })
    }

    async fn complete(&self, upload: &MultipartUpload, etags: &[String]) -> Result<()> {
        let parts = (1..).zip(etags).map(|(number, etag)| {
            CompletedPart::builder().part_number(number).set_e_tag(non_empty(etag)).build()
        });
        self.connection.complete_upload(&upload.key, &upload.id, parts.collect()).await
    }

    /// S3 dates a blob by the start of its upload.
    fn took_too_long(&self, completed: &BlobMeta) -> bool {
        let oldest_us = (self.clock)().saturating_sub(LONGEST_UPLOAD_US);
        // Without a date, it is 0.
        (1..oldest_us).contains(&completed.modified_us)
    }

    async fn abort(&self, upload: &MultipartUpload) -> Result<()> {
        self.connection.abort_upload(&upload.key, &upload.id).await
    }
}
