//! Removal of the rows of dead runs: deleted runs, and the runs of abandoned restores.

use matyan_model::{
    ids::NamedProject,
    run::{dead_runs_list, sweep_step},
};
use tokio_util::sync::CancellationToken;

use crate::{Deps, Error, paged_sweep::PagedSweep};

/// Clears the rows of dead runs, a bounded number per transaction.
pub async fn sweep_dead_runs(deps: Deps<'_>, stop: &CancellationToken) -> Result<(), Error> {
    let mut sweep = PagedSweep::new(stop);
    for NamedProject { number: project, .. } in deps.projects().await? {
        // The snapshot must not live as long as the loop: the store keeps all versions since.
        let dead = dead_runs_list(&*deps.store.snapshot().await?, project).await?;
        for number in dead {
            let swept =
                sweep.pages(async || Ok::<_, Error>(sweep_step(deps.store, project, number).await?)).await;
            sweep.keep_damage(swept.map(drop))?;
        }
    }
    sweep.finish()
}
