//! Deletion of many blobs: temporary failures are retried with back-off, and the remaining ones
//! are returned.

use super::{
    Bucket,
    connect::{ATTEMPTS, FIRST_BACKOFF},
};
use crate::{BlobKey, Error};

pub(super) async fn delete<B: Bucket>(bucket: &B, keys: &[BlobKey]) -> Vec<(BlobKey, Error)> {
    let mut lasting = Vec::new();
    let mut left = keys.to_vec();
    let mut attempt = 1;
    loop {
        let failed = if left.is_empty() { Vec::new() } else { bucket.delete(&left).await };
        let (again, final_ones): (Vec<_>, Vec<_>) =
            failed.into_iter().partition(|(_, error)| attempt < ATTEMPTS && error.is_temporary());
        lasting.extend(final_ones);
        if again.is_empty() {
            return lasting;
        }
        tracing::debug!(count = again.len(), attempt, "retrying deletions that the store refused");
        tokio::time::sleep(FIRST_BACKOFF * 4_u32.pow(attempt - 1)).await;
        left = again.into_iter().map(|(key, _)| key).collect();
        attempt += 1;
    }
}
