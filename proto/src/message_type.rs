//! What Matyan 0.3 calls the items of a batch. Dashboards know these names as labels, and more than one service counts by
//! them: so they stand beside the messages.

use crate::ingest::v1::event::Kind;

/// Points are `log_metric`, the first.
pub const MESSAGE_TYPES: [&str; 12] = [
    "log_metric",
    "create_run",
    "finish_run",
    "set_run_property",
    "add_tag",
    "remove_tag",
    "log_hparams",
    "log_custom_object",
    "log_terminal_line",
    "log_record",
    "blob_ref",
    "delete_run",
];

/// So many items of each type.
pub type MessageCounts = [u64; MESSAGE_TYPES.len()];

/// The place of an event's type among `MESSAGE_TYPES`.
pub fn message_type(kind: &Kind) -> usize {
    match kind {
        Kind::CreateRun(_) => 1,
        Kind::FinishRun(_) => 2,
        Kind::SetRunProperty(_) => 3,
        Kind::AddTag(_) => 4,
        Kind::RemoveTag(_) => 5,
        Kind::LogParams(_) => 6,
        Kind::LogObject(_) => 7,
        Kind::LogTerminalLine(_) => 8,
        Kind::LogRecord(_) => 9,
        Kind::BlobRef(_) => 10,
        Kind::DeleteRun(_) => 11,
    }
}
