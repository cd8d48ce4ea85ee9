//! The results of a writer.

use super::run_state::live_run::WrittenBlocks;
use crate::record::Entry;

/// Result of applying the entries of a turn.
#[derive(Debug, Default)]
pub(crate) struct ApplyOutcome {
    /// Whether the writer has finished the turn; false if it was stopped.
    pub(crate) is_complete: bool,
    /// Whether parked records were applied instead. The turn then ends, so that memory is bounded.
    pub(crate) is_paused: bool,
    /// Entries that are not applied, because the turn was paused.
    pub(crate) left: Vec<Entry>,
    pub(crate) blocks: Vec<WrittenBlocks>,
    pub(crate) items: u64,
    pub(crate) skipped_records: u64,
    pub(crate) parked: u64,
    pub(crate) conflicts: u64,
}

/// The way in which applying entries has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ApplyEnd {
    /// All records are applied.
    Complete,
    /// The turn ends early, and the rest is applied in the next one.
    Paused,
    /// Parked records cannot be applied any further, because the run was put in quarantine once more.
    Quarantined,
    /// The worker is stopping.
    Stopped,
}
