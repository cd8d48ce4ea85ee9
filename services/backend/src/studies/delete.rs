//! Deletion of a study: first its runs, then its rows. In this order, a failure leaves a study that can be deleted
//! again.

use matyan_model::{
    ids::{RunId, RunNumber},
    run::head_live,
    study::{study_delete, study_load, trial_count_checked, trials_get},
};
use matyan_store::{Transaction, transact};

use crate::{
    edit::runs::delete_batch,
    server::{
        call::Call,
        deps::Deps,
        error::{Error, Result},
    },
};

/// Trials whose runs are deleted together.
const PAGE_TRIALS: u32 = 1_000;

pub(super) async fn delete(deps: &Deps, call: &Call, study: u32) -> Result<()> {
    let mut done = 0;
    let mut waiting = Vec::new();
    loop {
        let (count, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
            study_load(&transaction, call.project, study).await?;
            let count = trial_count_checked(&transaction, call.project, study).await?;
            if count == done {
                study_delete(&mut transaction, call.project, study).await?;
            }
            Ok::<_, Error>((transaction, count))
        })
        .await?;
        if count == done {
            break;
        }
        while done < count {
            let end = count.min(done.saturating_add(PAGE_TRIALS));
            let page = runs(deps, call, study, done..end).await?;
            delete_batch(deps, call, page.run_ids).await?;
            waiting.extend(page.without_run);
            done = end;
        }
    }
    // Some trials may have started before the study was gone. The rows of its trials are swept later.
    for page in waiting.chunks(PAGE_TRIALS as usize) {
        let page = runs(deps, call, study, page.iter().copied()).await?;
        delete_batch(deps, call, page.run_ids).await?;
    }
    Ok(())
}

#[derive(Default)]
struct RunsOfTrials {
    /// Runs that have not been deleted.
    run_ids: Vec<String>,
    /// Numbers of the trials that have not started.
    without_run: Vec<u32>,
}

async fn runs(
    deps: &Deps,
    call: &Call,
    study: u32,
    numbers: impl IntoIterator<Item = u32> + Clone,
) -> Result<RunsOfTrials> {
    let snapshot = deps.store.snapshot().await?;
    let trials = trials_get(snapshot.as_ref(), call.project, study, numbers.clone()).await?;
    let mut runs = RunsOfTrials::default();
    for (number, trial) in numbers.into_iter().zip(trials) {
        let Some(trial) = trial else { continue };
        let Some(run) = trial.run else {
            runs.without_run.push(number);
            continue;
        };
        // Another run may have this id by now.
        let live = head_live(snapshot.as_ref(), call.project, &RunId::new(run.id.as_str())).await?;
        if live == Some(RunNumber(run.number)) {
            runs.run_ids.push(run.id);
        }
    }
    Ok(runs)
}
