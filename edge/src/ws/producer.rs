//! What a JSON connection writes under: an id of its own, sequences without gaps, and a dictionary that grows with them.
//! Batches are kept until they are durable. A stream that failed is followed by one that gets the very same batches under
//! the very same sequences: whatever the first one still brings to the log, or has brought, is then dropped as a repeat.

use std::collections::VecDeque;

use bytes::Bytes;
use matyan_proto::ingest::v1::{StreamBatch, StreamOpen, StreamResponse};
use tonic::Status;
use uuid::Uuid;

use super::batch::{Batch, Dictionary};
use super::connection::Context;
use super::session::Session;

pub(super) struct Producer {
    id: Bytes,
    pub(super) dictionary: Dictionary,
    session: Option<Session>,
    /// Everything up to this sequence is durable.
    acknowledged: u64,
    /// What follows, and is not.
    pending: VecDeque<Batch>,
    /// It takes no more frames: one of those that it was given was given up.
    retired: bool,
}

impl Producer {
    pub(super) fn new() -> Self {
        Producer {
            id: Bytes::copy_from_slice(Uuid::new_v4().as_bytes()),
            dictionary: Dictionary::default(),
            session: None,
            acknowledged: 0,
            pending: VecDeque::new(),
            retired: false,
        }
    }

    /// Whether a frame of so many bytes may be sent under it.
    pub(super) fn takes(&self, frame_bytes: usize) -> bool {
        !self.retired && self.dictionary.has_room(frame_bytes)
    }

    pub(super) fn retire(&mut self) {
        self.retired = true;
    }

    /// Sends batches, and answers with the sequence of the first.
    pub(super) fn send(&mut self, context: &Context, batches: Vec<Batch>) -> u64 {
        let before = self.pending.len();
        self.pending.extend(batches);
        match self.session {
            Some(_) => self.send_from(before),
            None => self.open(context),
        }
        self.sequence(before)
    }

    /// Opens a stream and sends what is not known to be durable.
    pub(super) fn open(&mut self, context: &Context) {
        let open = StreamOpen {
            run_id: context.run_id.clone(),
            producer_id: self.id.clone(),
            acknowledged: self.acknowledged,
            dictionary: self.dictionary.encode(self.pending.front().map(|batch| batch.series_base)),
            ephemeral: true,
        };
        self.session = Some(Session::open(&context.ingest, open));
        self.send_from(0);
    }

    fn send_from(&mut self, index: usize) {
        let first = self.sequence(index);
        let Some(session) = &mut self.session else { return };
        for (batch, sequence) in self.pending.range(index..).zip(first..) {
            let (batch, traceparent) = (batch.bytes.clone(), batch.traceparent.clone());
            session.send(StreamBatch { sequence, batch, traceparent });
        }
    }

    /// Of the pending batch of this index.
    fn sequence(&self, index: usize) -> u64 {
        self.acknowledged + 1 + index as u64
    }

    /// The stream is over.
    pub(super) fn close(&mut self) {
        self.session = None;
    }

    /// The next acknowledgement, or why there will be none; never where no stream is open. Cancel-safe.
    pub(super) async fn answer(&mut self) -> Result<StreamResponse, Status> {
        match &mut self.session {
            Some(session) => session.answer().await,
            None => std::future::pending().await,
        }
    }

    /// Everything up to this sequence is durable.
    pub(super) fn acknowledge(&mut self, sequence: u64) {
        while self.acknowledged < sequence && self.pending.pop_front().is_some() {
            self.acknowledged += 1;
        }
    }
}
