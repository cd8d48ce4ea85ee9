//! Jobs started by operators, under the same lock as the jobs of workers, and the list of all jobs.

use std::collections::HashMap;

use matyan_maintenance::JobLock;
use matyan_model::{ids::Project, lock::jobs_list, project::projects_list_all};
use matyan_proto::admin::v1::{Job, ListJobsRequest};

use crate::server::{call::Call, deps::Deps, error::Result};

/// The jobs of one project or of all, by project and name.
pub(super) async fn list(deps: &Deps, call: &Call, request: &ListJobsRequest) -> Result<Vec<Job>> {
    let snapshot = deps.store.snapshot().await?;
    let listed = if request.all_projects {
        projects_list_all(snapshot.as_ref()).await?.into_iter().map(|it| it.project).collect()
    } else {
        vec![call.named_project()]
    };
    let names: HashMap<Project, String> = listed.into_iter().map(|it| (it.number, it.name)).collect();
    let mut jobs = Vec::new();
    for ((project, name), job) in jobs_list(snapshot.as_ref()).await? {
        let Some(project) = names.get(&project) else { continue };
        jobs.push(Job {
            name,
            holder: job.holder.map(|held| hex::encode(held.owner)).unwrap_or_default(),
            started_us: job.holder.map(|held| held.taken_us),
            last_success_us: job.last_success_us,
            project: project.clone(),
        });
    }
    Ok(jobs)
}

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
