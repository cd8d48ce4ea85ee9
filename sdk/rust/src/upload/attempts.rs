//! Failed attempts at one upload, kept until it is over. Between them, other uploads take its place.

use std::time::{Duration, Instant};

use crate::sender::backoff::Backoff;

/// Pause after the first panic of an upload. It doubles with each further one.
const PANIC_PAUSE: Duration = Duration::from_secs(30);

/// Panics after which an upload is given up: the pauses between them take more than seven minutes.
pub(super) const MOST_PANICS: u32 = 5;

/// Attempts of an upload before others get its place, while a server refuses it. Later, an upload makes one
/// attempt each time.
const FIRST_REFUSALS: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// Pauses between attempts that have failed without a panic.
    pub(super) backoff: Backoff,
    /// A notice has reported why they fail.
    pub(super) is_reported: bool,
    /// The content in the spool was compared with its digest.
    pub(super) is_checked: bool,
    refusals: u32,
    panics: u32,
    due: Option<Instant>,
}

impl Attempts {
    /// Counts a failure that waiting for the server does not fix. Returns whether other uploads come first.
    pub(super) fn count_refusal(&mut self) -> bool {
        self.refusals = self.refusals.saturating_add(1);
        self.refusals >= FIRST_REFUSALS
    }

    /// Counts a panic. Returns whether the upload is given up.
    pub(super) fn count_panic(&mut self) -> bool {
        self.panics += 1;
        self.panics >= MOST_PANICS
    }

    /// Lets other uploads come first, and the next attempt begin after a pause.
    pub(super) fn put_off(&mut self) {
        let pause = match self.panics {
            0 => self.backoff.next_pause(),
            panics => PANIC_PAUSE * 2_u32.pow((panics - 1).min(MOST_PANICS)),
        };
        self.due = Some(Instant::now() + pause);
    }

    /// Time of the next attempt, if it was put off.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Reports whether the next attempt may begin. A caller that waits ends the pauses, except pauses after panics:
    /// an upload must not be given up within a moment.
    pub(super) fn may_begin(&self, now: Instant, is_awaited: bool) -> bool {
        self.due.is_none_or(|due| due <= now) || (is_awaited && self.panics == 0)
    }

    /// Begins the next attempt.
    pub(super) fn begin(&mut self) {
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_only_those_after_panics_are_never_cut() {
        let start = Instant::now();
        let mut attempts = Attempts::default();
        assert_eq!([(); 4].map(|()| attempts.count_refusal()), [false, false, true, true]);
        attempts.put_off();
        assert!(attempts.may_begin(start, true) && !attempts.may_begin(start, false));
        attempts.begin();
        assert!(attempts.may_begin(start, false));
        let mut last = start;
        for _ in 1..MOST_PANICS {
            assert!(!attempts.count_panic());
            attempts.put_off();
            let due = attempts.due().unwrap();
            assert!(due - last >= PANIC_PAUSE && !attempts.may_begin(last, true));
            assert!(attempts.may_begin(due, false));
            last = due;
        }
        assert!(attempts.count_panic());
    }
}
