//! Supervision of the tasks of the I/O thread. A task that panics is reported and starts again: otherwise,
//! data would stay in the spool unnoticed.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures::FutureExt as _;

use crate::{
    notice::{NoticeLevel, Notices},
    sender::backoff::Backoff,
    spool::{record::Position, store::Spool},
};

/// Time after which a task has started successfully: longer than every pause between two starts.
const STARTED: Duration = Duration::from_secs(60);

/// Ends the report of a panic.
pub(crate) const ADVICE: &str = "this is a defect of Matyan: please report it";

/// Runs a future. A panic is an error with its text. The future is boxed, so that the futures that contain it
/// stay small.
pub(crate) fn caught<T>(future: impl Future<Output = T>) -> impl Future<Output = Result<T, String>> {
    let outcome = AssertUnwindSafe(Box::pin(future)).catch_unwind();
    outcome.map(|outcome| outcome.map_err(|panic| panic_text(&*panic)))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let literal = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = literal.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "without a reason".to_owned())
}

/// The panics of one task.
#[derive(Default)]
pub(crate) struct Restarts {
    backoff: Backoff,
    reported: String,
}

impl Restarts {
    /// Reports a panic, once if it is repeated, and returns the reason that was reported.
    pub(crate) fn report(&mut self, notices: &Notices, place: &str, task: &str, panic: &str) -> String {
        let reason = format!("{task} has failed ({panic}) and starts again; {ADVICE}");
        if self.reported != reason {
            notices.push(NoticeLevel::Error, format!("{place}: {reason}"));
            self.reported.clone_from(&reason);
        }
        reason
    }

    /// Returns the pause before the next start of a task that has run for `ran`.
    pub(crate) fn next_pause(&mut self, ran: Duration) -> Duration {
        if ran >= STARTED {
            self.backoff.reset();
        }
        self.backoff.next_pause()
    }
}

/// Runs a task of a spool until it ends, and starts it again after a panic as long as it is needed. `note` gets the
/// reason of each panic.
pub(crate) async fn restarted<F: Future<Output = ()>>(
    spool: &Spool,
    task: &str,
    is_needed: impl Fn() -> bool,
    note: impl Fn(&str),
    mut begin: impl FnMut() -> F,
) {
    let mut restarts = Restarts::default();
    let mut stored = Position::default();
    loop {
        let start = Instant::now();
        let Err(panic) = caught(begin()).await else { return };
        if !is_needed() {
            return;
        }
        let place = spool.path().display().to_string();
        note(&restarts.report(&spool.notices, &place, task, &panic));
        let reached = spool.progress.delivery().stored;
        if reached > stored {
            restarts.backoff.reset();
            stored = reached;
        }
        spool.progress.pause(restarts.next_pause(start.elapsed())).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use tempfile::TempDir;

    use super::*;
    use crate::spool::test_spool::spool_in;

    #[tokio::test]
    async fn a_task_that_panics_is_reported_once_and_starts_again() {
        let root = TempDir::new().unwrap();
        let notices = Notices::default();
        let spool = spool_in(&root, "http://127.0.0.1:1", &notices);
        let starts = Cell::new(0);
        let noted = RefCell::new(Vec::new());
        let begin = || async {
            starts.set(starts.get() + 1);
            assert!(starts.get() > 2, "the first attempts fail");
        };
        restarted(&spool, "the test", || true, |reason| noted.borrow_mut().push(reason.to_owned()), begin)
            .await;
        assert_eq!((starts.get(), noted.borrow().len()), (3, 2));
        let found = notices.take();
        let is_named = |message: &str| {
            message.contains("the test has failed (the first attempts fail) and starts again")
        };
        assert_eq!(found.iter().filter(|notice| is_named(&notice.message)).count(), 1, "{found:?}");
    }

    #[test]
    fn pauses_grow_until_a_task_has_run_for_a_while() {
        let mut restarts = Restarts::default();
        let first = restarts.next_pause(Duration::ZERO);
        let grown = (0..9).map(|_| restarts.next_pause(STARTED - Duration::from_millis(1))).max().unwrap();
        assert!(grown > 10 * first);
        assert!(restarts.next_pause(STARTED) <= 2 * first);
    }

    async fn failing() {
        panic!("at its end")
    }

    #[tokio::test]
    async fn a_task_that_is_not_needed_any_more_does_not_start_again() {
        let root = TempDir::new().unwrap();
        let notices = Notices::default();
        let spool = spool_in(&root, "http://127.0.0.1:1", &notices);
        restarted(&spool, "the test", || false, |_| (), failing).await;
        assert!(notices.take().is_empty());
    }
}
