//! Every Prometheus metric of the backend, by the names that dashboards of Matyan 0.3 know. Calls are counted by the edge.

use matyan_ql::Endpoint;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

#[derive(Clone)]
pub struct Metrics {
    planner_paths: IntCounterVec,
}

/// How a search finds the runs that may match.
#[derive(Clone, Copy)]
pub(crate) enum Planned {
    /// Indexes name them, and need not be doubted.
    Exact,
    /// Indexes name them and others.
    Superset,
    /// All are looked at, as no index narrows the query.
    NoCandidates,
    /// All are looked at, as any sequence of theirs may match.
    UnindexedSequence,
}

impl Metrics {
    /// Registers them; fails if a registry has them already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let planner_paths = IntCounterVec::new(
            Opts::new("matyan_planner_path_total", "Searches by how they find the runs that may match"),
            &["path", "endpoint", "reason"],
        )?;
        registry.register(Box::new(planner_paths.clone()))?;
        let metrics = Self { planner_paths };
        // A counter that is not there yet is none that stands still.
        for endpoint in [Endpoint::Run, Endpoint::Metric, Endpoint::Images] {
            for planned in [Planned::Exact, Planned::Superset, Planned::NoCandidates] {
                metrics.planner_path(endpoint, planned);
            }
        }
        Ok(metrics)
    }

    pub(crate) fn planned(&self, endpoint: Endpoint, planned: Planned) {
        self.planner_path(endpoint, planned).inc();
    }

    fn planner_path(&self, endpoint: Endpoint, planned: Planned) -> IntCounter {
        let endpoint = match endpoint {
            Endpoint::Run => "run_search",
            Endpoint::Metric => "metric_search",
            _ => "iter_matching_sequences",
        };
        let (path, reason) = match planned {
            Planned::Exact => ("fast", "exact"),
            Planned::Superset => ("fast", "superset"),
            Planned::NoCandidates => ("lazy", "no_candidates"),
            Planned::UnindexedSequence => ("lazy", "unindexed_sequence"),
        };
        self.planner_paths.with_label_values(&[path, endpoint, reason])
    }
}
