//! Decodes entries only as far ahead as the next transactions need. The smallest event takes fifty times as
//! much memory once it is decoded, so the window's limit on encoded bytes would not effectively bound memory.

use std::{collections::VecDeque, panic::resume_unwind};

use crate::{apply::decoded_record::DecodedRecord, record::Entry};

/// Memory for records decoded ahead: more than two transactions' worth, so that no transaction
/// is cut short for lack of items.
const AHEAD_BYTES: usize = 8 << 20;
/// Batches above this size are decoded off the async threads, because decoding them takes half
/// a millisecond or more.
const LARGE_BYTES: usize = 256 << 10;
/// The entries of a turn. The first of them are decoded.
pub(crate) struct DecodeQueue {
    entries: VecDeque<Entry>,
    records: VecDeque<DecodedRecord>,
    bytes: usize,
}

impl DecodeQueue {
    pub(crate) fn new(entries: Vec<Entry>) -> Self {
        Self { entries: entries.into(), records: VecDeque::new(), bytes: 0 }
    }

    /// Decodes entries until the decoded records take the memory that is allowed for them.
    pub(crate) async fn decode_ahead(&mut self) {
        while self.bytes < AHEAD_BYTES
            && let Some(entry) = self.entries.pop_front()
        {
            let record = decode(entry).await;
            self.bytes += record.memory();
            self.records.push_back(record);
        }
    }

    /// The decoded records that are not done.
    pub(crate) fn records(&mut self) -> &mut [DecodedRecord] {
        self.records.make_contiguous()
    }

    /// The entries that are not done.
    pub(crate) fn into_entries(self) -> Vec<Entry> {
        self.records.into_iter().map(|record| record.entry).chain(self.entries).collect()
    }

    /// Drops the first `count` records.
    pub(crate) fn done(&mut self, count: usize) {
        self.bytes -= self.records.drain(..count).map(|record| record.memory()).sum::<usize>();
    }
}

async fn decode(entry: Entry) -> DecodedRecord {
    if entry.bytes <= LARGE_BYTES {
        return DecodedRecord::new(entry);
    }
    match tokio::task::spawn_blocking(|| DecodedRecord::new(entry)).await {
        Ok(record) => record,
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        // The runtime is shutting down, and will drop this task as well.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use matyan_proto::{
        ingest::v1::{self as pb, Event, event::Kind},
        log::v1::LogEntry,
    };
    use matyan_wire::rows;
    use prost::Message as _;

    use super::*;

    fn entry(offset: u64, events: usize) -> Entry {
        let event = Event { client_time_us: None, kind: Some(Kind::FinishRun(pb::FinishRun::default())) };
        entry_of(offset, &pb::IngestionBatch { events: vec![event; events], ..Default::default() })
    }

    fn entry_of(offset: u64, batch: &pb::IngestionBatch) -> Entry {
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
        Entry::read(0, 0, record, false)
    }

    #[tokio::test]
    async fn small_events_are_counted_by_their_decoded_size() {
        let entries: Vec<Entry> = (0..40).map(|offset| entry(offset, 20_000)).collect();
        assert!(entries.iter().map(|entry| entry.bytes).sum::<usize>() < 4 << 20, "a turn takes all of them");
        let mut queue = DecodeQueue::new(entries);
        let mut seen = 0;
        let mut most = 0;
        loop {
            queue.decode_ahead().await;
            let records = queue.records();
            let Some(first) = records.first() else { break };
            assert_eq!(first.entry.position.offset, seen);
            seen += 1;
            most = most.max(records.iter().map(DecodedRecord::memory).sum::<usize>());
            queue.done(1);
        }
        assert_eq!((seen, queue.bytes), (40, 0));
        assert!(most < 2 * AHEAD_BYTES, "{most} bytes were decoded at once");
    }

    /// A value takes four bytes, and its step, epoch and time take three bytes on the wire and 24 once they are decoded.
    #[test]
    fn columns_of_rows_are_counted_by_their_decoded_size() {
        let count = 10_000;
        let column = vec![0; count];
        let group = pb::Points {
            steps: column.clone(),
            epochs: column.clone(),
            times_us: column,
            rows: Some(rows::encode(0, 1, &vec![0.5; count])),
            ..Default::default()
        };
        let entry = entry_of(0, &pb::IngestionBatch { points: vec![group], ..Default::default() });
        assert!(entry.bytes < 8 * count, "{} bytes", entry.bytes);
        let memory = DecodedRecord::new(entry).memory();
        assert!((28 * count..40 * count).contains(&memory), "{memory} bytes");
    }
}
