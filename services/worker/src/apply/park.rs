//! Parking: an item that cannot be applied is kept in the store with the reason, as a batch
//! with just that item, in the same transaction that moves the cursor past it. The dead-letter
//! topic gets a copy afterwards.

use std::ops::Range;

use bytes::Bytes;
use matyan_model::{
    keys::ItemPosition,
    parked::{ParkedItem, parked_put},
};
use matyan_proto::ingest::v1::{Event, IngestionBatch, Points, SeriesDef};
use prost::Message;

use super::{
    ApplyFailure,
    decode_queue::DecodedRecord,
    dictionary::Dictionary,
    payloads::blob_put,
    step::{Step, StepMode},
};
use matyan_record::headers::BATCH_TYPE;

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

/// Larger items are moved to the blob store, so that parking always fits in a transaction.
const INLINE_BYTES: usize = 1 << 20;

impl Step<'_> {
    pub(super) async fn park_event(
        &mut self,
        record: &DecodedRecord,
        event: &Event,
        item: u32,
        reason: &str,
    ) -> Result<(), ApplyFailure> {
        let batch = IngestionBatch { events: vec![event.clone()], ..IngestionBatch::default() };
        self.park(record, item, (batch.encode_to_vec().into(), BATCH_TYPE), reason).await
    }

    /// Parks adjacent points that failed for the same reason as one item, together with
    /// their definition if they share one.
    pub(super) async fn park_points(
        &mut self,
        record: &DecodedRecord,
        dictionary: &Dictionary,
        group: &Points,
        range: Range<usize>,
        item: u32,
        reason: &str,
    ) -> Result<(), ApplyFailure> {
        let reference = group.series[range.start];
        let is_one_series = group.series[range.clone()].iter().all(|own| *own == reference);
        let mut points = slice(group, range);
        let mut batch = IngestionBatch::default();
        if let Some(definition) = dictionary.definitions.get(reference as usize).filter(|_| is_one_series) {
            let (name, context, dtype) = (&definition.name, &definition.context, &definition.dtype);
            batch.series.push(SeriesDef {
                name: name.clone(),
                context: context.clone(),
                dtype: dtype.clone(),
            });
            points.series.fill(0);
        }
        batch.points.push(points);
        self.park(record, item, (batch.encode_to_vec().into(), BATCH_TYPE), reason).await
    }

    /// Parks a record whose batch cannot be decoded.
    pub(super) async fn park_record(
        &mut self,
        record: &DecodedRecord,
        reason: &str,
    ) -> Result<(), ApplyFailure> {
        self.items += 1;
        self.park(record, 0, (record.entry.raw(), record.entry.content_type()), reason).await
    }

    async fn park(
        &mut self,
        record: &DecodedRecord,
        item: u32,
        (bytes, content_type): (Bytes, &'static str),
        reason: &str,
    ) -> Result<(), ApplyFailure> {
        let at = Self::item_position(record, item);
        tracing::warn!(run = self.run.id.as_str(), ?at, reason, "parked an item that cannot be applied");
        self.outcome.parked.push(DeadLetter {
            reason: reason.to_owned(),
            item: bytes.clone(),
            content_type,
            at,
            project: record.entry.project.clone(),
            trace: record.entry.trace.clone(),
        });
        let (bytes, reason) = match self.mode {
            StepMode::Park { digest_only: true, .. } => (Bytes::new(), reason_without_item(&bytes, reason)),
            StepMode::Park { .. } | StepMode::Apply { .. } => (bytes, reason.to_owned()),
        };
        let mut parked = ParkedItem {
            run_id: self.run.id.clone(),
            at,
            reason,
            received_us: record.entry.received_us,
            item: bytes,
            blob: None,
        };
        if parked.item.len() > INLINE_BYTES {
            let content = std::mem::take(&mut parked.item);
            parked.blob = Some(blob_put(self.deps, self.run, content, "application/x-protobuf").await?);
        }
        self.bytes += parked_put(self.transaction.batch(), self.run.project, &parked);
        Ok(())
    }
}

/// The reason stored for an item whose bytes could not be kept either.
fn reason_without_item(bytes: &[u8], reason: &str) -> String {
    let (count, digest) = (bytes.len(), blake3::hash(bytes).to_hex());
    format!("{reason}; its {count} bytes (BLAKE3 {digest}) could not be kept")
}

/// The points of a range. A column with a single value applies to all points and is kept as it
/// is.
fn slice(group: &Points, range: Range<usize>) -> Points {
    let count = group.series.len();
    let cut = |column: &Vec<i64>| {
        if column.len() == count { column[range.clone()].to_vec() } else { column.clone() }
    };
    Points {
        series: group.series[range.clone()].to_vec(),
        values: group.values.get(range.clone()).unwrap_or(&group.values).to_vec(),
        steps: cut(&group.steps),
        epochs: cut(&group.epochs),
        times_us: cut(&group.times_us),
    }
}
