//! From a batch to what stands in the log, as `matyan/log/v1/record.proto` describes it: one record with a `LogEntry` that holds
//! the bytes of the batch, encoded once.

use bytes::{BufMut, Bytes, BytesMut};
use matyan_log::NewRecord;
use matyan_proto::log::v1::LogEntry;
use prost::Message;

use crate::convert::{Caller, Producer, RunId};

/// The layout of what follows.
const FORMAT: u8 = 1;

const CONTENT_TYPE: &str = "application/x-protobuf;type=matyan.log.v1.LogEntry";

/// What the records of one stream, or of one call, have in common.
#[derive(Debug)]
pub(crate) struct Author {
    pub(crate) run: RunId,
    pub(crate) producer: Producer,
    pub(crate) caller: Caller,
}

/// What is told of one batch beside its items.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    pub(crate) received_us: i64,
    pub(crate) sequence: u64,
    /// Up to here the client has its acknowledgements.
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
    let mut value = BytesMut::with_capacity(1 + entry.encoded_len());
    value.put_u8(FORMAT);
    entry.encode(&mut value).expect("the buffer has room for the entry");
    NewRecord { key: author.key(), value: value.freeze(), headers: headers(CONTENT_TYPE, stamp.trace) }
}

pub(crate) fn headers(content_type: &'static str, trace: Option<Bytes>) -> Vec<(String, Bytes)> {
    let mut headers = vec![("content-type".to_owned(), Bytes::from_static(content_type.as_bytes()))];
    headers.extend(trace.map(|trace| ("traceparent".to_owned(), trace)));
    headers
}
