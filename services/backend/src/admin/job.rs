//! Jobs started by operators, under the same lock as those of workers.

use matyan_maintenance::Job;

use crate::{Context, error::Result};

/// Takes the lock of the job, or fails with its current holder.
pub(super) async fn begin<'c>(context: &'c Context, name: &'static str) -> Result<Job<'c>> {
    let digest = blake3::hash((context.new_id)().as_bytes());
    let owner = *digest.as_bytes().first_chunk().expect("a BLAKE3 digest has 32 bytes");
    Ok(Job::begin(context.store.as_ref(), &*context.clock, name, owner).await?)
}
