//! Turns a client's batch into log records: checks it, then writes it in the configured format.
//! A composer belongs to one stream or call, because the dictionary does.

use bytes::Bytes;
use matyan_proto::ingest::v1 as pb;
use matyan_record::{
    ingestion::RecordFormat,
    legacy_json::EnvelopeSeries,
    trace::{self, TARGET},
};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use crate::{
    Shared,
    batch::{self, Dictionary},
    envelope,
    error::Result,
    metrics::ItemCounts,
    pipeline::LogBatch,
    record::{self, Author, Stamp},
};

/// Size above which a batch is checked on a blocking thread. Checking this much takes about
/// half a millisecond.
const HEAVY_BYTES: usize = 256 << 10;

/// A batch as received.
#[derive(Debug)]
pub(crate) struct ReceivedBatch {
    sequence: u64,
    trace: Option<Bytes>,
    batch: Bytes,
    received_us: i64,
    received: Instant,
}

impl ReceivedBatch {
    pub(crate) fn new(shared: &Shared, sequence: u64, trace: Option<Bytes>, batch: Bytes) -> Self {
        Self { sequence, trace, batch, received_us: (shared.clock)(), received: Instant::now() }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.batch.len()
    }
}

#[derive(Debug)]
pub(crate) struct Composer {
    author: Author,
    dictionary: Dictionary,
    /// `None` if records are protobuf.
    definitions: Option<EnvelopeSeries>,
}

impl Composer {
    /// Creates a composer. `series` are the definitions of the producer on an earlier
    /// stream.
    pub(crate) fn new(format: RecordFormat, author: Author, mut series: Vec<pb::SeriesDef>) -> Self {
        let dictionary = Dictionary::new(&mut series);
        let definitions = (format == RecordFormat::Json).then(|| {
            let mut definitions = EnvelopeSeries::default();
            definitions.extend(&series);
            definitions
        });
        Self { author, dictionary, definitions }
    }

    /// Prepares a batch for the log. Everything up to `acknowledged` is durable.
    pub(crate) async fn compose_batch(
        mut self,
        shared: &Shared,
        received: ReceivedBatch,
        acknowledged: u64,
    ) -> (Self, Result<LogBatch>) {
        let (composer, composed) = if received.bytes() <= HEAVY_BYTES {
            let composed = self.compose(received, acknowledged);
            (self, composed)
        } else {
            let _permit = shared.heavy_checks.acquire().await.expect("the semaphore is never closed");
            let work = move || {
                let composed = self.compose(received, acknowledged);
                (self, composed)
            };
            match tokio::task::spawn_blocking(work).await {
                Ok(done) => done,
                Err(failure) => match failure.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The runtime is shutting down, and will drop this task
                    // as well.
                    Err(_) => std::future::pending().await,
                },
            }
        };
        let batch = composed.map(|(batch, items)| {
            shared.metrics.count_items(items);
            shared.metrics.rejected_items.inc_by(batch.rejections.total() as u64);
            batch
        });
        (composer, batch)
    }

    fn compose(&mut self, received: ReceivedBatch, acknowledged: u64) -> Result<(LogBatch, ItemCounts)> {
        let ReceivedBatch { sequence, trace, batch, received_us, received } = received;
        let bytes = batch.len();
        let run_id = self.author.run.as_str();
        let span = tracing::info_span!(target: TARGET, parent: None, "publish", run_id, sequence, bytes);
        trace::follow(&span, trace.as_deref().unwrap_or_default());
        let trace = trace::traceparent(&span).map(Bytes::from).or(trace);
        let extra_check = if self.definitions.is_some() { envelope::check } else { |_: &pb::Event| Ok(()) };
        let checked = batch::check(&self.author.run, &mut self.dictionary, extra_check, batch)?;
        let items = ItemCounts::of_batch(&checked.batch);
        let stamp = Stamp { received_us, sequence, acknowledged, trace };
        let records = match &mut self.definitions {
            None => vec![record::encode(&self.author, stamp, checked.bytes)],
            Some(definitions) => {
                definitions.extend(&checked.batch.series);
                envelope::encode(&self.author, &stamp, definitions, &checked.batch)?
            }
        };
        let held_bytes = match &self.definitions {
            None => bytes,
            Some(_) => records.iter().map(envelope::held).sum(),
        };
        let rejections = checked.rejections;
        Ok((LogBatch { sequence, records, rejections, bytes, held_bytes, received, _span: span }, items))
    }
}

impl Shared {
    /// Takes a batch's share of the memory budget of all streams, if available without
    /// waiting.
    pub(crate) fn try_share(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.budget.clone().try_acquire_many_owned(self.permits(bytes)).ok()
    }

    /// Waits for a batch's share of the memory budget.
    pub(crate) async fn share(&self, bytes: usize) -> OwnedSemaphorePermit {
        self.budget.clone().acquire_many_owned(self.permits(bytes)).await.expect("the budget is never closed")
    }

    /// The estimated share of a batch, which is corrected once its size is known. For a
    /// format that grows, at most a quarter of the budget is reserved in advance, so that a
    /// batch never waits for all others.
    fn permits(&self, bytes: usize) -> u32 {
        let total = self.settings.total_bytes;
        let grown = match self.settings.format {
            RecordFormat::Protobuf => bytes,
            RecordFormat::Json => bytes.saturating_mul(envelope::GROWTH).min(total / 4).max(bytes),
        };
        grown.min(total) as u32
    }

    /// Adjusts a share to the actual size: returns the excess, or takes as much more as is
    /// available.
    pub(crate) fn resize_share(&self, share: &mut OwnedSemaphorePermit, held_bytes: usize) {
        let has = share.num_permits();
        if let Some(more) = held_bytes.checked_sub(has) {
            let most = more.min(self.budget.available_permits()) as u32;
            if let Ok(more) = self.budget.clone().try_acquire_many_owned(most) {
                share.merge(more);
            }
        } else {
            drop(share.split(has - held_bytes));
        }
    }
}
