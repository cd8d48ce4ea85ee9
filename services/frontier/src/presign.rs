//! Issues a URL for one upload. Needs neither the log nor stored data.

use matyan_blob::Blobs;
use matyan_proto::ingest::v1 as pb;

use crate::{convert::UploadTarget, error::Result, upload::Uploads};

pub(crate) async fn presign(uploads: &Uploads, target: UploadTarget) -> Result<pb::PresignResponse> {
    let upload = uploads.blobs.presign(&target.key, &target.content_type, target.size).await?;
    uploads.metrics.presigns.inc();
    Ok(pb::PresignResponse {
        upload_url: upload.url,
        key: target.reference,
        headers: upload.headers.into_iter().collect(),
        expires_s: upload.expires.as_secs().try_into().unwrap_or(u32::MAX),
    })
}
