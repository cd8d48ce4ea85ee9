//! Formats on which two processes must agree: the columns and JSON messages of clients, the
//! records of the log, the content types of files, and which hosts are this machine.
//!
//! No other crate writes or reads these formats. This crate performs no I/O: it handles messages and
//! the keys, values, and headers of records, but never a connection or a log.

mod message_type;

pub mod client_json;
pub mod columns;
pub mod content_types;
mod json_event;

pub mod control;
pub mod dead_letter;
mod fitting_name;
pub mod headers;
pub mod ingestion;
pub mod legacy_json;
pub mod loopback;
pub mod project_quota;
pub mod row_groups;
pub mod rows;
pub mod search_stream;
pub mod server_version;

pub mod trace;
pub mod trial_points;

pub use fitting_name::{SeriesName, fitting_name};
pub use message_type::{MessageCounts, MessageType};

/// Reason why a record cannot be read; stored with the parked record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnreadableRecord(String);

impl UnreadableRecord {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}
