//! Removal of the rows of deleted studies. Their runs are deleted like any other run.

use matyan_model::{
    ids::NamedProject,
    study::{dead_studies_list, study_sweep_step},
};
use tokio_util::sync::CancellationToken;

use crate::{Deps, Error, paged_sweep::PagedSweep};

/// Clears the rows of deleted studies, a bounded number per transaction.
pub async fn sweep_dead_studies(deps: Deps<'_>, stop: &CancellationToken) -> Result<(), Error> {
    let mut sweep = PagedSweep::new(stop);
    for NamedProject { number: project, .. } in deps.projects().await? {
        // The snapshot must not live as long as the loop: the store keeps all versions since.
        let dead = dead_studies_list(&*deps.store.snapshot().await?, project).await?;
        for study in dead {
            let swept = sweep
                .pages(async || Ok::<_, Error>(study_sweep_step(deps.store, project, study).await?))
                .await;
            sweep.keep_damage(swept.map(drop))?;
        }
    }
    sweep.finish()
}
