//! All metrics of the frontier. Labels are resolved once, here, so that counting a batch takes
//! only a few additions.

use matyan_proto::ingest::v1 as pb;
use matyan_wire::{MessageCounts, MessageType, project_quota::QUOTA_NAMES, rows};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector,
};

/// Buckets from an embedded log on a fast disk up to the maximum hold time.
const ACK_SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 40.0];

/// Number of items of each type in a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ItemCounts(MessageCounts);

impl ItemCounts {
    pub(crate) fn of_batch(batch: &pb::IngestionBatch) -> Self {
        let mut items = MessageCounts::default();
        items[MessageType::LogMetric as usize] =
            batch.points.iter().map(|group| rows::count(group) as u64).sum();
        for kind in batch.events.iter().filter_map(|event| event.kind.as_ref()) {
            items[MessageType::of_event(kind) as usize] += 1;
        }
        Self(items)
    }
}

/// Every metric, by the part of the frontier that reports it.
pub struct Metrics {
    pub(crate) batches: BatchMetrics,
    pub(crate) uploads: UploadMetrics,
    pub(crate) quotas: QuotaMetrics,
}

/// Metrics of streams and published batches.
pub(crate) struct BatchMetrics {
    messages: [IntCounter; MessageType::ALL.len()],
    pub(crate) rejected_items: IntCounter,
    pub(crate) masked_tokens: IntCounter,
    pub(crate) streams: IntGauge,
    pub(crate) batches: IntCounter,
    pub(crate) batch_bytes: IntCounter,
    pub(crate) in_flight_bytes: IntGauge,
    pub(crate) ack_seconds: Histogram,
    pub(crate) append_failures: IntCounter,
    pub(crate) delayed_acks: IntCounter,
}

pub(crate) struct UploadMetrics {
    pub(crate) presigns: IntCounter,
    pub(crate) uploads: IntCounter,
    pub(crate) bytes: IntCounter,
}

/// Refusals of data and uploads by the quotas of projects. Cheap to clone; clones count together. The project
/// is not a label, because there may be thousands of projects.
#[derive(Clone)]
pub(crate) struct QuotaMetrics(IntCounterVec);

/// The quota of uploads, next to `QUOTA_NAMES`.
const UPLOADS: &str = "uploads";

impl Metrics {
    /// Creates and registers the metrics; fails if the registry already has them.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            batches: BatchMetrics::new(registry)?,
            uploads: UploadMetrics::new(registry)?,
            quotas: QuotaMetrics::new(registry)?,
        })
    }
}

impl BatchMetrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let messages = add(
            registry,
            IntCounterVec::new(
                Opts::new(
                    "matyan_ws_messages_total",
                    "Valid items by type, counted before they are published",
                ),
                &["message_type"],
            )?,
        )?;
        Ok(Self {
            messages: MessageType::ALL.map(|message_type| messages.with_label_values(&[message_type.name()])),
            rejected_items: counter(
                registry,
                "matyan_ingest_rejected_items_total",
                "Items rejected as invalid",
            )?,
            masked_tokens: counter(
                registry,
                "matyan_ingest_masked_tokens_total",
                "Access tokens in params, terminal lines and log records, masked before they were stored: revoke them",
            )?,
            streams: gauge(registry, "matyan_ingest_streams_active", "Open ingestion streams")?,
            batches: counter(registry, "matyan_ingest_batches_total", "Acknowledged batches")?,
            batch_bytes: counter(
                registry,
                "matyan_ingest_batch_bytes_total",
                "Bytes of acknowledged batches",
            )?,
            in_flight_bytes: gauge(
                registry,
                "matyan_ingest_in_flight_bytes",
                "Bytes of batches not yet acknowledged",
            )?,
            ack_seconds: add(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "matyan_ingest_ack_seconds",
                        "Time from the receipt of a batch to its acknowledgement",
                    )
                    .buckets(ACK_SECONDS.to_vec()),
                )?,
            )?,
            append_failures: counter(registry, "matyan_ingest_append_failures_total", "Appends that failed")?,
            delayed_acks: counter(
                registry,
                "matyan_ingest_delayed_acks_total",
                "Acknowledgements delayed because their run sends too fast",
            )?,
        })
    }

    pub(crate) fn count_items(&self, items: ItemCounts) {
        for (counter, count) in self.messages.iter().zip(items.0).filter(|(_, count)| *count > 0) {
            counter.inc_by(count);
        }
    }
}

impl UploadMetrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            presigns: counter(registry, "matyan_presign_total", "Upload URLs issued")?,
            uploads: counter(registry, "matyan_uploads_total", "Completed uploads through this server")?,
            bytes: counter(registry, "matyan_upload_bytes_total", "Bytes of completed uploads")?,
        })
    }
}

impl QuotaMetrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let refusals = IntCounterVec::new(
            Opts::new(
                "matyan_quota_refusals_total",
                "Calls and streams refused because their project has used up a quota, by quota",
            ),
            &["quota"],
        )?;
        let refusals = add(registry, refusals)?;
        // Initialized to 0, because alerts cannot distinguish a missing counter from a counter that does not change.
        for quota in QUOTA_NAMES.into_iter().chain([UPLOADS]) {
            refusals.with_label_values(&[quota]);
        }
        Ok(Self(refusals))
    }

    pub(crate) fn count_refusal(&self, quota: &str) {
        self.0.with_label_values(&[quota]).inc();
    }

    pub(crate) fn count_refused_upload(&self) {
        self.count_refusal(UPLOADS);
    }
}

fn counter(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    add(registry, IntCounter::new(name, help)?)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    add(registry, IntGauge::new(name, help)?)
}

fn add<M: Collector + Clone + 'static>(registry: &Registry, metric: M) -> prometheus::Result<M> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
