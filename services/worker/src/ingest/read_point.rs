//! Positions in a partition that is being read.

use matyan_log::StartPoint;
use matyan_model::position::LastRecord;

/// A position between two records of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadPoint {
    pub(super) offset: u64,
    /// The record before this position, if it is known.
    pub(super) before: Option<LastRecord>,
}

impl ReadPoint {
    /// The point for the log.
    pub(super) fn start(&self) -> StartPoint {
        let epoch_before = self.before.and_then(|before| before.leader_epoch);
        StartPoint { offset: self.offset, epoch_before }
    }
}

/// A record that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadRecord {
    /// Whether the record was not read before.
    pub(super) is_new: bool,
    /// The points before and after the record.
    pub(super) at: ReadPoint,
    pub(super) end: ReadPoint,
}
