//! Result of the last append, for readiness.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Time for which the log counts as not writable after a failed append, unless another append
/// succeeds. It is limited, because without traffic nothing would ever show that the log has
/// recovered.
const FAILURE_PERIOD: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(crate) struct LogHealth(Mutex<Option<Instant>>);

impl LogHealth {
    pub(crate) fn record_failure(&self, now: Instant) {
        *self.0.lock() = Some(now);
    }

    pub(crate) fn record_success(&self) {
        *self.0.lock() = None;
    }

    pub(crate) fn is_failing(&self, now: Instant) -> bool {
        self.0.lock().is_some_and(|failure| now < failure + FAILURE_PERIOD)
    }
}
