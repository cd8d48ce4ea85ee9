//! Whether a store of blobs can be used, as every service tells it: of a bucket that is missing in the words of Matyan 0.3.

use crate::{Blobs, Error};

/// Nothing lies there, as no run is called so that has a blob.
const PROBED: &str = ".ready/";

/// Or what is wrong. A list needs the bucket, where a look at a blob would only say that there is none.
pub async fn probe(blobs: &dyn Blobs) -> Result<(), String> {
    match blobs.list(PROBED, None).await {
        Ok(_) => Ok(()),
        Err(Error::NoBucket { what, .. }) => Err(format!("{what} not found")),
        Err(error) => Err(error.to_string()),
    }
}
