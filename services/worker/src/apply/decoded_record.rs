//! A record on its way through the steps: an entry with its decoded batch, and the results of the steps
//! that precede its transaction.

use bytes::Bytes;
use matyan_model::{
    keys::ItemPosition,
    object::{BlobRef, INLINE_BYTES},
    position::LogPosition,
};
use matyan_proto::ingest::v1::{Event, Points, event::Kind};
use matyan_wire::rows;

use crate::record::{Batch, Entry};

/// Reference to a stored payload, or the reason why it cannot be stored.
pub(crate) type PayloadRef = Result<BlobRef, String>;

/// An entry with its batch, or the reason it cannot be decoded.
pub(crate) struct DecodedRecord {
    pub(crate) entry: Entry,
    pub(crate) batch: Result<Batch, String>,
    /// Values that are too large for a row, by item.
    pub(crate) payloads: Vec<LargePayload>,
    /// The item that edits a series, once the work that precedes its transaction is done.
    pub(crate) prepared_edit: Option<u32>,
}

pub(crate) struct LargePayload {
    pub(crate) item: u32,
    /// The payload once it is stored, or refused.
    pub(crate) stored: Option<PayloadRef>,
}

impl DecodedRecord {
    pub(crate) fn new(entry: Entry) -> Self {
        let batch = entry.batch();
        let payloads = batch.as_ref().map(|batch| payloads(&batch.items.events)).unwrap_or_default();
        Self { entry, batch, payloads, prepared_edit: None }
    }

    /// Number of items; a record that cannot be decoded counts as one.
    pub(crate) fn items(&self) -> u32 {
        match &self.batch {
            Ok(batch) => (batch.items.events.len() + points(batch)) as u32,
            Err(_) => 1,
        }
    }

    /// Whether the record deletes its run.
    pub(crate) fn deletes_run(&self) -> bool {
        let Ok(batch) = &self.batch else { return false };
        batch.items.events.iter().any(|event| matches!(event.kind, Some(Kind::DeleteRun(_))))
    }

    /// The event of an item, if the item is an event.
    pub(crate) fn event(&self, item: u32) -> Option<&Event> {
        self.batch.as_ref().ok()?.items.events.get(item as usize)
    }

    /// The payload of an item, if the payload is large.
    pub(crate) fn payload(&self, item: u32) -> Option<&LargePayload> {
        let at = self.payloads.binary_search_by_key(&item, |payload| payload.item).ok()?;
        Some(&self.payloads[at])
    }

    /// Approximate memory use.
    pub(crate) fn memory(&self) -> usize {
        let decoded = match &self.batch {
            Ok(batch) => {
                let groups: usize = batch.items.points.iter().map(group_memory).sum();
                batch.items.events.len() * size_of::<Event>() + groups
            }
            Err(_) => 0,
        };
        self.entry.bytes + decoded
    }
}

/// Memory of a decoded group. The values of rows stay encoded until they are applied, but not their steps, epochs and
/// times, because each value may have different ones.
fn group_memory(group: &Points) -> usize {
    let numbers = group.values.len() + group.steps.len() + group.epochs.len() + group.times_us.len();
    size_of::<Points>() + size_of_val(&*group.series) + numbers * size_of::<i64>()
}

fn points(batch: &Batch) -> usize {
    batch.items.points.iter().map(rows::count).sum()
}

fn payloads(events: &[Event]) -> Vec<LargePayload> {
    let large = events.iter().zip(0..).filter(|(event, _)| large_payload(event).is_some());
    large.map(|(_, item)| LargePayload { item, stored: None }).collect()
}

/// The part of an event that becomes a blob, if the part is too large for a row.
pub(crate) fn large_payload(event: &Event) -> Option<&Bytes> {
    match event.kind.as_ref()? {
        Kind::LogObject(object) => Some(&object.value).filter(|value| value.len() > INLINE_BYTES),
        Kind::CreateRun(_)
        | Kind::FinishRun(_)
        | Kind::SetRunProperty(_)
        | Kind::AddTag(_)
        | Kind::RemoveTag(_)
        | Kind::LogParams(_)
        | Kind::LogTerminalLine(_)
        | Kind::LogRecord(_)
        | Kind::BlobRef(_)
        | Kind::EditSeries(_)
        | Kind::DeleteRun(_) => None,
    }
}

pub(crate) fn item_position(LogPosition { log, partition, offset }: LogPosition, item: u32) -> ItemPosition {
    ItemPosition { log, partition, offset, item }
}
