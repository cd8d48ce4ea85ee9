//! Notices: what the background has to say to the user. The caller's thread fetches and prints
//! them, because the background must not call into the interpreter of a script.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use crate::{locks::lock, per_process::PerProcess};

/// Most notices that wait; the oldest are kept, because they name the cause.
const MOST: usize = 100;

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

/// A bounded queue of notices that any thread may add to. A forked child has one of its own.
#[derive(Clone, Default)]
pub(crate) struct Notices(Arc<PerProcess<Mutex<VecDeque<Notice>>>>);

impl Notices {
    /// Adds a notice, unless an equal one waits already.
    pub(crate) fn push(&self, level: NoticeLevel, message: impl Into<String>) {
        let notice = Notice { level, message: message.into() };
        let mut queue = lock(self.queue());
        if queue.len() < MOST && !queue.contains(&notice) {
            queue.push_back(notice);
        }
    }

    /// Takes all notices, the oldest first.
    pub(crate) fn take(&self) -> Vec<Notice> {
        lock(self.queue()).drain(..).collect()
    }

    fn queue(&self) -> &Mutex<VecDeque<Notice>> {
        self.0.get_or_make(|_| true, Mutex::default)
    }
}
