//! Entries with their batches, decoded only as far ahead as the next transactions need. The
//! smallest event takes fifty times as much memory once it is decoded, so the window's limit on
//! encoded bytes would not effectively bound memory.

use std::{collections::VecDeque, panic::resume_unwind};

use bytes::Bytes;
use matyan_model::object::INLINE_BYTES;
use matyan_proto::ingest::v1::{Event, event::Kind};

use super::payload_store::PayloadRef;
use crate::record::{Batch, Entry};

/// Memory for records decoded ahead: more than two transactions' worth, so that no transaction
/// is cut short for lack of items.
const AHEAD_BYTES: usize = 8 << 20;
/// Batches above this size are decoded off the async threads, because decoding them takes half
/// a millisecond or more.
const LARGE_BYTES: usize = 256 << 10;
/// Memory of a decoded point across its columns.
const POINT_BYTES: usize = 36;

/// An entry with its batch, or the reason it cannot be decoded.
pub(super) struct DecodedRecord {
    pub(super) entry: Entry,
    pub(super) batch: Result<Batch, String>,
    /// Values that are too large for a row, by item.
    pub(super) payloads: Vec<LargePayload>,
    /// The item that edits a series, once what precedes its transaction is done.
    pub(super) prepared_edit: Option<u32>,
}

pub(super) struct LargePayload {
    pub(super) item: u32,
    /// The payload once it is stored, or refused.
    pub(super) stored: Option<PayloadRef>,
}

impl DecodedRecord {
    fn new(entry: Entry) -> Self {
        let batch = entry.batch();
        let payloads = batch.as_ref().map(|batch| payloads(&batch.items.events)).unwrap_or_default();
        Self { entry, batch, payloads, prepared_edit: None }
    }

    async fn decode(entry: Entry) -> Self {
        if entry.bytes <= LARGE_BYTES {
            return Self::new(entry);
        }
        match tokio::task::spawn_blocking(|| Self::new(entry)).await {
            Ok(record) => record,
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            // The runtime is shutting down, and will drop this task as well.
            Err(_) => std::future::pending().await,
        }
    }

    /// Number of items; a record that cannot be decoded counts as one.
    pub(super) fn items(&self) -> u32 {
        match &self.batch {
            Ok(batch) => (batch.items.events.len() + points(batch)) as u32,
            Err(_) => 1,
        }
    }

    /// Whether it deletes its run.
    pub(super) fn deletes_run(&self) -> bool {
        let is_delete = |event: &Event| matches!(event.kind, Some(Kind::DeleteRun(_)));
        self.batch.as_ref().is_ok_and(|batch| batch.items.events.iter().any(is_delete))
    }

    /// The event of an item, if it is one.
    pub(super) fn event(&self, item: u32) -> Option<&Event> {
        self.batch.as_ref().ok()?.items.events.get(item as usize)
    }

    /// The payload of an item, if it is large.
    pub(super) fn payload(&self, item: u32) -> Option<&LargePayload> {
        let at = self.payloads.binary_search_by_key(&item, |payload| payload.item).ok()?;
        Some(&self.payloads[at])
    }

    fn memory(&self) -> usize {
        let decoded = self
            .batch
            .as_ref()
            .map_or(0, |batch| batch.items.events.len() * size_of::<Event>() + points(batch) * POINT_BYTES);
        self.entry.bytes + decoded
    }
}

fn points(batch: &Batch) -> usize {
    batch.items.points.iter().map(|points| points.series.len()).sum()
}

fn payloads(events: &[Event]) -> Vec<LargePayload> {
    let large = events.iter().zip(0..).filter(|(event, _)| large_payload(event).is_some());
    large.map(|(_, item)| LargePayload { item, stored: None }).collect()
}

/// The part of an event that becomes a blob, if it is too large for a row.
pub(super) fn large_payload(event: &Event) -> Option<&Bytes> {
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

/// The entries of a turn, of which the first are decoded.
pub(super) struct DecodeQueue {
    entries: VecDeque<Entry>,
    records: VecDeque<DecodedRecord>,
    bytes: usize,
}

impl DecodeQueue {
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        Self { entries: entries.into(), records: VecDeque::new(), bytes: 0 }
    }

    /// Decodes ahead and returns the next records; empty when all entries are done.
    pub(super) async fn next(&mut self) -> &mut [DecodedRecord] {
        while self.bytes < AHEAD_BYTES
            && let Some(entry) = self.entries.pop_front()
        {
            let record = DecodedRecord::decode(entry).await;
            self.bytes += record.memory();
            self.records.push_back(record);
        }
        self.records.make_contiguous()
    }

    /// The entries that are not done.
    pub(super) fn into_entries(self) -> Vec<Entry> {
        self.records.into_iter().map(|record| record.entry).chain(self.entries).collect()
    }

    /// Drops the first `count` records.
    pub(super) fn done(&mut self, count: usize) {
        self.bytes -= self.records.drain(..count).map(|record| record.memory()).sum::<usize>();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use matyan_proto::{ingest::v1 as pb, log::v1::LogEntry};
    use prost::Message as _;

    use super::*;

    fn entry(offset: u64, events: usize) -> Entry {
        let event = Event { client_time_us: None, kind: Some(Kind::FinishRun(pb::FinishRun::default())) };
        let batch = pb::IngestionBatch { events: vec![event; events], ..Default::default() };
        let entry =
            LogEntry { run_id: "r".into(), batch: batch.encode_to_vec().into(), ..Default::default() };
        let value: Bytes = [vec![1], entry.encode_to_vec()].concat().into();
        let record = matyan_log::Record {
            offset,
            key: Bytes::new(),
            value,
            headers: Vec::new(),
            appended_us: 0,
            leader_epoch: None,
        };
        Entry::read(0, 0, record)
    }

    #[tokio::test]
    async fn small_events_are_counted_by_their_decoded_size() {
        let entries: Vec<Entry> = (0..40).map(|offset| entry(offset, 20_000)).collect();
        assert!(entries.iter().map(|entry| entry.bytes).sum::<usize>() < 4 << 20, "a turn takes all of them");
        let mut queue = DecodeQueue::new(entries);
        let (mut seen, mut most) = (0, 0);
        loop {
            let records = queue.next().await;
            let Some(first) = records.first() else { break };
            assert_eq!(first.entry.position.offset, seen);
            seen += 1;
            most = most.max(records.iter().map(DecodedRecord::memory).sum::<usize>());
            queue.done(1);
        }
        assert_eq!((seen, queue.bytes), (40, 0));
        assert!(most < 2 * AHEAD_BYTES, "{most} bytes were decoded at once");
    }
}
