//! Notices: what the background has to say to the user. The caller's thread fetches and prints
//! them, because the background must not call into the interpreter of a script.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use crate::sync::lock;

/// Most notices that wait; the oldest are kept, because they name the cause.
const MOST: usize = 100;

/// How serious a notice is.
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

/// A bounded queue of notices that any thread may add to.
#[derive(Clone, Default)]
pub(crate) struct Notices(Arc<Mutex<VecDeque<Notice>>>);

impl Notices {
    /// Adds a notice, unless an equal one waits already.
    pub(crate) fn push(&self, level: NoticeLevel, message: impl Into<String>) {
        let notice = Notice { level, message: message.into() };
        let mut queue = lock(&self.0);
        if queue.len() < MOST && !queue.contains(&notice) {
            queue.push_back(notice);
        }
    }

    /// Takes all notices, the oldest first.
    pub(crate) fn take(&self) -> Vec<Notice> {
        lock(&self.0).drain(..).collect()
    }
}
