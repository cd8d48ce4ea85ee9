//! Uploads in parts, directly to the blob store. Needs neither the log nor stored data.

use matyan_blob::{MultipartUpload, MultipartUploads, PresignedUpload, UnsizedUpload, part_bytes};
use matyan_proto::ingest::v1 as pb;

use crate::{
    convert::{PartedUpload, UploadExtent, UploadTarget},
    error::{Error, Result},
    upload::Uploads,
};

pub(crate) async fn begin(
    uploads: &Uploads,
    target: UploadTarget,
    extent: UploadExtent,
) -> Result<pb::BeginUploadResponse> {
    let UploadTarget { key, reference, content_type, .. } = target;
    Ok(match extent {
        UploadExtent::Size(size) => pb::BeginUploadResponse {
            upload_id: uploads.blobs.begin(&key, &content_type, size).await?,
            key: reference,
            part_bytes: part_bytes(size),
            is_sequential: uploads.blobs.is_sequential(),
        },
        UploadExtent::PartCount(_) => pb::BeginUploadResponse {
            upload_id: uploads.unsized_uploads.begin(&key).await?,
            key: reference,
            part_bytes: 0,
            is_sequential: false,
        },
    })
}

pub(crate) async fn presign_part(
    uploads: &Uploads,
    upload: PartedUpload,
    part_number: u32,
) -> Result<pb::PresignPartResponse> {
    match upload {
        PartedUpload::Sized(upload) => presign_sized(uploads, upload, part_number).await,
        PartedUpload::Unsized(upload) => {
            check_number(part_number, upload.part_count)?;
            let presigned = uploads.unsized_uploads.presign_part(&upload, part_number).await?;
            Ok(presigned_part(uploads, presigned))
        }
    }
}

async fn presign_sized(
    uploads: &Uploads,
    upload: MultipartUpload,
    part_number: u32,
) -> Result<pb::PresignPartResponse> {
    check_number(part_number, upload.part_count())?;
    let part = upload.part(part_number).ok_or_else(|| no_part(upload.part_count()))?;
    let presigned = uploads.blobs.presign_part(&upload, &part).await?;
    let signed = presigned_part(uploads, presigned);
    Ok(pb::PresignPartResponse { offset: part.offset, length: part.length, ..signed })
}

fn check_number(number: u32, count: u32) -> Result<()> {
    if (1..=count).contains(&number) { Ok(()) } else { Err(no_part(count)) }
}

fn no_part(count: u32) -> Error {
    Error::field("part_number", format!("is not from 1 to {count}"))
}

fn presigned_part(uploads: &Uploads, presigned: PresignedUpload) -> pb::PresignPartResponse {
    uploads.metrics.presigns.inc();
    pb::PresignPartResponse {
        upload_url: presigned.url,
        headers: presigned.headers.into_iter().collect(),
        expires_s: presigned.expires.as_secs().try_into().unwrap_or(u32::MAX),
        ..pb::PresignPartResponse::default()
    }
}

/// Makes the blob of an upload visible, and returns its size.
pub(crate) async fn complete(uploads: &Uploads, upload: PartedUpload, etags: Vec<String>) -> Result<u64> {
    match upload {
        PartedUpload::Sized(upload) => complete_sized(uploads, &upload, &etags).await,
        PartedUpload::Unsized(upload) => join(uploads, upload, &etags).await,
    }
}

async fn complete_sized(uploads: &Uploads, upload: &MultipartUpload, etags: &[String]) -> Result<u64> {
    check_etags(etags, upload.part_count())?;
    // The metric of uploaded bytes has counted the parts; only the upload is counted here.
    uploads.blobs.complete(upload, etags).await?;
    if uploads.signer.is_some() {
        uploads.metrics.uploads.inc();
    }
    Ok(upload.size)
}

async fn join(uploads: &Uploads, upload: UnsizedUpload, etags: &[String]) -> Result<u64> {
    if !etags.is_empty() {
        check_etags(etags, upload.part_count)?;
    }
    Ok(uploads.unsized_uploads.join(upload).await?)
}

fn check_etags(etags: &[String], count: u32) -> Result<()> {
    if etags.len() == count as usize {
        return Ok(());
    }
    Err(Error::field(
        "etags",
        format!("has {} entries for {count} parts: send one for each part", etags.len()),
    ))
}

pub(crate) async fn abort(uploads: &Uploads, upload: PartedUpload) -> Result<pb::AbortUploadResponse> {
    match upload {
        PartedUpload::Sized(upload) => uploads.blobs.abort(&upload).await?,
        PartedUpload::Unsized(upload) => uploads.unsized_uploads.abort(&upload).await?,
    }
    Ok(pb::AbortUploadResponse {})
}
