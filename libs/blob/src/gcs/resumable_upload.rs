//! A resumable upload: its parts are sent in sequence to a session URL, and the blob exists
//! once the last part has arrived.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::signer::Method;

use super::api::{self, Api, ApiRequest};
use crate::{Result, bucket::PartUpload};

/// Status by which the store confirms a part and expects more.
const RESUME_INCOMPLETE: u16 = 308;

const DISCARDING: &str = "discarding an upload";

pub(super) struct ResumableUpload {
    api: Arc<Api>,
    session: String,
    sent: u64,
}

impl ResumableUpload {
    pub(super) fn new(api: Arc<Api>, session: &str) -> Self {
        Self { api, session: session.to_owned(), sent: 0 }
    }

    async fn send(&mut self, part: Bytes, is_last: bool) -> Result<()> {
        let end = self.sent + part.len() as u64;
        let total = if is_last { end.to_string() } else { "*".to_owned() };
        // An empty last part only announces the total size.
        let range = if end == self.sent {
            format!("bytes */{total}")
        } else {
            format!("bytes {}-{}/{total}", self.sent, end - 1)
        };
        let mut request = ApiRequest::new(Method::PUT, self.session.clone());
        request.header("content-range", &range);
        request.body(part);
        let answer = self.api.send("writing a part of a blob", &request).await?;
        match answer.status().as_u16() {
            200..300 if is_last => {}
            RESUME_INCOMPLETE if !is_last => {}
            _ => return Err(api::failure("writing a part of a blob", &self.api.bucket, answer).await),
        }
        self.sent = end;
        Ok(())
    }
}

#[async_trait]
impl PartUpload for ResumableUpload {
    async fn put(&mut self, part: Bytes) -> Result<()> {
        self.send(part, false).await
    }

    async fn finish(&mut self, last: Bytes) -> Result<()> {
        self.send(last, true).await
    }

    async fn discard(&mut self) -> Result<()> {
        let answer =
            self.api.send(DISCARDING, &ApiRequest::new(Method::DELETE, self.session.clone())).await?;
        if api::is_temporary(&answer) {
            return Err(api::failure(DISCARDING, &self.api.bucket, answer).await);
        }
        // Any other status means that the upload no longer exists; a cancellation has its own status.
        Ok(())
    }
}
