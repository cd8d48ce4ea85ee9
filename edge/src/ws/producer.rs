//! The producer of a JSON connection: its id, sequences without gaps, and a dictionary that
//! grows with them.
//! Batches are kept until they are durable. When a stream fails, the next one sends the same
//! batches under the same sequences, so that anything that the first stream has written, or
//! will still write, makes the resent batch a repeat, which is dropped.

use std::collections::VecDeque;

use bytes::Bytes;
use matyan_proto::ingest::v1::{StreamBatch, StreamOpen, StreamResponse};
use tonic::Status;
use uuid::Uuid;

use super::batch::{Batch, Dictionary};
use super::connection_deps::ConnectionDeps;
use super::session::{self, IngestSession};

pub(super) struct Producer {
    id: Bytes,
    pub(super) dictionary: Dictionary,
    session: Option<IngestSession>,
    /// Every batch up to this sequence is durable.
    acknowledged: u64,
    /// Last sequence that was sent on an earlier stream.
    sent_before: u64,
    /// The batches after `acknowledged`, which are not yet durable.
    pending: VecDeque<Batch>,
    /// Accepts no more frames, because one of its frames was reported as failed, or the memory of its
    /// dictionary is needed.
    is_retired: bool,
}

impl Producer {
    pub(super) fn new() -> Self {
        Producer {
            id: Bytes::copy_from_slice(Uuid::new_v4().as_bytes()),
            dictionary: Dictionary::default(),
            session: None,
            acknowledged: 0,
            sent_before: 0,
            pending: VecDeque::new(),
            is_retired: false,
        }
    }

    /// Returns whether a frame of `frame_bytes` bytes may be sent under this producer.
    pub(super) fn accepts(&self, frame_bytes: usize) -> bool {
        !self.is_retired && self.dictionary.has_room(frame_bytes)
    }

    pub(super) fn retire(&mut self) {
        self.is_retired = true;
    }

    pub(super) fn is_retired(&self) -> bool {
        self.is_retired
    }

    /// Returns whether the log may have unacknowledged batches, which may have been sent on an earlier
    /// stream.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.acknowledged < self.sent_before
    }

    /// Sends batches, and returns the sequence of the first.
    pub(super) fn send(&mut self, deps: &ConnectionDeps, batches: Vec<Batch>) -> u64 {
        let before = self.pending.len();
        self.pending.extend(batches);
        match self.session {
            Some(_) => self.send_from(before),
            // Opening sends all pending batches, including these.
            None => self.open(deps),
        }
        self.sequence(before)
    }

    /// Opens a stream and sends all batches that are not known to be durable.
    pub(super) fn open(&mut self, deps: &ConnectionDeps) {
        let open = StreamOpen {
            run_id: deps.run_id.clone(),
            producer_id: self.id.clone(),
            acknowledged: self.acknowledged,
            dictionary: self.dictionary.encode(self.pending.front().map(|batch| batch.series_base)),
            // The client does not know the id, so it cannot be used by another connection.
            ephemeral: true,
            // The frontier is of the same version: it is in this process.
            asks_for_features: false,
        };
        self.session = Some(IngestSession::open(&deps.streams, open));
        self.send_from(0);
    }

    fn send_from(&mut self, index: usize) {
        let first = self.sequence(index);
        let Some(session) = &mut self.session else { return };
        for (pending, sequence) in self.pending.range(index..).zip(first..) {
            let batch = pending.bytes.clone();
            let traceparent = pending.traceparent.clone();
            session.send(StreamBatch { sequence, batch, traceparent });
        }
    }

    /// Sequence of the pending batch with this index.
    fn sequence(&self, index: usize) -> u64 {
        self.acknowledged + 1 + index as u64
    }

    /// Drops the stream after it has ended.
    pub(super) fn close(&mut self) {
        if self.session.take().is_some() {
            self.sent_before = self.sequence(self.pending.len()) - 1;
        }
    }

    /// The next acknowledgement, or the error that ended the stream. Pending if no stream
    /// is open. Cancel-safe.
    pub(super) async fn answer(&mut self) -> Result<StreamResponse, Status> {
        match &mut self.session {
            Some(session) => session.answer().await,
            None => std::future::pending().await,
        }
    }

    /// Waits for something other than the next acknowledgement, and keeps the stream going.
    pub(super) async fn work_during<T>(&mut self, other: impl Future<Output = T>) -> T {
        session::work_during(self.session.as_mut(), other).await
    }

    /// Sequence of the first batch that is not known to be durable.
    pub(super) fn next_sequence(&self) -> u64 {
        self.acknowledged + 1
    }

    /// Removes the items of the batches that are not known to be durable, up to sequence `last`. They keep
    /// their sequences: if the log has one of them with its items, what is sent now is a repeat, and the
    /// batches after them continue without a gap.
    pub(super) fn remove_items(&mut self, last: u64) {
        let count = usize::try_from(last.saturating_sub(self.acknowledged)).unwrap_or(usize::MAX);
        for index in 0..count.min(self.pending.len()) {
            let end = self.pending.get(index + 1).map(|next| next.series_base);
            self.pending[index] = self.pending[index].without_items(&self.dictionary, end);
        }
    }

    /// Whether the first of these batches has lost its items.
    pub(super) fn is_next_without_items(&self) -> bool {
        self.pending.front().is_some_and(Batch::is_without_items)
    }

    /// Marks every batch up to `sequence` as durable.
    pub(super) fn acknowledge(&mut self, sequence: u64) {
        while self.acknowledged < sequence && self.pending.pop_front().is_some() {
            self.acknowledged += 1;
        }
    }
}
