//! Priorities of the threads of queries.

use crate::server::scheduling::{run_on_idle_cores, yield_to_others};

/// Niceness of a low priority: while other threads of the server are ready to run, these threads get a seventieth of a
/// core. With a tenth, which is 10, acknowledgements next to searches took two to three times as long as
/// alone.
pub(super) const NICENESS: i32 = 19;

/// Niceness of the threads that take over while other programs fill the cores: next to one busy thread, they get
/// a quarter of a core.
pub(super) const RAISED_NICENESS: i32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    /// Runs on cores that are otherwise idle. Others wait least for such threads, but next to programs that fill all
    /// cores, a slice would take seconds.
    IdleCores,
    Low,
    Raised,
}

impl Priority {
    /// Gives this priority to the current thread, which can have no higher one from then on.
    pub(super) fn take(self) {
        match self {
            Self::IdleCores => run_on_idle_cores(),
            Self::Low => yield_to_others(NICENESS),
            Self::Raised => yield_to_others(RAISED_NICENESS),
        }
    }
}
