//! Uploads of large artifacts in parts, which clients send to signed URLs. A client says how many parts it sends, and
//! not how large the file is.
//!
//! Clients do this only if the server asks for it, because the parts still have to be joined at the end. A
//! file that is sent as a whole is stored right away.

use bytes::Bytes;
use futures::TryStreamExt;
use matyan_channels::{Channels, MAX_PARTS, PartedFile, misnumbered_part};
use matyan_proto::ingest::v1::BlobRef;
use matyan_proto::ingest::v1::event::Kind;
use serde_json::{Value, json};

use crate::artifact_path::ArtifactPath;
use crate::artifacts::{check_stored_path, ensure_run, locate};
use crate::batch::{RunBatch, publish_patiently};
use crate::error::{ErrorCode, MlflowError, Result};
use crate::fields::{Fields, missing};

/// The field with the folder of the artifact, from the path of the request.
pub(crate) const FOLDER: &str = "folder";

/// The artifact that a client uploads: it sends the folder, and the path of its own file.
async fn target(channels: &Channels, fields: &Fields) -> Result<PartedFile> {
    let file = fields.required("path")?;
    let name = file.rsplit(['/', '\\']).next().unwrap_or_default();
    if name.is_empty() {
        return Err(MlflowError::invalid("`path` names a folder: send the path of a file"));
    }
    let folder = fields.required(FOLDER)?;
    let artifact = locate(channels, ArtifactPath::parse(&format!("{folder}/{name}"))?).await?;
    check_stored_path(&artifact)?;
    ensure_run(channels, &artifact.run_id).await?;
    Ok(PartedFile { run_id: artifact.run_id, path: artifact.path, content_type: String::new() })
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
    let file = target(channels, fields).await?;
    let upload_id = file.begin(channels, count).await?;
    let mut signed = file.signed_parts(channels, &upload_id, count);
    let mut credentials = Vec::with_capacity(count);
    while let Some(part) = signed.try_next().await? {
        let url = absolute(origin, part.upload_url)?;
        let part_number = credentials.len() + 1;
        credentials.push(json!({"url": url, "part_number": part_number, "headers": part.headers}));
    }
    Ok(json!({"upload_id": upload_id, "credentials": credentials}))
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
    let numbers = parts
        .iter()
        .map(|part| part.integer("part_number")?.ok_or_else(|| missing("parts.part_number")))
        .collect::<Result<Vec<i64>>>()?;
    if let Some(number) = misnumbered_part(&numbers) {
        return Err(MlflowError::invalid(format!(
            "`parts` has {count} members, so `part_number` must be each number from 1 to {count}, once: found {number}"
        )));
    }
    Ok(count)
}

/// Joins the parts to an artifact, and announces it to its run. May be repeated.
pub(crate) async fn complete(channels: &Channels, fields: &Fields) -> Result<Value> {
    let count = part_count(&fields.objects("parts")?)?;
    let file = target(channels, fields).await?;
    let completed = file.complete(channels, fields.required("upload_id")?, count).await?;
    let mut batch = RunBatch::default();
    let reference = BlobRef {
        key: completed.key,
        path: file.path,
        content_type: String::new(),
        size: Some(completed.size),
        content_hash: Bytes::new(),
    };
    batch.add(Kind::BlobRef(reference), None);
    publish_patiently(channels, &file.run_id, batch).await?;
    Ok(json!({}))
}

/// Discards the parts. Clients do not say how many there are.
pub(crate) async fn abort(channels: &Channels, fields: &Fields) -> Result<Value> {
    let file = target(channels, fields).await?;
    file.abort(channels, fields.required("upload_id")?, 1).await?;
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
