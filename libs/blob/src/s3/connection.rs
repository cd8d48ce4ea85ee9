//! A client together with the bucket that it is used for.

use std::ops::Range;

use aws_sdk_s3::{
    Client,
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    operation::get_object::builders::GetObjectFluentBuilder,
    types::{CompletedMultipartUpload, CompletedPart},
};

use super::failure::{BucketLocation, refusal};
use crate::{BlobKey, Error, Result};

pub(super) const DISCARDING: &str = "discarding an upload";

/// Clones share their connections.
#[derive(Clone)]
pub(super) struct BucketConnection {
    pub(super) client: Client,
    pub(super) location: BucketLocation,
}

impl BucketConnection {
    pub(super) fn get(&self, key: &BlobKey, range: Option<&Range<u64>>) -> GetObjectFluentBuilder {
        let request = self.client.get_object().bucket(&self.location.bucket).key(key.as_str());
        request.set_range(range.map(range_header))
    }

    /// Starts a multipart upload and returns its id.
    pub(super) async fn create_upload(&self, key: &BlobKey, content_type: Option<String>) -> Result<String> {
        let create = self.client.create_multipart_upload().bucket(&self.location.bucket).key(key.as_str());
        let created = create.set_content_type(content_type).send().await;
        let created = created.map_err(|error| self.location.failure("starting an upload", error))?;
        created
            .upload_id
            .ok_or_else(|| Error::unavailable("starting an upload failed: the response has no upload id"))
    }

    /// `parts` are in the order of their numbers.
    pub(super) async fn complete_upload(
        &self,
        key: &BlobKey,
        id: &str,
        parts: Vec<CompletedPart>,
    ) -> Result<()> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts));
        let complete = self.client.complete_multipart_upload().bucket(&self.location.bucket);
        match complete.key(key.as_str()).upload_id(id).multipart_upload(parts.build()).send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(match refusal(&error).as_ref().map(|refusal| refusal.code.as_str()) {
                Some("NoSuchUpload") => Error::NoUpload,
                Some("InvalidPart" | "InvalidPartOrder" | "EntityTooSmall") => {
                    Error::PartsMissing { reason: "the store has other parts than the request".to_owned() }
                }
                _ => self.location.failure("finishing an upload", error),
            }),
        }
    }

    pub(super) async fn abort_upload(&self, key: &BlobKey, id: &str) -> Result<()> {
        let abort = self.client.abort_multipart_upload().bucket(&self.location.bucket);
        match abort.key(key.as_str()).upload_id(id).send().await {
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(self.location.failure(DISCARDING, error)),
            Ok(_) => Ok(()),
        }
    }
}

pub(super) fn is_missing<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    refusal(error).is_some_and(|refusal| refusal.status == 404)
}

fn range_header(Range { start, end }: &Range<u64>) -> String {
    // Servers parse the end as a signed integer.
    match i64::try_from(*end) {
        Ok(end) => format!("bytes={start}-{}", end - 1),
        Err(_) => format!("bytes={start}-"),
    }
}
