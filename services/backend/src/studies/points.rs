//! Values of trials as points: they are appended to the log like the points of any run, because only workers write
//! series. A repeated value sets the same step again, which changes nothing.
//!
//! An intermediate value of a running trial is acknowledged after it is in the log. The call that starts or ends a
//! trial cannot be repeated after its transaction, so the transaction marks the points that become due. Whatever
//! happens to the log then, a worker logs the marked points.

use matyan_model::{
    keys::TrialPointKind,
    study::{Trial, TrialState, UnloggedMark},
};
use matyan_proto::ingest::v1::IngestionBatch;
use matyan_store::Batch;
use matyan_wire::trial_points::{self, POINTS_PER_RECORD};

use crate::server::{call::Call, control_record, deps::Deps, error::Result};

/// Appends intermediate values of a trial to the log.
pub(super) async fn publish(deps: &Deps, call: &Call, run_id: &str, values: &[(i64, f64)]) -> Result<()> {
    // One after the other, so that few points are in memory.
    for values in values.chunks(POINTS_PER_RECORD) {
        append(deps, call, run_id, trial_points::intermediate_values(values)).await?;
    }
    Ok(())
}

async fn append(deps: &Deps, call: &Call, run_id: &str, batch: IngestionBatch) -> Result<()> {
    let now = (deps.clock)();
    deps.append(control_record::points(deps.log_format, call, run_id, batch, now)).await?;
    Ok(())
}

/// Points that become due with the state of a trial.
pub(super) struct DuePoints {
    study: u32,
    number: u32,
    run_id: String,
    intermediate_values: Vec<(i64, f64)>,
    results: Vec<f64>,
}

impl DuePoints {
    /// The points of a trial that has a run, with the intermediate values that were set before the trial had its run.
    pub(super) fn new(
        (study, number): (u32, u32),
        trial: &Trial,
        intermediate_values: Vec<(i64, f64)>,
    ) -> Option<Self> {
        let run_id = trial.run.as_ref()?.id.clone();
        let results = if trial.state == TrialState::Complete { trial.values.clone() } else { Vec::new() };
        Some(Self { study, number, run_id, intermediate_values, results })
    }

    fn mark(&self, kind: TrialPointKind) -> UnloggedMark {
        UnloggedMark { study: self.study, number: self.number, kind }
    }

    /// Marks the points in the transaction of the state.
    pub(super) fn put_marks(&self, batch: &mut Batch, call: &Call) {
        if !self.intermediate_values.is_empty() {
            self.mark(TrialPointKind::IntermediateValues).put(batch, call.project);
        }
        if !self.results.is_empty() {
            self.mark(TrialPointKind::Results).put(batch, call.project);
        }
    }

    /// Logs the points, and clears the marks. The call succeeds even if this fails: a worker logs points that stay
    /// marked.
    pub(super) async fn log(&self, deps: &Deps, call: &Call) {
        if !self.intermediate_values.is_empty() {
            let logged = publish(deps, call, &self.run_id, &self.intermediate_values).await;
            self.clear_mark(deps, call, TrialPointKind::IntermediateValues, logged).await;
        }
        if !self.results.is_empty() {
            let logged = append(deps, call, &self.run_id, trial_points::results(&self.results)).await;
            self.clear_mark(deps, call, TrialPointKind::Results, logged).await;
        }
    }

    async fn clear_mark(&self, deps: &Deps, call: &Call, kind: TrialPointKind, logged: Result<()>) {
        let cleared = async {
            logged?;
            // Not synced: if the commit is lost, the points are logged once more.
            let mut batch = Batch::buffered();
            self.mark(kind).clear(&mut batch, call.project);
            deps.store.commit(batch).await?;
            Ok::<_, crate::server::error::Error>(())
        };
        if let Err(error) = cleared.await {
            let Self { study, number, .. } = self;
            tracing::warn!(study, number, %error, "failed to log the points of a trial; a worker will log them");
        }
    }
}
