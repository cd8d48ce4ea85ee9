//! Every metric of the workers. The names of Matyan 0.3 are kept where they mean the same.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector,
};

use crate::apply::Applied;

const SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Clone)]
pub struct Metrics {
    pub(crate) records: IntCounter,
    items: IntCounter,
    skipped: IntCounter,
    parked: IntCounter,
    pub(crate) dead_letters_dropped: IntCounter,
    conflicts: IntCounter,
    pub(crate) partitions_lost: IntCounter,
    pub(crate) unapplied_bytes: IntGauge,
    pub(crate) folds: IntCounter,
    pub(crate) fold_seconds: Histogram,
    pub(crate) events_consumed: IntCounter,
    pub(crate) events_processed: IntCounterVec,
    pub(crate) event_errors: IntCounterVec,
    pub(crate) event_seconds: Histogram,
    pub(crate) blobs_deleted: IntCounter,
    pub(crate) blob_failures: IntCounter,
    pub(crate) job_runs: IntCounterVec,
}

impl Metrics {
    /// Registers them; fails if a registry has them already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name, help| add(registry, IntCounter::new(name, help)?);
        let counters =
            |name, help, label| add(registry, IntCounterVec::new(Opts::new(name, help), &[label])?);
        let seconds = |name, help| {
            add(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()))?)
        };
        Ok(Self {
            records: counter("matyan_ingestion_messages_consumed_total", "Records taken from the log")?,
            items: counter("matyan_ingestion_items_applied_total", "Items that were applied")?,
            skipped: counter(
                "matyan_ingestion_records_skipped_total",
                "Records that repeat or do not continue their producer",
            )?,
            parked: counter(
                "matyan_ingestion_items_parked_total",
                "Items that could not be applied and were parked",
            )?,
            dead_letters_dropped: counter(
                "matyan_ingestion_dead_letters_dropped_total",
                "Parked items of which the dead-letter topic got no copy",
            )?,
            conflicts: counter(
                "matyan_ingestion_conflicts_total",
                "Transactions that found the run changed",
            )?,
            partitions_lost: counter(
                "matyan_ingestion_partitions_lost_total",
                "Partitions whose unapplied records were trimmed",
            )?,
            unapplied_bytes: add(
                registry,
                IntGauge::new("matyan_ingestion_window_bytes", "Bytes of records taken and not yet applied")?,
            )?,
            folds: counter("matyan_fold_runs_total", "Folds of a run that came to their end")?,
            fold_seconds: seconds("matyan_fold_seconds", "What a fold of a run took")?,
            events_consumed: counter(
                "matyan_control_events_consumed_total",
                "Control events taken from the log",
            )?,
            events_processed: counters(
                "matyan_control_events_processed_total",
                "Control events dealt with",
                "event_type",
            )?,
            event_errors: counters(
                "matyan_control_processing_errors_total",
                "Attempts at control events that failed",
                "error_type",
            )?,
            event_seconds: seconds(
                "matyan_control_processing_duration_seconds",
                "What a control event took",
            )?,
            blobs_deleted: counter("matyan_blobs_deleted_total", "Blobs of deleted runs that were deleted")?,
            blob_failures: counter(
                "matyan_blob_delete_failures_total",
                "Blobs that could not be deleted, counted at each attempt",
            )?,
            job_runs: counters(
                "matyan_job_runs_total",
                "Rounds of periodic jobs that came to their end",
                "job",
            )?,
        })
    }

    pub(crate) fn applied(&self, applied: &Applied) {
        self.items.inc_by(applied.items);
        self.skipped.inc_by(applied.skipped_records);
        self.parked.inc_by(applied.parked);
        self.conflicts.inc_by(applied.conflicts);
    }
}

fn add<M: Collector + Clone + 'static>(registry: &Registry, metric: M) -> prometheus::Result<M> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
