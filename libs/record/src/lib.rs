//! Formats of the records of the log, on which the processes that write and read them must agree.
//!
//! No other crate writes or reads these formats. This one performs no I/O: it handles the keys,
//! values, and headers of records, but never a log.

pub mod event;
pub mod headers;

pub mod control;
pub mod dead_letter;
pub mod ingestion;
pub mod legacy_json;

pub mod trace;

pub use event::{MessageCounts, MessageType};

/// Reason why a record cannot be read; stored with the parked record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnreadableRecord(String);

impl UnreadableRecord {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}
