//! Result of the last append, for readiness.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Time for which the log counts as not writable after a failed append, unless another append
/// succeeds. It is limited, because without traffic nothing would ever show that the log has
/// recovered.
const FAILURE_PERIOD: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(crate) struct LogHealth(Mutex<Option<Instant>>);

impl LogHealth {
    pub(crate) fn record_failure(&self, now: Instant) {
        *self.last_failure() = Some(now);
    }

    pub(crate) fn record_success(&self) {
        *self.last_failure() = None;
    }

    pub(crate) fn is_failing(&self, now: Instant) -> bool {
        self.last_failure().is_some_and(|failure| now < failure + FAILURE_PERIOD)
    }

    fn last_failure(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
