//! Limits on retries of calls that certainly had no effect, and timeouts.

use foundationdb::FdbResult;
use tokio::time::{sleep, timeout};

use super::errors::{is_version_unreached, read_error};
use crate::{Error, Limits, Result, fdb::Retries};

impl Retries {
    /// Waits after the failed attempt number `attempt` (from 1). Random jitter keeps
    /// callers from retrying simultaneously.
    pub(super) async fn wait(&self, attempt: u32) {
        let doubled = self.first_delay.saturating_mul(1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
        let jitter = self.first_delay.mul_f64(rand::random::<f64>() / 4.0);
        sleep(doubled.min(self.longest_delay) + jitter).await;
    }

    /// Repeats a read while the server has not reached its version yet.
    pub(super) async fn read<T, F: Future<Output = Result<FdbResult<T>>>>(
        &self,
        mut read: impl FnMut() -> F,
    ) -> Result<T> {
        let mut attempt = 1;
        loop {
            match read().await? {
                Ok(answer) => return Ok(answer),
                Err(error) if is_version_unreached(error) && attempt < self.attempts => {
                    self.wait(attempt).await
                }
                Err(error) => return Err(read_error(error)),
            }
            attempt += 1;
        }
    }
}

/// Bounds a call by the lifetime of a snapshot. The client waits forever for an unreachable
/// cluster, but a read that takes longer than a snapshot lives is useless anyway.
pub(super) async fn with_timeout<T>(call: impl Future<Output = FdbResult<T>>) -> Result<FdbResult<T>> {
    timeout(Limits::SNAPSHOT_AGE, call).await.map_err(|_| Error::unavailable("FoundationDB does not answer"))
}
