//! Points of trials that a backend has marked in the store and not appended to the log: the log was full, or the backend
//! ended in between.

use matyan_log::Topic;
use matyan_model::{
    ids::{NamedProject, RunId},
    keys::{self, TrialPointKind},
    study::{TrialPointValues, UnloggedMark, trial_points_load, unlogged_points_page},
};
use matyan_proto::ingest::v1::IngestionBatch;
use matyan_store::{Commit, Transaction};
use matyan_wire::trial_points::{self, POINTS_PER_RECORD};
use tokio_util::sync::CancellationToken;

use crate::{deps::Deps, error::Error, record::server_record};

/// Appends the marked points of all projects to the log. A damaged trial does not stop the others; the first such
/// error is returned.
pub(crate) async fn append_marked_points(deps: &Deps, stop: &CancellationToken) -> Result<(), Error> {
    let mut outcome = Ok(());
    for project in deps.maintenance().projects().await? {
        let mut rest = Some(keys::unlogged_points_all(project.number));
        while let Some(range) = rest {
            let snapshot = deps.store.snapshot().await?;
            let (page, next) = unlogged_points_page(&*snapshot, project.number, &range).await?;
            drop(snapshot);
            rest = next;
            for marked in page {
                if stop.is_cancelled() {
                    return outcome;
                }
                match append_points(deps, &project, marked).await {
                    Err(error @ Error::Store(matyan_store::Error::Corrupt { .. })) => {
                        outcome = outcome.and(Err(error));
                    }
                    appended => appended?,
                }
            }
        }
    }
    outcome
}

/// Appends the points of a trial, reads them again, and clears the mark only if they are still the same; otherwise it
/// appends the new ones. They are read again because an append may outlive the snapshot.
async fn append_points(deps: &Deps, project: &NamedProject, marked: UnloggedMark) -> Result<(), Error> {
    let mut appended = None;
    loop {
        let mut transaction = Transaction::new(deps.store.snapshot().await?);
        let found = trial_points_load(&mut transaction, project.number, marked).await?;
        if found.is_none() || found == appended {
            marked.clear(transaction.batch(), project.number);
            match deps.store.commit(transaction.into_batch()).await? {
                Commit::Done { .. } => return Ok(()),
                Commit::Conflict => continue,
            }
        }
        drop(transaction);
        if let Some(TrialPointValues { run_id, values }) = &found {
            let id = RunId::new(run_id.as_str());
            for batch in batches(marked.kind, values) {
                let record = server_record(project, &id, &batch, deps.now_us());
                deps.log_writer.append(Topic::Ingestion, vec![record]).await?;
            }
        }
        appended = found;
    }
}

fn batches(kind: TrialPointKind, values: &[(i64, f64)]) -> Vec<IngestionBatch> {
    match kind {
        TrialPointKind::IntermediateValues => {
            values.chunks(POINTS_PER_RECORD).map(trial_points::intermediate_values).collect()
        }
        TrialPointKind::Results if values.is_empty() => Vec::new(),
        TrialPointKind::Results => {
            let values: Vec<f64> = values.iter().map(|(_, value)| *value).collect();
            vec![trial_points::results(&values)]
        }
    }
}
