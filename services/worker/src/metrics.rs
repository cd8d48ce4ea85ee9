//! All metrics of the workers. Names of Matyan 0.3 are kept where the meaning is the same.

use matyan_wire::{MessageCounts, MessageType, control::ControlEventType};
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry, core::Collector,
};

const RECORDS: [f64; 8] = [1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 500.0];
const BYTES: [f64; 7] = [1e5, 5e5, 1e6, 2e6, 4e6, 8e6, 1e7];
const SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Every metric, by the part of a worker that reports it.
#[derive(Clone)]
pub struct Metrics {
    pub(crate) ingestion: IngestionMetrics,
    pub(crate) transactions: TransactionMetrics,
    pub(crate) folds: FoldMetrics,
    pub(crate) events: EventMetrics,
    pub(crate) blobs: BlobMetrics,
    pub(crate) jobs: JobMetrics,
}

/// Metrics of the ingestion worker: the records that it takes from the log, and their fate.
#[derive(Clone)]
pub(crate) struct IngestionMetrics {
    pub(crate) records: IntCounter,
    pub(crate) batch_records: Histogram,
    pub(crate) turn_seconds: Histogram,
    pub(crate) lag_records: GaugeVec,
    pub(crate) oldest_unapplied_seconds: Gauge,
    pub(crate) unapplied_bytes: Gauge,
    pub(crate) skipped: IntCounter,
    pub(crate) parked: IntCounter,
    pub(crate) dead_letters_dropped: IntCounter,
    pub(crate) partitions_lost: IntCounter,
    pub(crate) partitions_stopped: Gauge,
}

/// Metrics that the writers of runs update while they work.
#[derive(Clone)]
pub(crate) struct TransactionMetrics {
    processed: [IntCounter; MessageType::ALL.len()],
    errors: IntCounterVec,
    retries: IntCounter,
    conflicts: IntCounter,
    quarantined: IntCounter,
    large_quarantines: IntCounter,
    bytes: Histogram,
}

/// Reason for a failed transaction, other than a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionError {
    Store,
    Blob,
    Slow,
    Invalid,
}

#[derive(Clone)]
pub(crate) struct FoldMetrics {
    pub(crate) runs: IntCounter,
    pub(crate) seconds: Histogram,
}

/// Metrics of control events.
#[derive(Clone)]
pub(crate) struct EventMetrics {
    pub(crate) consumed: IntCounter,
    pub(crate) processed: IntCounterVec,
    pub(crate) errors: IntCounterVec,
    pub(crate) seconds: Histogram,
}

/// Metrics of blobs: their deletion, by events and by jobs, and payloads that are yet to be uploaded.
#[derive(Clone)]
pub(crate) struct BlobMetrics {
    pub(crate) deleted: IntCounter,
    pub(crate) failures: IntCounter,
    pub(crate) pending_bytes: Gauge,
}

#[derive(Clone)]
pub(crate) struct JobMetrics {
    pub(crate) runs: IntCounterVec,
    pub(crate) success: GaugeVec,
}

impl Metrics {
    /// Creates and registers the metrics; fails if the registry already has them.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let new = Registrar(registry);
        Ok(Self {
            ingestion: IngestionMetrics::new(&new)?,
            transactions: TransactionMetrics::new(&new)?,
            folds: FoldMetrics {
                runs: new.counter("matyan_fold_runs_total", "Completed folds of a run")?,
                seconds: new.seconds("matyan_fold_seconds", "Duration of a fold of a run")?,
            },
            events: EventMetrics::new(&new)?,
            blobs: BlobMetrics {
                deleted: new
                    .counter("matyan_blobs_deleted_total", "Deleted blobs: those of deleted runs, and orphaned ones")?,
                failures: new.counter(
                    "matyan_blob_delete_failures_total",
                    "Blobs that could not be deleted, and runs whose blobs could not be listed, counted at each attempt",
                )?,
                pending_bytes: new.gauge(
                    "matyan_blobs_pending_bytes",
                    "Bytes of payloads that wait in the store for the blob store",
                )?,
            },
            jobs: JobMetrics::new(&new)?,
        })
    }
}

impl IngestionMetrics {
    fn new(new: &Registrar<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            records: new.counter("matyan_ingestion_messages_consumed_total", "Records taken from the log")?,
            batch_records: new.buckets("matyan_ingestion_batch_size", "Records taken at once", &RECORDS)?,
            turn_seconds: new.seconds(
                "matyan_ingestion_batch_processing_seconds",
                "Time to apply the queued records of a run in one turn",
            )?,
            lag_records: new.gauges(
                "matyan_ingestion_lag_records",
                "Records in the log that are not applied yet",
                "partition",
            )?,
            oldest_unapplied_seconds: new.gauge(
                "matyan_ingestion_oldest_unapplied_seconds",
                "Age of the oldest record that was taken and is not applied yet; 0 if there is none",
            )?,
            unapplied_bytes: new
                .gauge("matyan_ingestion_window_bytes", "Bytes of records taken and not yet applied")?,
            skipped: new.counter(
                "matyan_ingestion_records_skipped_total",
                "Records that repeat or do not continue their producer's sequence",
            )?,
            parked: new.counter(
                "matyan_ingestion_items_parked_total",
                "Parked rows: an event, or adjacent points that cannot be applied for the same reason",
            )?,
            dead_letters_dropped: new.counter(
                "matyan_ingestion_dead_letters_dropped_total",
                "Parked items that were not copied to the dead-letter topic",
            )?,
            partitions_lost: new.counter(
                "matyan_ingestion_partitions_lost_total",
                "Partitions that stopped because they lost records",
            )?,
            partitions_stopped: new.gauge(
                "matyan_ingestion_partitions_stopped",
                "Partitions that are missing records and wait for `matyan partitions skip` or a restore",
            )?,
        })
    }
}

impl EventMetrics {
    fn new(new: &Registrar<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            consumed: new
                .counter("matyan_control_events_consumed_total", "Control events taken from the log")?,
            processed: new.counters(
                "matyan_control_events_processed_total",
                "Control events handled",
                EVENTS,
            )?,
            errors: new.counters(
                "matyan_control_processing_errors_total",
                "Failed attempts to handle a control event",
                EVENT_ERRORS,
            )?,
            seconds: new
                .seconds("matyan_control_processing_duration_seconds", "Time to handle a control event")?,
        })
    }
}

impl TransactionMetrics {
    fn new(new: &Registrar<'_>) -> prometheus::Result<Self> {
        let processed = new.counters(
            "matyan_ingestion_messages_processed_total",
            "Items applied",
            ("message_type", &MessageType::NAMES),
        )?;
        Ok(Self {
            processed: MessageType::ALL
                .map(|message_type| processed.with_label_values(&[message_type.name()])),
            errors: new.counters(
                "matyan_ingestion_processing_errors_total",
                "Failed attempts at a transaction",
                APPLY_ERRORS,
            )?,
            retries: new.counter(
                "matyan_ingestion_fdb_retries_total",
                "Transactions retried because the run had changed or the store was unavailable",
            )?,
            conflicts: new.counter(
                "matyan_ingestion_conflicts_total",
                "Transactions that conflicted with a change of the run",
            )?,
            quarantined: new.counter(
                "matyan_ingestion_runs_quarantined_total",
                "Runs whose records are parked because a row of the run is damaged",
            )?,
            large_quarantines: new.counter(
                "matyan_ingestion_large_quarantines_total",
                "Runs in quarantine whose parked records have grown large",
            )?,
            bytes: new.buckets(
                "matyan_ingestion_txn_estimated_bytes",
                "Estimated size of a transaction",
                &BYTES,
            )?,
        })
    }

    pub(crate) fn committed(&self, applied: &MessageCounts, bytes: usize) {
        for (counter, count) in self.processed.iter().zip(applied).filter(|(_, count)| **count > 0) {
            counter.inc_by(*count);
        }
        self.bytes.observe(bytes as f64);
    }

    /// Counts a transaction that has to be retried because another process wrote the run.
    pub(crate) fn conflicted(&self) {
        self.conflicts.inc();
        self.retries.inc();
    }

    /// Counts a run that was put in quarantine.
    pub(crate) fn quarantined(&self) {
        self.quarantined.inc();
    }

    /// Counts a quarantine that has grown large.
    pub(crate) fn quarantine_grew_large(&self) {
        self.large_quarantines.inc();
    }

    /// Counts a transaction that has to be retried as a whole or in parts.
    pub(crate) fn failed(&self, error: TransactionError) {
        if error == TransactionError::Store {
            self.retries.inc();
        }
        self.errors.with_label_values(&[error.label()]).inc();
    }
}

impl TransactionError {
    /// Value of the label `error_type`.
    fn label(self) -> &'static str {
        match self {
            Self::Store => "fdb",
            Self::Blob => "blob_storage",
            Self::Slow => "txn_too_large_split",
            Self::Invalid => "validation",
        }
    }
}

impl JobMetrics {
    fn new(new: &Registrar<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            runs: new.counters("matyan_job_runs_total", "Completed rounds of periodic jobs", (TASK, &[]))?,
            success: new.gauges(
                "matyan_job_last_success_timestamp_seconds",
                "Time of a job's last success; for one that has never succeeded, when it was first scheduled",
                TASK,
            )?,
        })
    }

    /// Starts reporting the last success of a job.
    pub(crate) fn set_last_success(&self, job: &str, last_us: i64) {
        self.success.with_label_values(&[job]).set(last_us as f64 / 1e6);
    }

    pub(crate) fn succeeded(&self, job: &str, now_us: i64) {
        self.runs.with_label_values(&[job]).inc();
        self.set_last_success(job, now_us);
    }
}

type Label = (&'static str, &'static [&'static str]);

/// Not `job`, because Prometheus itself adds that label to every series.
const TASK: &str = "task";

/// Label of all events of unknown types, so that the content of the topic cannot grow the metrics.
pub(crate) const UNKNOWN_EVENT: &str = "unknown";

const EVENT_TYPES: [&str; ControlEventType::ALL.len() + 1] = {
    let mut names = [UNKNOWN_EVENT; ControlEventType::ALL.len() + 1];
    let mut at = 0;
    while at < ControlEventType::ALL.len() {
        names[at] = ControlEventType::ALL[at].name();
        at += 1;
    }
    names
};

const EVENTS: Label = ("event_type", &EVENT_TYPES);
const EVENT_ERRORS: Label = ("error_type", &["validation", "fdb", "blob_storage", "unknown"]);
/// `unknown` exists only for dashboards of Matyan 0.3; no failure has it here.
const APPLY_ERRORS: Label =
    ("error_type", &["validation", "fdb", "blob_storage", "txn_too_large_split", "unknown"]);

/// Creates and registers metrics.
struct Registrar<'a>(&'a Registry);

impl Registrar<'_> {
    fn add<M: Collector + Clone + 'static>(&self, metric: M) -> prometheus::Result<M> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.add(IntCounter::new(name, help)?)
    }

    /// Creates all label values immediately, because the first increment of a series that
    /// did not exist before is not visible in a rate.
    fn counters(&self, name: &str, help: &str, (label, values): Label) -> prometheus::Result<IntCounterVec> {
        let counters = self.add(IntCounterVec::new(Opts::new(name, help), &[label])?)?;
        for value in values {
            counters.with_label_values(&[value]).reset();
        }
        Ok(counters)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.add(Gauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, label: &str) -> prometheus::Result<GaugeVec> {
        self.add(GaugeVec::new(Opts::new(name, help), &[label])?)
    }

    fn buckets(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
    }

    fn seconds(&self, name: &str, help: &str) -> prometheus::Result<Histogram> {
        self.buckets(name, help, &SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_a_series_from_the_beginning() {
        let registry = Registry::new();
        let _metrics = Metrics::new(&registry).unwrap();
        let families = registry.gather();
        let family = families.iter().find(|it| it.name() == "matyan_ingestion_processing_errors_total");
        let series = family.unwrap().get_metric().iter();
        let mut found: Vec<_> =
            series.map(|it| (it.get_label()[0].value(), it.get_counter().get_value())).collect();
        found.sort_by_key(|(error, _)| *error);
        let expected = ["blob_storage", "fdb", "txn_too_large_split", "unknown", "validation"];
        assert_eq!(found, expected.map(|error| (error, 0.0)));
    }
}
