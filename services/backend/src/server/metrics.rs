//! Prometheus metrics of the backend, with the names that Matyan 0.3 dashboards use. The edge
//! counts calls.

use matyan_ql::Endpoint;
use matyan_wire::project_quota::{QUOTA_NAMES, QuotaExceeded};
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::error::{Error, Result};

#[derive(Clone)]
pub struct Metrics {
    planner_paths: IntCounterVec,
    left_out_runs: IntCounter,
    trial_refusals: IntCounterVec,
    pub(crate) table_bytes: IntGauge,
    pub(crate) query_slices: IntCounter,
}

/// Method by which a search finds its candidate runs.
#[derive(Clone, Copy)]
pub(crate) enum PlannerPath {
    /// Indexes give exactly the matching runs.
    Exact,
    /// Indexes give the matching runs and possibly others.
    Superset,
    /// All runs are candidates, because no index narrows the query.
    NoCandidates,
    /// All runs are candidates, because any of their sequences may match.
    UnindexedSequence,
}

impl Metrics {
    /// Registers the metrics; fails if the registry already contains them.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let planner_paths = IntCounterVec::new(
            Opts::new("matyan_planner_path_total", "Searches by the way they find candidate runs"),
            &["path", "endpoint", "reason"],
        )?;
        registry.register(Box::new(planner_paths.clone()))?;
        let left_out_runs = IntCounter::new(
            "matyan_damaged_runs_left_out_total",
            "Runs that a search, a list, or a summary left out because their rows are damaged, counted each time",
        )?;
        registry.register(Box::new(left_out_runs.clone()))?;
        let trial_refusals = IntCounterVec::new(
            Opts::new(
                "matyan_trial_quota_refusals_total",
                "Trials refused because their project has used up a quota, by quota",
            ),
            &["quota"],
        )?;
        registry.register(Box::new(trial_refusals.clone()))?;
        let table_bytes = IntGauge::new("matyan_run_table_bytes", "Memory of the tables of runs")?;
        registry.register(Box::new(table_bytes.clone()))?;
        let query_slices = IntCounter::new(
            "matyan_query_slices_total",
            "Slices of about 10 ms in which queries and charts are evaluated",
        )?;
        registry.register(Box::new(query_slices.clone()))?;
        let metrics = Self { planner_paths, left_out_runs, trial_refusals, table_bytes, query_slices };
        // Initialized to 0, because alerts cannot distinguish a missing counter from a
        // counter that does not change.
        for endpoint in [Endpoint::Run, Endpoint::Metric, Endpoint::Images] {
            for planned in [PlannerPath::Exact, PlannerPath::Superset, PlannerPath::NoCandidates] {
                metrics.planner_path(endpoint, planned);
            }
        }
        for quota in QUOTA_NAMES {
            metrics.trial_refusals.with_label_values(&[quota]);
        }
        Ok(metrics)
    }

    /// Notes that the rows of these runs are damaged, so that a response does not have them.
    pub(crate) fn count_left_out(&self, runs: usize) {
        self.left_out_runs.inc_by(runs as u64);
    }

    /// Notes that a run is left out of a response, if an error is about its rows; other errors are
    /// returned.
    pub(crate) fn leave_out(&self, run: &str, error: Error) -> Result<()> {
        if !matches!(error, Error::Damaged(_)) {
            return Err(error);
        }
        tracing::error!(run, error = &error as &dyn std::error::Error, "left out a damaged run");
        self.count_left_out(1);
        Ok(())
    }

    /// Notes that a trial is refused, because its project has used up a quota.
    pub(crate) fn count_refused_trial(&self, refusal: &QuotaExceeded) {
        self.trial_refusals.with_label_values(&[refusal.quota_name()]).inc();
    }

    pub(crate) fn count_search(&self, endpoint: Endpoint, planned: PlannerPath) {
        self.planner_path(endpoint, planned).inc();
    }

    fn planner_path(&self, endpoint: Endpoint, planned: PlannerPath) -> IntCounter {
        let endpoint = match endpoint {
            Endpoint::Run => "run_search",
            Endpoint::Metric => "metric_search",
            _ => "iter_matching_sequences",
        };
        let (path, reason) = match planned {
            PlannerPath::Exact => ("fast", "exact"),
            PlannerPath::Superset => ("fast", "superset"),
            PlannerPath::NoCandidates => ("lazy", "no_candidates"),
            PlannerPath::UnindexedSequence => ("lazy", "unindexed_sequence"),
        };
        self.planner_paths.with_label_values(&[path, endpoint, reason])
    }
}
