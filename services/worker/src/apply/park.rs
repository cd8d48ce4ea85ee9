//! Parking: an item that cannot be applied is kept in the store with the reason, as a batch
//! with just that item, in the same transaction that moves the cursor past it. The dead-letter
//! topic gets a copy afterwards.

use std::ops::Range;

use bytes::Bytes;
use matyan_model::{
    keys::ItemPosition,
    parked::{ParkedItem, parked_content, parked_put},
};
use matyan_proto::ingest::v1::{Event, IngestionBatch, Points, SeriesDef};
use matyan_record::headers::BATCH_TYPE;
use prost::Message;

use super::{
    ApplyFailure, columns, decode_queue::DecodedRecord, dictionary::Dictionary, item_position,
    mode::AttemptMode, transaction::RunTransaction,
};

/// A parked item as copied to the dead-letter topic.
#[derive(Clone, Debug)]
pub(super) struct DeadLetter {
    pub(super) reason: String,
    pub(super) item: Bytes,
    pub(super) content_type: &'static str,
    pub(super) at: ItemPosition,
    /// Name of the project; empty for the default one.
    pub(super) project: String,
    /// Trace header of its record.
    pub(super) trace: Option<Bytes>,
}

/// Larger items are written before the transaction that parks them.
const INLINE_BYTES: usize = 1 << 20;

/// Items parked by an attempt.
pub(super) struct ParkedItems {
    /// Reason to park the first item even if it is valid.
    reason: Option<String>,
    digest_only: bool,
    letters: Vec<DeadLetter>,
}

impl ParkedItems {
    pub(super) fn new(mode: AttemptMode) -> Self {
        let (reason, digest_only) = match mode {
            AttemptMode::Apply { .. } => (None, false),
            AttemptMode::Park { reason, digest_only } => (Some(reason), digest_only),
        };
        Self { reason, digest_only, letters: Vec::new() }
    }

    /// Reason to park the next item without trying to apply it.
    pub(super) fn imposed_reason(&self) -> Option<String> {
        self.reason.clone()
    }

    /// Parks items of a record, the first of which has this number.
    pub(super) async fn park(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        record: &DecodedRecord,
        item: u32,
        batch: &IngestionBatch,
        reason: &str,
    ) -> Result<(), ApplyFailure> {
        self.put(transaction, record, item, (batch.encode_to_vec().into(), BATCH_TYPE), reason).await
    }

    /// Parks a record whose batch cannot be decoded.
    pub(super) async fn park_record(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        record: &DecodedRecord,
        reason: &str,
    ) -> Result<(), ApplyFailure> {
        let content = (record.entry.raw(), record.entry.content_type());
        self.put(transaction, record, 0, content, reason).await
    }

    async fn put(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        record: &DecodedRecord,
        item: u32,
        (bytes, content_type): (Bytes, &'static str),
        reason: &str,
    ) -> Result<(), ApplyFailure> {
        let (entry, run) = (&record.entry, transaction.run());
        let at = item_position(entry.position, item);
        tracing::warn!(run = run.id.as_str(), ?at, reason, "parked an item that cannot be applied");
        self.letters.push(DeadLetter {
            reason: reason.to_owned(),
            item: bytes.clone(),
            content_type,
            at,
            project: entry.project.clone(),
            trace: entry.trace.clone(),
        });
        let (bytes, reason) = match self.digest_only {
            true => (Bytes::new(), reason_without_item(&bytes, reason)),
            false => (bytes, reason.to_owned()),
        };
        let (run_id, received_us) = (run.id.clone(), entry.received_us);
        let parked = ParkedItem { run_id, at, reason, received_us, item: bytes, record: None };
        let is_small = parked.item.len() <= INLINE_BYTES;
        for mut content in parked_content(run.project, &parked) {
            match is_small {
                true => {
                    transaction.add_estimate(content.bytes());
                    transaction.batch().mutations.append(&mut content.mutations);
                }
                false => transaction.commit_ahead(content).await?,
            }
        }
        let bytes = parked_put(transaction.batch(), run.project, &parked);
        transaction.add_estimate(bytes);
        Ok(())
    }

    /// The copies for the dead-letter topic.
    pub(super) fn into_letters(self) -> Vec<DeadLetter> {
        self.letters
    }
}

/// A batch with just this event.
pub(super) fn event_batch(event: &Event) -> IngestionBatch {
    IngestionBatch { events: vec![event.clone()], ..IngestionBatch::default() }
}

/// A batch with just these adjacent points, and with their definition if they share one.
pub(super) fn points_batch(dictionary: &Dictionary, group: &Points, range: Range<usize>) -> IngestionBatch {
    let reference = group.series[range.start];
    let is_one_series = group.series[range.clone()].iter().all(|other| *other == reference);
    let mut points = columns::slice(group, range);
    let mut batch = IngestionBatch::default();
    if let Some(definition) = dictionary.definition(reference).filter(|_| is_one_series) {
        let (name, context, dtype) = (&definition.name, &definition.context, &definition.dtype);
        batch.series.push(SeriesDef { name: name.clone(), context: context.clone(), dtype: dtype.clone() });
        points.series.fill(0);
    }
    batch.points.push(points);
    batch
}

/// The reason stored for an item whose bytes could not be kept either.
fn reason_without_item(bytes: &[u8], reason: &str) -> String {
    let (count, digest) = (bytes.len(), blake3::hash(bytes).to_hex());
    format!("{reason}; its {count} bytes (BLAKE3 {digest}) could not be kept")
}
