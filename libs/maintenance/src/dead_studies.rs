//! Removal of the rows of deleted studies. Their runs are deleted like any other run.

use matyan_model::{
    ids::{NamedProject, Project},
    study::{dead_studies_list, study_sweep_step},
};
use tokio_util::sync::CancellationToken;

use crate::{Deps, Error, SweepOutcome, pace::Pace};

/// Clears the rows of deleted studies, a bounded number per transaction.
pub async fn sweep_dead_studies(deps: Deps<'_>, stop: &CancellationToken) -> Result<(), Error> {
    let mut outcome = SweepOutcome::default();
    let mut pace = Pace::default();
    for NamedProject { number: project, .. } in deps.projects().await? {
        // The snapshot must not live as long as the loop: the store keeps all versions since.
        let dead = dead_studies_list(&*deps.store.snapshot().await?, project).await?;
        for study in dead {
            let swept = sweep_dead_study(deps, (project, study), stop, &mut pace).await;
            outcome.keep_damage(swept)?;
        }
    }
    outcome.finish()
}

async fn sweep_dead_study(
    deps: Deps<'_>,
    (project, study): (Project, u32),
    stop: &CancellationToken,
    pace: &mut Pace,
) -> Result<(), Error> {
    while !stop.is_cancelled() && !study_sweep_step(deps.store, project, study).await? {
        pace.rest().await;
    }
    Ok(())
}
