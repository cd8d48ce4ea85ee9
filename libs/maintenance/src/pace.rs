//! Limit of the rate at which a sweep works, so that it leaves time for requests.

use std::time::{Duration, Instant};

/// Longest rest after a page.
const MOST_REST: Duration = Duration::from_secs(5);

/// The share of the time that a sweep uses: half of it, or all.
pub(crate) struct Pace {
    /// End of the last rest; `None` without a limit.
    working_since: Option<Instant>,
}

impl Pace {
    pub(crate) fn unlimited() -> Self {
        Self { working_since: None }
    }

    pub(crate) fn limited() -> Self {
        Self { working_since: Some(Instant::now()) }
    }

    /// Rests after a page, for as long as the work on it took.
    pub(crate) async fn rest(&mut self) {
        if let Some(since) = self.working_since {
            tokio::time::sleep(since.elapsed().min(MOST_REST)).await;
            self.working_since = Some(Instant::now());
        }
    }
}
