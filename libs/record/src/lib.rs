//! The records of the log: everything that two processes must agree on when one writes a record and
//! another reads it.
//!
//! Each format is written and read here and nowhere else. It is pure: a log is never touched, only
//! the keys, values, and headers of its records.

pub mod event;
pub mod headers;

pub mod control;
pub mod dead_letter;
pub mod ingestion;
pub mod legacy_json;

pub mod trace;

pub use event::{MessageCounts, MessageType};

/// A record that cannot be read, with the reason; it is parked with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnreadableRecord(String);

impl UnreadableRecord {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}
