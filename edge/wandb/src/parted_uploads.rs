//! Uploads of large files of artifacts in parts. A client says how many parts it sends, and not how large the file is.

use futures::TryStreamExt;
use matyan_channels::{MAX_PARTS, PartedFile, misnumbered_part};
use serde_json::{Value, json};

use crate::call::CallContext;
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
    let numbers = parts.iter().map(|part| part.integer("partNumber").map(Option::unwrap_or_default));
    if let Some(number) = misnumbered_part(&numbers.collect::<Result<Vec<i64>>>()?) {
        return Err(WandbError::invalid(format!(
            "`{field}` has {count} members, so `partNumber` must be each number from 1 to {count}, once: found {number}"
        )));
    }
    Ok((count > 0).then_some(count))
}

fn parted_file(run_id: &str, path: &str) -> PartedFile {
    PartedFile { run_id: run_id.to_owned(), path: path.to_owned(), content_type: UPLOAD_TYPE.to_owned() }
}

/// Begins an upload, and signs a URL for each part. Null if the blob store wants headers that clients do not send with
/// parts: they then send the file at once.
pub(crate) async fn begin(context: &CallContext, run_id: &str, path: &str, count: usize) -> Result<Value> {
    let file = parted_file(run_id, path);
    let upload_id = file.begin(&context.channels, count).await?;
    let mut signed = file.signed_parts(&context.channels, &upload_id, count);
    let mut parts = Vec::with_capacity(count);
    while let Some(part) = signed.try_next().await? {
        if !part.headers.is_empty() {
            return Ok(Value::Null);
        }
        let url = absolute(context, part.upload_url);
        parts.push(json!({"partNumber": parts.len() + 1, "uploadUrl": url}));
    }
    Ok(json!({"uploadID": upload_id, "uploadUrlParts": parts}))
}

/// Joins the parts of a file, or discards them. May be repeated.
pub(crate) async fn end(context: &CallContext, run_id: &str, path: &str, input: &Arguments) -> Result<()> {
    let upload_id = input.required("uploadID")?;
    let count = part_count(input, "completedParts")?;
    let file = parted_file(run_id, path);
    if input.required("completeMultipartAction")? != COMPLETE {
        return Ok(file.abort(&context.channels, upload_id, count.unwrap_or(1)).await?);
    }
    let count =
        count.ok_or_else(|| WandbError::invalid("`completedParts` is empty: send the parts again"))?;
    file.complete(&context.channels, upload_id, count).await?;
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
