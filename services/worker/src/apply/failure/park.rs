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
use matyan_wire::{columns, headers::BATCH_TYPE};
use prost::Message;

use super::isolate::AttemptMode;
use crate::apply::{
    apply_failure::ApplyFailure,
    decoded_record::{DecodedRecord, item_position},
    run_state::dictionary::Dictionary,
    transaction::RunTransaction,
};

/// A parked item as copied to the dead-letter topic.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetter {
    pub(crate) reason: String,
    pub(crate) item: Bytes,
    pub(crate) content_type: &'static str,
    pub(crate) at: ItemPosition,
    /// Name of the project; empty for the default one.
    pub(crate) project: String,
    /// Trace header of its record.
    pub(crate) trace: Option<Bytes>,
}

/// Larger items are written before the transaction that parks them.
const INLINE_BYTES: usize = 1 << 20;

/// Items parked by an attempt.
pub(crate) struct ParkedItems {
    /// Reason to park the first item even if it is valid.
    reason: Option<String>,
    /// Whether to keep only the digest of an item, because its bytes could not be stored.
    digest_only: bool,
    letters: Vec<DeadLetter>,
}

impl ParkedItems {
    pub(crate) fn new(mode: AttemptMode) -> Self {
        match mode {
            AttemptMode::Apply { .. } => Self { reason: None, digest_only: false, letters: Vec::new() },
            AttemptMode::Park { reason, digest_only } => {
                Self { reason: Some(reason), digest_only, letters: Vec::new() }
            }
        }
    }

    /// Reason to park the next item without trying to apply it.
    pub(crate) fn imposed_reason(&self) -> Option<String> {
        self.reason.clone()
    }

    /// Parks some adjacent items of a record, which are in `batch`; `item` is the number of the first.
    pub(crate) async fn park(
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
    pub(crate) async fn park_record(
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
        let entry = &record.entry;
        let run = transaction.run();
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
        let mut parked = ParkedItem {
            run_id: run.id.clone(),
            at,
            reason: reason.to_owned(),
            received_us: entry.received_us,
            item: bytes,
            record: None,
        };
        if self.digest_only {
            parked.reason = reason_without_item(&parked.item, reason);
            parked.item = Bytes::new();
        }
        let is_small = parked.item.len() <= INLINE_BYTES;
        for content in parked_content(run.project, &parked) {
            if is_small {
                transaction.add_estimate(content.bytes());
                transaction.batch().append(content);
            } else {
                transaction.commit_ahead(content).await?;
            }
        }
        let bytes = parked_put(transaction.batch(), run.project, &parked);
        transaction.add_estimate(bytes);
        Ok(())
    }

    /// The copies for the dead-letter topic.
    pub(crate) fn into_letters(self) -> Vec<DeadLetter> {
        self.letters
    }
}

/// A batch with just this event.
pub(crate) fn event_batch(event: &Event) -> IngestionBatch {
    IngestionBatch { events: vec![event.clone()], ..IngestionBatch::default() }
}

/// A batch with just these adjacent points, and with the definition of their series if it is the same.
pub(crate) fn points_batch(dictionary: &Dictionary, group: &Points, range: Range<usize>) -> IngestionBatch {
    let mut points = columns::slice(group, range);
    let first = points.series.first().copied();
    let is_one_series = points.series.iter().all(|other| Some(*other) == first);
    let mut batch = IngestionBatch::default();
    let definition = first.and_then(|first| dictionary.definition(first));
    if let Some(definition) = definition.filter(|_| is_one_series) {
        batch.series.push(SeriesDef {
            name: definition.name.clone(),
            context: definition.context.clone(),
            dtype: definition.dtype.clone(),
        });
        points.series.fill(0);
    }
    batch.points.push(points);
    batch
}

/// The reason stored for an item whose bytes could not be kept either.
fn reason_without_item(bytes: &[u8], reason: &str) -> String {
    let count = bytes.len();
    let digest = blake3::hash(bytes).to_hex();
    format!("{reason}; its {count} bytes (BLAKE3 {digest}) could not be kept")
}
