//! Notices: reports of the background to the user. The caller's thread fetches and prints
//! them, because the background must not call into the interpreter of a script.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{locks::lock, per_process::PerProcess, plain_text::plain_line};

/// Most notices that wait; the oldest are kept, because they name the cause.
const MOST: usize = 100;

/// Start of the notice that no data is sent, for example because the token is refused. The place of the data follows.
pub const OUTAGE_NOTICE: &str = "no data is sent, and all of it is kept in ";

/// Severity of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoticeLevel {
    Info,
    Warning,
    Error,
}

/// A message for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub level: NoticeLevel,
    pub message: String,
}

/// Notices about spools of other processes that this one sends: any of its runs reports them.
static OF_PROCESS: NoticeQueue =
    NoticeQueue { queues: PerProcess::new(), is_waiting: AtomicBool::new(false) };

/// Bounded queues that any thread may add to. A forked child has its own.
#[derive(Default)]
struct NoticeQueue {
    queues: PerProcess<Mutex<VecDeque<Notice>>>,
    /// Whether the queue may have notices, so that callers look often at no cost.
    is_waiting: AtomicBool,
}

/// The notices of a run, or of the process if there is no run.
#[derive(Clone)]
pub(crate) struct Notices(Option<Arc<NoticeQueue>>);

impl Notices {
    /// Returns the notices of the process.
    pub(crate) fn of_process() -> Self {
        Self(None)
    }

    /// Adds a notice, unless an equal one waits already.
    pub(crate) fn push(&self, level: NoticeLevel, message: impl Into<String>) {
        // Most notices quote a server, which may send a text of any length.
        let notice = Notice { level, message: plain_line(&message.into()) };
        let notices = self.0.as_deref().unwrap_or(&OF_PROCESS);
        let mut queue = lock(notices.get());
        if queue.len() < MOST && !queue.contains(&notice) {
            queue.push_back(notice);
            notices.is_waiting.store(true, Ordering::Relaxed);
        }
    }

    /// Reports whether `take` may return anything.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        self.0.as_deref().is_some_and(|queue| queue.is_waiting.load(Ordering::Relaxed))
            || OF_PROCESS.is_waiting.load(Ordering::Relaxed)
    }

    /// Takes all notices, the oldest first, and then the notices of the process.
    pub(crate) fn take(&self) -> Vec<Notice> {
        let mut notices = self.0.as_ref().map(|queue| queue.take()).unwrap_or_default();
        notices.extend(OF_PROCESS.take());
        notices
    }
}

impl Default for Notices {
    fn default() -> Self {
        Self(Some(Arc::default()))
    }
}

impl NoticeQueue {
    fn get(&self) -> &Mutex<VecDeque<Notice>> {
        self.queues.get_or_make(|_| true, Mutex::default)
    }

    fn take(&self) -> Vec<Notice> {
        let mut queue = lock(self.get());
        self.is_waiting.store(false, Ordering::Relaxed);
        queue.drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_75_notices_are_short_lines() {
        let notices = Notices::default();
        for end in ["a", "b"] {
            notices.push(NoticeLevel::Error, format!("no\n{}{end}", "x".repeat(1 << 20)));
        }
        let taken: Vec<_> = notices.take().into_iter().map(|notice| notice.message).collect();
        // They differ only where they are cut.
        let [message] = taken.as_slice() else { panic!("{} notices", taken.len()) };
        assert!(message.starts_with("no\\nx") && message.len() < 4 << 10, "{message}");
    }
}
