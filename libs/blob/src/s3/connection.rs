//! A client together with the bucket that it is used for.

use std::ops::Range;

use aws_sdk_s3::{Client, operation::get_object::builders::GetObjectFluentBuilder};

use super::failure::BucketLocation;
use crate::BlobKey;

/// Clones share their connections.
#[derive(Clone)]
pub(super) struct BucketConnection {
    pub(super) client: Client,
    pub(super) location: BucketLocation,
}

impl BucketConnection {
    pub(super) fn get(&self, key: &BlobKey, range: Option<&Range<u64>>) -> GetObjectFluentBuilder {
        let request = self.client.get_object().bucket(&self.location.bucket).key(key.as_str());
        request.set_range(range.map(range_header))
    }
}

fn range_header(Range { start, end }: &Range<u64>) -> String {
    // Servers parse the end as a signed integer.
    match i64::try_from(*end) {
        Ok(end) => format!("bytes={start}-{}", end - 1),
        Err(_) => format!("bytes={start}-"),
    }
}
