//! Access of all writers of a process to the blob store. After a failure, writers leave the blob store
//! alone: one attempt per interval finds out whether it is back, and until then payloads wait in the store.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// Interval between attempts while the blob store is unavailable or slow.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Minimum time that a writer waits for an upload: far longer than a healthy blob store takes, and short
/// enough that the run's points are not noticeably delayed.
const MIN_PATIENCE: Duration = Duration::from_millis(250);
/// Slowest upload that a writer waits for.
const BYTES_PER_SECOND: u64 = 32 << 20;

/// `retry_at_ms` while the blob store works.
const WORKING: u64 = 0;

pub(crate) struct PayloadUploads {
    /// Maximum bytes of a project's payloads that wait for the blob store.
    pub(crate) max_pending: u64,
    started: Instant,
    /// Milliseconds after `started` at which the next attempt is made.
    retry_at_ms: AtomicU64,
}

impl PayloadUploads {
    pub(crate) fn new(max_pending: u64) -> Self {
        Self { max_pending, started: Instant::now(), retry_at_ms: AtomicU64::new(WORKING) }
    }

    /// Whether to try an upload now.
    pub(crate) fn should_try(&self) -> bool {
        let now = self.now_ms();
        let retry_at = self.retry_at_ms.load(Ordering::Relaxed);
        if retry_at == WORKING {
            return true;
        }
        if now < retry_at {
            return false;
        }
        // Only one of the writers makes the attempt.
        let next = now + RETRY_INTERVAL.as_millis() as u64;
        self.retry_at_ms.compare_exchange(retry_at, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Notes whether the blob store has responded in time.
    pub(crate) fn note(&self, is_working: bool) {
        let retry_at = if is_working { WORKING } else { self.now_ms() + RETRY_INTERVAL.as_millis() as u64 };
        self.retry_at_ms.store(retry_at, Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

/// Time limit for an upload of this size by a writer.
pub(crate) fn patience(bytes: u64) -> Duration {
    MIN_PATIENCE + Duration::from_millis(bytes * 1_000 / BYTES_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rule_39_one_attempt_per_interval_finds_out_whether_the_blob_store_is_back() {
        let uploads = PayloadUploads::new(0);
        assert!(uploads.should_try() && uploads.should_try());
        uploads.note(false);
        assert!(!uploads.should_try());
        tokio::time::advance(RETRY_INTERVAL).await;
        assert!(uploads.should_try());
        assert!(!uploads.should_try(), "another writer is trying");
        uploads.note(true);
        assert!(uploads.should_try() && uploads.should_try());
    }
}
