//! Uploads in parts, directly to the blob store. Needs neither the log nor stored data.

use matyan_blob::{MultipartUpload, MultipartUploads, part_bytes};
use matyan_proto::ingest::v1 as pb;

use crate::{
    convert::UploadTarget,
    error::{Error, Result},
    upload::Uploads,
};

pub(crate) async fn begin(
    uploads: &Uploads,
    target: UploadTarget,
    size: u64,
) -> Result<pb::BeginUploadResponse> {
    let upload_id = uploads.blobs.begin(&target.key, &target.content_type, size).await?;
    Ok(pb::BeginUploadResponse {
        upload_id,
        key: target.reference,
        part_bytes: part_bytes(size),
        is_sequential: uploads.blobs.is_sequential(),
    })
}

pub(crate) async fn presign_part(
    uploads: &Uploads,
    upload: MultipartUpload,
    part_number: u32,
) -> Result<pb::PresignPartResponse> {
    let part = upload
        .part(part_number)
        .ok_or_else(|| Error::field("part_number", format!("is not from 1 to {}", upload.part_count())))?;
    let presigned = uploads.blobs.presign_part(&upload, &part).await?;
    uploads.metrics.presigns.inc();
    Ok(pb::PresignPartResponse {
        upload_url: presigned.url,
        headers: presigned.headers.into_iter().collect(),
        expires_s: presigned.expires.as_secs().try_into().unwrap_or(u32::MAX),
        offset: part.offset,
        length: part.length,
    })
}

pub(crate) async fn complete(
    uploads: &Uploads,
    upload: MultipartUpload,
    etags: Vec<String>,
) -> Result<pb::CompleteUploadResponse> {
    let count = upload.part_count() as usize;
    if etags.len() != count {
        return Err(Error::field("etags", format!("has {} entries for {count} parts", etags.len())));
    }
    // The metric of uploaded bytes has counted the parts; only the upload is counted here.
    uploads.blobs.complete(&upload, &etags).await?;
    if uploads.signer.is_some() {
        uploads.metrics.uploads.inc();
    }
    Ok(pb::CompleteUploadResponse {})
}

pub(crate) async fn abort(uploads: &Uploads, upload: MultipartUpload) -> Result<pb::AbortUploadResponse> {
    uploads.blobs.abort(&upload).await?;
    Ok(pb::AbortUploadResponse {})
}
