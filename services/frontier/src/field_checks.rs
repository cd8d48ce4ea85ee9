//! Checks of fields that requests and events have in common.

use matyan_blob::{BlobKey, is_reserved_path};
use matyan_proto::limits;

pub(crate) fn artifact_path_check(path: &str) -> Result<(), String> {
    if path.len() > limits::ARTIFACT_PATH_BYTES {
        return Err(longer_than(limits::ARTIFACT_PATH_BYTES));
    }
    if is_reserved_path(path) {
        return Err("begins with a reserved folder".into());
    }
    match BlobKey::new(path) {
        Ok(_) => Ok(()),
        Err(matyan_blob::Error::BadKey { reason, .. }) => {
            Err(format!("is not a path inside the run: {reason}"))
        }
        Err(error) => Err(error.to_string()),
    }
}

pub(crate) fn content_type_check(content_type: &str) -> Result<(), String> {
    if content_type.len() > limits::CONTENT_TYPE_BYTES {
        return Err(longer_than(limits::CONTENT_TYPE_BYTES));
    }
    if content_type.chars().any(char::is_control) {
        return Err("contains a control character".into());
    }
    Ok(())
}

pub(crate) fn longer_than(limit: usize) -> String {
    format!("is longer than {limit} bytes")
}
