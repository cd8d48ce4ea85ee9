//! The streams and calls in progress, which a shutdown waits for.

use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use crate::error::{Error, Result};

/// Clones share their state.
#[derive(Clone, Default)]
pub(crate) struct Calls {
    stopping: CancellationToken,
    tracker: TaskTracker,
}

impl Calls {
    /// Registers a call for `drain` to wait for until the token is dropped, unless draining has started.
    pub(crate) fn begin(&self) -> Result<TaskTrackerToken> {
        // Registered before the check, so that `drain` waits for every call that is not
        // refused.
        let counted = self.tracker.token();
        if self.is_stopping() { Err(Error::Stopping) } else { Ok(counted) }
    }

    pub(crate) async fn run<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let _counted = self.begin()?;
        call.await
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Returns when draining starts.
    pub(crate) async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// Refuses new calls, and returns when the calls in progress have ended.
    pub(crate) async fn drain(&self) {
        self.stopping.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}
