//! The log record of a batch: one `LogEntry` that holds the bytes of the batch, encoded once.

use bytes::Bytes;
use matyan_log::NewRecord;
use matyan_proto::log::v1::LogEntry;
use matyan_wire::ingestion;

use crate::{
    convert::{Caller, Producer},
    run_id::RunId,
};

/// Metadata shared by all records of one stream or call.
#[derive(Debug)]
pub(crate) struct Author {
    pub(crate) run: RunId,
    pub(crate) producer: Producer,
    pub(crate) caller: Caller,
}

/// Metadata of one batch.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    pub(crate) received_us: i64,
    pub(crate) sequence: u64,
    /// The last batch that the client knows to be durable.
    pub(crate) acknowledged: u64,
    pub(crate) trace: Option<Bytes>,
}

impl Author {
    /// Records of one run go to one partition.
    pub(crate) fn key(&self) -> Bytes {
        Bytes::copy_from_slice(self.run.as_str().as_bytes())
    }
}

pub(crate) fn encode(author: &Author, stamp: Stamp, batch: Bytes) -> NewRecord {
    let entry = LogEntry {
        run_id: author.run.as_str().to_owned(),
        project: author.caller.project.clone(),
        caller: author.caller.identity.clone(),
        received_us: stamp.received_us,
        producer_id: Bytes::copy_from_slice(&author.producer.id),
        sequence: stamp.sequence,
        acknowledged: stamp.acknowledged,
        batch,
        ephemeral_producer: author.producer.ephemeral,
    };
    NewRecord {
        key: author.key(),
        value: ingestion::encode(&entry),
        headers: ingestion::headers(stamp.trace),
    }
}
