//! Health check of a blob store, shared by all services. A missing bucket is reported with the
//! wording of Matyan 0.3.

use crate::{Blobs, Error};

/// Always empty, because no run with blobs has this name.
const PROBE_FOLDER: &str = ".ready/";

/// Returns the problem, if there is one. Uses a listing because it fails without the bucket, while
/// describing a blob would only report that the blob does not exist.
pub async fn probe(blobs: &dyn Blobs) -> Result<(), String> {
    match blobs.list(PROBE_FOLDER, None).await {
        Ok(_) => Ok(()),
        Err(Error::NoBucket { what, .. }) => Err(format!("{what} not found")),
        Err(error) => Err(error.to_string()),
    }
}
