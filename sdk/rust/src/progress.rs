//! Progress of sending, as callers wait for it and ask about it.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex},
    time::{Duration, Instant},
};

use crate::{locks::lock, spool::record::Position};

/// Achievements of the sender. Written by the I/O thread, read by callers.
#[derive(Default)]
pub(crate) struct Progress {
    state: Mutex<Delivery>,
    changed: Condvar,
}

/// State of the delivery of one spool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delivery {
    /// Everything before is stored by the server.
    pub(crate) stored: Position,
    /// Number of events and points before it.
    pub(crate) stored_items: u64,
    /// Time of the first record after it, if one was seen.
    pub(crate) oldest_us: Option<i64>,
    pub(crate) is_connected: bool,
    /// When the connection was lost, or has been missing since.
    pub(crate) disconnected_at: Option<Instant>,
    pub(crate) last_error: Option<String>,
    /// Uploads whose last attempt has failed, by number.
    pub(crate) failed_uploads: BTreeMap<u64, UploadFailure>,
    /// Whether the server was asked if the run exists, or needs no question.
    pub(crate) is_existence_known: bool,
    /// The run was deleted on the server, which accepts its data and stores none of it.
    pub(crate) is_run_deleted: bool,
    /// Position in the server's log of the newest stored batch: log, partition, offset.
    pub(crate) log_position: Option<(u32, u32, u64)>,
    /// The sender has stopped, because the run is closed and stored.
    pub(crate) is_finished: bool,
}

/// The failure of the last attempt at an upload.
#[derive(Clone, Debug)]
pub(crate) struct UploadFailure {
    pub(crate) reason: String,
    /// Whether a server has answered, and refused it.
    pub(crate) is_refused: bool,
}

impl Delivery {
    /// The reason why something is not sent. That of values comes before that of files.
    pub(crate) fn error(&self) -> Option<&str> {
        let failed_upload = self.failed_uploads.values().next().map(|failure| &failure.reason);
        self.last_error.as_ref().or(failed_upload).map(String::as_str)
    }

    /// Whether a server refuses files for now.
    pub(crate) fn is_upload_refused(&self) -> bool {
        self.failed_uploads.values().any(|failure| failure.is_refused)
    }

    /// Number of values that the server has accepted and not stored.
    pub(crate) fn lost_items(&self) -> u64 {
        if self.is_run_deleted { self.stored_items } else { 0 }
    }
}

impl Progress {
    pub(crate) fn delivery(&self) -> Delivery {
        lock(&self.state).clone()
    }

    /// Changes the state, and wakes everyone who waits for a change.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Delivery)) {
        change(&mut lock(&self.state));
        self.changed.notify_all();
    }

    /// Waits until the state satisfies a condition, for at most a time. Returns whether it does.
    pub(crate) fn wait_until(&self, timeout: Duration, condition: impl Fn(&Delivery) -> bool) -> bool {
        let state = lock(&self.state);
        match self.changed.wait_timeout_while(state, timeout, |state| !condition(state)) {
            Ok((_, result)) => !result.timed_out(),
            // A thread panicked while it held the lock; what it left is still true.
            Err(poisoned) => condition(&poisoned.into_inner().0),
        }
    }
}
