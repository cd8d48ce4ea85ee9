//! Removal of the rows of dead runs: deleted runs, and the runs of abandoned restores.

use matyan_model::{
    ids::{NamedProject, Project, RunNumber},
    run::{dead_runs_list, sweep_step},
};
use tokio_util::sync::CancellationToken;

use crate::{Deps, Error, SweepOutcome, pace::Pace};

/// Clears the rows of dead runs, a bounded number per transaction.
pub async fn sweep_dead_runs(deps: Deps<'_>, stop: &CancellationToken) -> Result<(), Error> {
    let mut outcome = SweepOutcome::default();
    let mut pace = Pace::default();
    for NamedProject { number: project, .. } in deps.projects().await? {
        // The snapshot must not live as long as the loop: the store keeps all versions since.
        let dead = dead_runs_list(&*deps.store.snapshot().await?, project).await?;
        for number in dead {
            let swept = sweep_dead_run(deps, (project, number), stop, &mut pace).await;
            outcome.keep_damage(swept)?;
        }
    }
    outcome.finish()
}

async fn sweep_dead_run(
    deps: Deps<'_>,
    (project, number): (Project, RunNumber),
    stop: &CancellationToken,
    pace: &mut Pace,
) -> Result<(), Error> {
    while !stop.is_cancelled() && !sweep_step(deps.store, project, number).await? {
        pace.rest().await;
    }
    Ok(())
}
