//! Progress of sending, which callers wait for and ask about.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{
        Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time};

use crate::{locks::lock, spool::record::Position};

/// Longest pause between attempts to reach a server while a caller waits for it.
const AWAITED_PAUSE: Duration = Duration::from_millis(500);

/// Achievements of the sender. Written by the I/O thread, read by callers.
#[derive(Default)]
pub(crate) struct Progress {
    state: Mutex<Delivery>,
    changed: Condvar,
    /// Number of callers that wait for delivery.
    waiters: AtomicUsize,
    /// Signals another caller that waits.
    hurry: Notify,
}

/// A caller that waits for delivery, until this is dropped.
pub(crate) struct DeliveryWaiter<'a>(&'a Progress);

impl Drop for DeliveryWaiter<'_> {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::Relaxed);
    }
}

/// State of the delivery of one spool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delivery {
    /// Everything before is stored by the server.
    pub(crate) stored: Position,
    /// Number of events and points before it.
    pub(crate) stored_items: u64,
    /// Number of the stored items that the server has rejected.
    pub(crate) rejected_items: u64,
    /// Time of the first record after it, if one was seen.
    pub(crate) oldest_us: Option<i64>,
    pub(crate) is_connected: bool,
    /// Start of the time without a connection: its loss, or the first attempt.
    pub(crate) disconnected_at: Option<Instant>,
    /// Start of the first attempt after the last acknowledgement of new data.
    pub(crate) stalled_since: Option<Instant>,
    pub(crate) last_error: Option<String>,
    /// Whether a notice has reported the outage.
    pub(crate) is_outage_reported: bool,
    /// Uploads whose last attempt has failed, by number.
    pub(crate) failed_uploads: BTreeMap<u64, UploadFailure>,
    /// Whether the server was asked if the run exists, or need not be asked.
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
    /// The reason why something is not sent. A reason that concerns values comes before one that concerns
    /// files.
    pub(crate) fn error(&self) -> Option<&str> {
        let failed_upload = self.failed_uploads.values().next().map(|failure| &failure.reason);
        self.last_error.as_ref().or(failed_upload).map(String::as_str)
    }

    /// Whether a server refuses files for now.
    pub(crate) fn is_upload_refused(&self) -> bool {
        self.failed_uploads.values().any(|failure| failure.is_refused)
    }

    /// Number of values that the server has received and not stored.
    pub(crate) fn lost_items(&self) -> u64 {
        if self.is_run_deleted { self.stored_items } else { self.rejected_items }
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

    /// Ends the current pauses between attempts, and makes later ones short.
    pub(crate) fn begin_wait(&self) -> DeliveryWaiter<'_> {
        self.waiters.fetch_add(1, Ordering::SeqCst);
        self.hurry.notify_waiters();
        DeliveryWaiter(self)
    }

    /// Reports whether a caller waits for delivery.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiters.load(Ordering::SeqCst) > 0
    }

    /// Pauses between two attempts to reach a server, shortly if a caller waits for it.
    pub(crate) async fn pause(&self, pause: Duration) {
        let mut hurried = pin!(self.hurry.notified());
        // Registered before the look at the waiters, so that none is missed.
        hurried.as_mut().enable();
        let pause = if self.is_awaited() { pause.min(AWAITED_PAUSE) } else { pause };
        // Over or not: it is time to try.
        let _hurried = time::timeout(pause, hurried).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_pause_ends_when_a_caller_begins_to_wait() {
        let progress = Progress::default();
        let mut pause = pin!(progress.pause(HOUR));
        assert!(futures::poll!(&mut pause).is_pending());
        let _waiter = progress.begin_wait();
        pause.await;
    }

    #[tokio::test]
    async fn a_pause_is_short_as_long_as_a_caller_waits() {
        let progress = Progress::default();
        let waiter = progress.begin_wait();
        progress.pause(HOUR).await;
        drop(waiter);
        let mut pause = pin!(progress.pause(HOUR));
        assert!(futures::poll!(&mut pause).is_pending());
    }
}
