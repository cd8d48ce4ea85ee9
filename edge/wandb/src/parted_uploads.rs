//! Uploads of large files of artifacts in parts. A client says how many parts it sends, and not how large the file is.

use futures::future::try_join_all;
use matyan_channels::MAX_PARTS;
use matyan_proto::ingest::v1::{
    AbortUploadRequest, BeginUploadRequest, CompleteUploadRequest, PartedUpload, PresignPartRequest,
};
use serde_json::{Value, json};

use crate::call::{CALLS_AT_A_TIME, CallContext};
use crate::error::{Result, WandbError};
use crate::files::{UPLOAD_TYPE, absolute};
use crate::node::Arguments;

/// The action of a client that has sent all parts.
const COMPLETE: &str = "Complete";

/// The number of parts that a client sends; `None` if it sends a file at once.
pub(crate) fn part_count(input: &Arguments, field: &str) -> Result<Option<usize>> {
    let parts = input.objects(field)?;
    let count = parts.len();
    if count > MAX_PARTS {
        return Err(WandbError::invalid(format!(
            "`{field}` has more than {MAX_PARTS} members: send larger parts"
        )));
    }
    let mut is_sent = vec![false; count];
    for part in parts {
        let number = part.integer("partNumber")?.unwrap_or_default();
        let place = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        match place.and_then(|place| is_sent.get_mut(place)) {
            Some(is_sent) if !*is_sent => *is_sent = true,
            _ => {
                return Err(WandbError::invalid(format!(
                    "`{field}` has {count} members, so `partNumber` must be each number from 1 to {count}, once: found \
                     {number}"
                )));
            }
        }
    }
    Ok((count > 0).then_some(count))
}

fn upload(run_id: &str, path: &str, upload_id: &str, part_count: usize) -> Option<PartedUpload> {
    Some(PartedUpload {
        upload_id: upload_id.to_owned(),
        run_id: run_id.to_owned(),
        artifact_path: path.to_owned(),
        content_type: UPLOAD_TYPE.to_owned(),
        part_count: u32::try_from(part_count).unwrap_or(u32::MAX),
        ..PartedUpload::default()
    })
}

/// Begins an upload, and signs a URL for each part. Null if the blob store wants headers that clients do not send with
/// parts: they then send the file at once.
pub(crate) async fn begin(context: &CallContext, run_id: &str, path: &str, count: usize) -> Result<Value> {
    let mut ingest = context.channels.ingest();
    let request = BeginUploadRequest {
        run_id: run_id.to_owned(),
        artifact_path: path.to_owned(),
        content_type: UPLOAD_TYPE.to_owned(),
        part_count: u32::try_from(count).unwrap_or(u32::MAX),
        ..BeginUploadRequest::default()
    };
    let upload_id = ingest.begin_upload(request).await?.into_inner().upload_id;
    let numbers: Vec<u32> = (1..).take(count).collect();
    let mut parts = Vec::with_capacity(count);
    for numbers in numbers.chunks(CALLS_AT_A_TIME) {
        let requests = numbers.iter().map(|number| PresignPartRequest {
            upload: upload(run_id, path, &upload_id, count),
            part_number: *number,
        });
        let urls = try_join_all(requests.map(|request| sign(context, request))).await?;
        for (part_number, url) in numbers.iter().zip(urls) {
            let Some(url) = url else { return Ok(Value::Null) };
            parts.push(json!({"partNumber": part_number, "uploadUrl": url}));
        }
    }
    Ok(json!({"uploadID": upload_id, "uploadUrlParts": parts}))
}

/// Signs a URL for a part; `None` if the blob store wants headers.
async fn sign(context: &CallContext, request: PresignPartRequest) -> Result<Option<String>> {
    let signed = context.channels.ingest().presign_part(request).await?.into_inner();
    Ok(signed.headers.is_empty().then(|| absolute(context, signed.upload_url)))
}

/// Joins the parts of a file, or discards them. May be repeated.
pub(crate) async fn end(context: &CallContext, run_id: &str, path: &str, input: &Arguments) -> Result<()> {
    let upload_id = input.required("uploadID")?;
    let count = part_count(input, "completedParts")?;
    let mut ingest = context.channels.ingest();
    if input.required("completeMultipartAction")? != COMPLETE {
        let upload = upload(run_id, path, upload_id, count.unwrap_or(1));
        ingest.abort_upload(AbortUploadRequest { upload }).await?;
        return Ok(());
    }
    let count =
        count.ok_or_else(|| WandbError::invalid("`completedParts` is empty: send the parts again"))?;
    let upload = upload(run_id, path, upload_id, count);
    ingest.complete_upload(CompleteUploadRequest { upload, etags: Vec::new() }).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_numbered_from_one() {
        let count = |numbers: &[i64]| {
            let parts: Vec<Value> = numbers.iter().map(|number| json!({"partNumber": number})).collect();
            part_count(&Arguments::new(json!({"parts": parts})), "parts")
        };
        assert_eq!(count(&[2, 1, 3]).unwrap(), Some(3));
        assert_eq!(count(&[]).unwrap(), None);
        for wrong in [&[0][..], &[2], &[1, 1], &[-1], &[1, 3]] {
            count(wrong).expect_err("the numbers have a gap, or repeat");
        }
        assert_eq!(part_count(&Arguments::new(json!({})), "parts").unwrap(), None);
    }
}
