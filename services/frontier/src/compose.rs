//! Turns a client's batch into log records: checks it, then writes it in the configured format.
//! A composer belongs to one stream or call, because the dictionary does.

use bytes::Bytes;
use matyan_proto::ingest::v1 as pb;
use matyan_wire::{
    ingestion::RecordFormat,
    legacy_json::EnvelopeSeries,
    trace::{self, TARGET},
};
use tokio::time::Instant;

use crate::{
    batch::{self, Dictionary},
    dictionary_memory::DictionaryShare,
    envelope,
    error::Result,
    ingestion::Ingestion,
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
    /// Whether a bad item makes the whole batch bad. Its items are then not counted as accepted.
    pub(crate) all_or_nothing: bool,
}

impl ReceivedBatch {
    pub(crate) fn new(ingestion: &Ingestion, sequence: u64, trace: Option<Bytes>, batch: Bytes) -> Self {
        let received_us = (ingestion.clock)();
        let received = Instant::now();
        Self { sequence, trace, batch, received_us, received, all_or_nothing: false }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.batch.len()
    }
}

/// A batch that is ready for the log, and its counts for metrics.
struct ComposedBatch {
    batch: LogBatch,
    items: ItemCounts,
    masked_tokens: u64,
}

#[derive(Debug)]
pub(crate) struct Composer {
    author: Author,
    dictionary: Dictionary,
    /// `None` if records are protobuf.
    definitions: Option<EnvelopeSeries>,
    /// Definitions of earlier streams, which the next record repeats: the store may have been
    /// restored from a backup since, or have removed them after a long silence.
    earlier: Vec<pb::SeriesDef>,
    /// The memory of these definitions.
    share: DictionaryShare,
    /// Whether a batch so far had points in rows. A worker that does not know them parks its record without counting its
    /// sequence, and would skip a later record as one after a gap, so it must not read that one either.
    has_had_rows: bool,
}

impl Composer {
    /// Creates a composer. `series` are the definitions of the producer on an earlier
    /// stream.
    pub(crate) fn new(ingestion: &Ingestion, author: Author, mut series: Vec<pb::SeriesDef>) -> Result<Self> {
        let dictionary = Dictionary::new(&mut series);
        let definitions = (ingestion.settings.format == RecordFormat::Json).then(|| {
            let mut definitions = EnvelopeSeries::default();
            definitions.extend(&std::mem::take(&mut series));
            definitions
        });
        let share = ingestion.dictionaries.share();
        let mut composer =
            Self { author, dictionary, definitions, earlier: series, share, has_had_rows: false };
        composer.resize_share()?;
        Ok(composer)
    }

    fn resize_share(&mut self) -> Result<()> {
        let kept = self.definitions.as_ref().map_or(0, EnvelopeSeries::held_bytes);
        self.share.resize(kept + held_bytes(&self.earlier))
    }

    /// Prepares a batch for the log. Everything up to `acknowledged` is durable.
    pub(crate) async fn compose_batch(
        mut self,
        ingestion: &Ingestion,
        received: ReceivedBatch,
        acknowledged: u64,
    ) -> (Self, Result<LogBatch>) {
        let (composer, composed) = if received.bytes() <= HEAVY_BYTES {
            let composed = self.compose(received, acknowledged);
            (self, composed)
        } else {
            let _permit = ingestion.heavy_checks.acquire().await.expect("the semaphore is never closed");
            let task = tokio::task::spawn_blocking(move || {
                let composed = self.compose(received, acknowledged);
                (self, composed)
            });
            match task.await {
                Ok(done) => done,
                Err(failure) => match failure.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The runtime is shutting down, and will drop this task
                    // as well.
                    Err(_) => std::future::pending().await,
                },
            }
        };
        let batch = composed.map(|ComposedBatch { batch, items, masked_tokens }| {
            ingestion.metrics.count_items(items);
            ingestion.metrics.rejected_items.inc_by(batch.rejections.total() as u64);
            ingestion.metrics.masked_tokens.inc_by(masked_tokens);
            batch
        });
        (composer, batch)
    }

    fn compose(&mut self, received: ReceivedBatch, acknowledged: u64) -> Result<ComposedBatch> {
        let ReceivedBatch { sequence, trace, batch, received_us, received, all_or_nothing } = received;
        let bytes = batch.len();
        let run_id = self.author.run.as_str();
        let span = tracing::info_span!(target: TARGET, parent: None, "publish", run_id, sequence, bytes);
        trace::join_trace(&span, trace.as_deref().unwrap_or_default());
        let trace = trace::traceparent(&span).map(Bytes::from).or(trace);
        let extra_check = if self.definitions.is_some() { envelope::check } else { |_: &pb::Event| Ok(()) };
        let mut checked = batch::check(&self.author.run, &mut self.dictionary, extra_check, batch)?;
        // More than was received if rows with a bad series have become single points.
        let checked_bytes = bytes.max(checked.bytes.len());
        if all_or_nothing && checked.rejections.total() > 0 {
            checked.clear();
        }
        if !self.earlier.is_empty() && !checked.bytes.is_empty() {
            checked.prepend_definitions(std::mem::take(&mut self.earlier));
            self.resize_share()?;
        }
        let items = ItemCounts::of_batch(&checked.batch);
        let stamp = Stamp { received_us, sequence, acknowledged, trace };
        let records = match &mut self.definitions {
            None => {
                self.has_had_rows |= checked.batch.points.iter().any(|group| group.rows.is_some());
                vec![record::encode(&self.author, stamp, checked.bytes, self.has_had_rows)]
            }
            Some(definitions) => {
                definitions.extend(&checked.batch.series);
                self.share.resize(definitions.held_bytes())?;
                envelope::encode(&self.author, &stamp, definitions, &checked.batch)?
            }
        };
        let held_bytes = match &self.definitions {
            None => checked_bytes,
            Some(_) => records.iter().map(envelope::held).sum(),
        };
        let rejections = checked.rejections;
        let masked_tokens = checked.masked_tokens;
        let batch = LogBatch { sequence, records, rejections, bytes, held_bytes, received, _span: span };
        Ok(ComposedBatch { batch, items, masked_tokens })
    }
}

/// The memory that decoded definitions take.
fn held_bytes(series: &[pb::SeriesDef]) -> usize {
    let mut bytes = size_of_val(series);
    for definition in series {
        bytes += definition.name.len() + definition.context.len() + definition.dtype.len();
    }
    bytes
}
