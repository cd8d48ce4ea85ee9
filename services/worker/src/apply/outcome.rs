//! The results of a writer.

use super::WrittenBlocks;
use crate::record::Entry;

/// Result of applying the entries of a turn.
#[derive(Debug, Default)]
pub(crate) struct ApplyOutcome {
    /// Whether the writer did what it could; false if it was stopped.
    pub(crate) is_complete: bool,
    /// Whether parked records were applied instead. The turn then ended, so that memory is bounded.
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
pub(super) enum ApplyEnd {
    /// All are applied.
    Complete,
    /// The turn ends early, and the rest is applied in the next one.
    Paused,
    /// Parked records cannot be applied any further, because the run is in quarantine again.
    Quarantined,
    /// The worker is stopping.
    Stopped,
}

/// Result of applying records of a run in quarantine.
pub(super) enum InQuarantine {
    /// This number of records is done.
    Done(usize),
    /// Parked records were applied, until this.
    Replayed(ApplyEnd),
}
