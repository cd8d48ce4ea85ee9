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
            return Ok(());
        }
        // A waiting trial may start while these are deleted: its run is deleted when it has started, or stays without
        // its study.
        while done < count {
            let end = count.min(done.saturating_add(PAGE_TRIALS));
            delete_batch(deps, call, runs(deps, call, study, done..end).await?).await?;
            done = end;
        }
    }
}

/// The runs of some trials that are left.
async fn runs(deps: &Deps, call: &Call, study: u32, trials: std::ops::Range<u32>) -> Result<Vec<String>> {
    let snapshot = deps.store.snapshot().await?;
    let mut runs = Vec::new();
    let trials = trials_get(snapshot.as_ref(), call.project, study, trials).await?;
    for run in trials.into_iter().flatten().filter_map(|trial| trial.run) {
        // Another run may have the id by now.
        let live = head_live(snapshot.as_ref(), call.project, &RunId::new(run.id.as_str())).await?;
        if live == Some(RunNumber(run.number)) {
            runs.push(run.id);
        }
    }
    Ok(runs)
}
