//! Limit of the rate at which a sweep works, so that it leaves time for requests.

use std::time::{Duration, Instant};

/// Shortest work after which a sweep rests: timers are not precise enough for less.
const LEAST_WORK: Duration = Duration::from_millis(10);
/// Longest rest after a page.
const MOST_REST: Duration = Duration::from_secs(5);

/// A sweep at this pace works half of the time.
pub struct Pace {
    /// End of the last rest.
    working_since: Instant,
}

impl Default for Pace {
    fn default() -> Self {
        Self { working_since: Instant::now() }
    }
}

impl Pace {
    /// Rests after a page, for as long as the work since the last rest took.
    pub async fn rest(&mut self) {
        let work = self.working_since.elapsed();
        if work < LEAST_WORK {
            return tokio::task::yield_now().await;
        }
        tokio::time::sleep(work.min(MOST_REST)).await;
        self.working_since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rule_41_a_sweep_rests_as_long_as_it_works() {
        let mut pace = Pace::default();
        let mut rested = Duration::ZERO;
        let page = Duration::from_millis(4);
        for _ in 0..9 {
            let begun = Instant::now();
            while begun.elapsed() < page {}
            let done = Instant::now();
            pace.rest().await;
            rested += done.elapsed();
        }
        assert!(rested >= 9 * page, "{rested:?}");
    }
}
