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

/// Encodes a batch. `has_rows` says whether points in it, or in an earlier batch of the stream, are in rows.
pub(crate) fn encode(author: &Author, stamp: Stamp, batch: Bytes, has_rows: bool) -> NewRecord {
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
    let value = if has_rows { ingestion::encode_with_rows(&entry) } else { ingestion::encode(&entry) };
    NewRecord { key: author.key(), value, headers: ingestion::headers(stamp.trace) }
}
