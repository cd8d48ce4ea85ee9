//! Uploads of large artifacts in parts, which clients send to signed URLs. A client says how many parts it sends, and
//! not how large the file is.
//!
//! Clients do this only if they are told to, because the parts still have to be joined at the end. A file
//! that is sent as a whole is stored right away.

use bytes::Bytes;
use futures::future::try_join_all;
use matyan_channels::{CALLS_AT_A_TIME, Channels, MAX_PARTS};
use matyan_proto::ingest::v1::event::Kind;
use matyan_proto::ingest::v1::{
    AbortUploadRequest, BeginUploadRequest, BlobRef, CompleteUploadRequest, PartedUpload, PresignPartRequest,
};
use serde_json::{Value, json};

use crate::artifact_path::ArtifactPath;
use crate::artifacts::{StoredArtifact, check_stored_path, ensure_run, locate};
use crate::batch::{RunBatch, publish_patiently};
use crate::error::{ErrorCode, MlflowError, Result};
use crate::fields::{Fields, missing};

/// The field with the folder of the artifact, from the path of the request.
pub(crate) const FOLDER: &str = "folder";

/// The artifact that a client uploads: it sends the folder, and the path of its own file.
async fn target(channels: &Channels, fields: &Fields) -> Result<StoredArtifact> {
    let file = fields.required("path")?;
    let name = file.rsplit(['/', '\\']).next().unwrap_or_default();
    if name.is_empty() {
        return Err(MlflowError::invalid("`path` names a folder: send the path of a file"));
    }
    let folder = fields.required(FOLDER)?;
    let artifact = locate(channels, ArtifactPath::parse(&format!("{folder}/{name}"))?).await?;
    check_stored_path(&artifact)?;
    ensure_run(channels, &artifact.run_id).await?;
    Ok(artifact)
}

/// An upload as the frontier knows it.
fn upload(artifact: &StoredArtifact, upload_id: &str, part_count: usize) -> Option<PartedUpload> {
    Some(PartedUpload {
        upload_id: upload_id.to_owned(),
        run_id: artifact.run_id.clone(),
        artifact_path: artifact.path.clone(),
        part_count: u32::try_from(part_count).unwrap_or(u32::MAX),
        ..PartedUpload::default()
    })
}

fn checked_count(field: &str, count: usize) -> Result<usize> {
    if (1..=MAX_PARTS).contains(&count) {
        return Ok(count);
    }
    Err(MlflowError::invalid(format!(
        "`{field}` has {count} parts, and an upload has 1 to {MAX_PARTS}: raise \
         MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE of the client"
    )))
}

/// Begins an upload, and signs a URL for each part. Relative URLs start with `origin`.
pub(crate) async fn create(channels: &Channels, origin: Option<&str>, fields: &Fields) -> Result<Value> {
    let count = fields.integer("num_parts")?.ok_or_else(|| missing("num_parts"))?;
    let count = checked_count("num_parts", usize::try_from(count).unwrap_or_default())?;
    let artifact = target(channels, fields).await?;
    let request = BeginUploadRequest {
        run_id: artifact.run_id.clone(),
        artifact_path: artifact.path.clone(),
        part_count: u32::try_from(count).unwrap_or(u32::MAX),
        ..BeginUploadRequest::default()
    };
    let upload_id = channels.ingest().begin_upload(request).await?.into_inner().upload_id;
    let mut credentials = Vec::with_capacity(count);
    let numbers: Vec<u32> = (1..).take(count).collect();
    for numbers in numbers.chunks(CALLS_AT_A_TIME) {
        let requests = numbers.iter().map(|number| PresignPartRequest {
            upload: upload(&artifact, &upload_id, count),
            part_number: *number,
        });
        credentials.extend(try_join_all(requests.map(|request| sign(channels, origin, request))).await?);
    }
    Ok(json!({"upload_id": upload_id, "credentials": credentials}))
}

/// Signs a URL for a part, as MLflow shows it.
async fn sign(channels: &Channels, origin: Option<&str>, request: PresignPartRequest) -> Result<Value> {
    let part_number = request.part_number;
    let signed = channels.ingest().presign_part(request).await?.into_inner();
    let url = absolute(origin, signed.upload_url)?;
    Ok(json!({"url": url, "part_number": part_number, "headers": signed.headers}))
}

/// A relative URL points to this server, as seen by the client.
fn absolute(origin: Option<&str>, url: String) -> Result<String> {
    if !url.starts_with('/') {
        return Ok(url);
    }
    let origin =
        origin.ok_or_else(|| MlflowError::new(ErrorCode::BadRequest, "the request has no Host header"))?;
    Ok(origin.to_owned() + &url)
}

/// Checks that the parts are numbered from one without gaps, in any order, and returns their number.
fn part_count(parts: &[Fields]) -> Result<usize> {
    let count = checked_count("parts", parts.len())?;
    let mut is_sent = vec![false; count];
    for part in parts {
        let number = part.integer("part_number")?.ok_or_else(|| missing("parts.part_number"))?;
        let place = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        match place.and_then(|place| is_sent.get_mut(place)) {
            Some(is_sent) if !*is_sent => *is_sent = true,
            _ => {
                return Err(MlflowError::invalid(format!(
                    "`parts` has {count} members, so `part_number` must be each number from 1 to {count}, once: found \
                     {number}"
                )));
            }
        }
    }
    Ok(count)
}

/// Joins the parts to an artifact, and announces it to its run. May be repeated.
pub(crate) async fn complete(channels: &Channels, fields: &Fields) -> Result<Value> {
    let count = part_count(&fields.objects("parts")?)?;
    let artifact = target(channels, fields).await?;
    let upload = upload(&artifact, fields.required("upload_id")?, count);
    let request = CompleteUploadRequest { upload, etags: Vec::new() };
    let completed = channels.ingest().complete_upload(request).await?.into_inner();
    let mut batch = RunBatch::default();
    let reference = BlobRef {
        key: completed.key,
        path: artifact.path,
        content_type: String::new(),
        size: Some(completed.size),
        content_hash: Bytes::new(),
    };
    batch.add(Kind::BlobRef(reference), None);
    publish_patiently(channels, &artifact.run_id, batch).await?;
    Ok(json!({}))
}

/// Discards the parts. Clients do not say how many there are.
pub(crate) async fn abort(channels: &Channels, fields: &Fields) -> Result<Value> {
    let artifact = target(channels, fields).await?;
    let upload = upload(&artifact, fields.required("upload_id")?, 1);
    channels.ingest().abort_upload(AbortUploadRequest { upload }).await?;
    Ok(json!({}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(numbers: &[i64]) -> Vec<Fields> {
        numbers
            .iter()
            .map(|number| Fields::of_json(json!({"part_number": number}).to_string().as_bytes()).unwrap())
            .collect()
    }

    #[test]
    fn parts_are_numbered_from_one() {
        assert_eq!(part_count(&parts(&[1])).unwrap(), 1);
        assert_eq!(part_count(&parts(&[2, 3, 1])).unwrap(), 3);
        for wrong in [&[][..], &[0], &[2], &[1, 1], &[-1], &[1, 3]] {
            part_count(&parts(wrong)).expect_err("the numbers have a gap, or repeat");
        }
        part_count(&[Fields::default()]).expect_err("the number is missing");
        assert!(checked_count("num_parts", MAX_PARTS + 1).is_err());
    }

    #[test]
    fn urls_of_this_server_are_absolute() {
        let url = |text: &str| absolute(Some("http://host:1"), text.to_owned()).unwrap();
        assert_eq!(url("/api/v1/rest/blobs/a"), "http://host:1/api/v1/rest/blobs/a");
        assert_eq!(url("https://bucket/a"), "https://bucket/a");
        absolute(None, "/a".to_owned()).unwrap_err();
    }
}
