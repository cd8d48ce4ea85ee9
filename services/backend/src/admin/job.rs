//! Jobs started by operators, under the same lock as those of workers.

use matyan_maintenance::JobLock;
use matyan_model::ids::Project;

use crate::{Deps, error::Result};

/// Takes the lock of the job in a project, or fails with its current holder.
pub(super) async fn lock<'d>(deps: &'d Deps, name: &'static str, project: Project) -> Result<JobLock<'d>> {
    Ok(JobLock::acquire(deps.store.as_ref(), &*deps.clock, name, project, random_id(deps)).await?)
}

/// A new random id.
pub(super) fn random_id(deps: &Deps) -> [u8; 16] {
    let digest = blake3::hash((deps.new_id)().as_bytes());
    *digest.as_bytes().first_chunk().expect("a BLAKE3 digest has 32 bytes")
}

pub(super) fn maintenance_deps(deps: &Deps) -> matyan_maintenance::Deps<'_> {
    matyan_maintenance::Deps {
        store: deps.store.as_ref(),
        log: deps.log.as_ref(),
        blobs: deps.blobs.as_ref(),
        clock: &*deps.clock,
    }
}
