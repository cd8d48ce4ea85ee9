//! How often a call is repeated that certainly did nothing, and how long it is waited for.

use std::time::Duration;

use foundationdb::FdbResult;
use tokio::time::{sleep, timeout};

use super::errors::{is_behind, reading};
use crate::{Error, Limits, Result};

/// Of what did nothing yet. A commit that may have been applied is followed up without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    pub attempts: u32,
    /// Doubles with every attempt.
    pub first_delay: Duration,
    pub longest_delay: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 5, first_delay: Duration::from_millis(50), longest_delay: Duration::from_secs(2) }
    }
}

impl Retries {
    /// Waits before attempt `attempt`, from 1, of something; so that many do not come at once, a little longer by chance.
    pub(super) async fn wait(&self, attempt: u32) {
        let doubled = self.first_delay.saturating_mul(1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
        let jitter = self.first_delay.mul_f64(rand::random::<f64>() / 4.0);
        sleep(doubled.min(self.longest_delay) + jitter).await;
    }

    /// Repeats a read that a server could not answer yet.
    pub(super) async fn reading<T, F: Future<Output = Result<FdbResult<T>>>>(
        &self,
        mut read: impl FnMut() -> F,
    ) -> Result<T> {
        let mut attempt = 1;
        loop {
            match read().await? {
                Ok(answer) => return Ok(answer),
                Err(error) if is_behind(error) && attempt < self.attempts => self.wait(attempt).await,
                Err(error) => return Err(reading(error)),
            }
            attempt += 1;
        }
    }
}

/// The client waits for a cluster that is away for as long as it takes. A transaction lives no longer than a snapshot, so
/// what has not been read by then is of no use.
pub(super) async fn answered<T>(call: impl Future<Output = FdbResult<T>>) -> Result<FdbResult<T>> {
    let silent = |_| Error::unavailable("FoundationDB does not answer");
    timeout(Limits::SNAPSHOT_AGE, call).await.map_err(silent)
}
