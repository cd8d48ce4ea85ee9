//! Issues a URL for one upload. Needs neither the log nor stored data.

use matyan_proto::ingest::v1 as pb;

use crate::{convert::PresignCommand, error::Result, upload::Uploads};

pub(crate) async fn presign(uploads: &Uploads, request: PresignCommand) -> Result<pb::PresignResponse> {
    let upload = uploads.blobs.presign(&request.key, &request.content_type).await?;
    uploads.metrics.presigns.inc();
    Ok(pb::PresignResponse {
        upload_url: upload.url,
        key: request.reference,
        headers: upload.headers.into_iter().collect(),
        expires_s: upload.expires.as_secs().try_into().unwrap_or(u32::MAX),
    })
}
