//! Limits the rate of each run: an acknowledgement is due when the run could have sent all its
//! bytes at the configured rate, with one second of burst. Delayed acknowledgements slow a
//! client down without refusing anything.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Maximum burst after a pause, measured in time at the configured rate.
const BURST: Duration = Duration::from_secs(1);

/// Minimum table size for dropping runs that are within their rate. They are dropped each time
/// the table has doubled in size.
const SWEEP_FROM: usize = 1_024;

pub(crate) struct Throttle {
    bytes_per_second: u64,
    runs: Mutex<Runs>,
}

struct Runs {
    /// Time at which the configured rate has covered everything that the run has sent.
    paid_at: HashMap<(String, String), Instant>,
    sweep_at: usize,
}

impl Throttle {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        let runs = Runs { paid_at: HashMap::new(), sweep_at: SWEEP_FROM };
        Self { bytes_per_second, runs: Mutex::new(runs) }
    }

    /// Counts the bytes of an appended batch. Returns when it may be acknowledged; `None`
    /// means now.
    pub(crate) fn charge(&self, project: &str, run: &str, bytes: usize, now: Instant) -> Option<Instant> {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let mut runs = self.runs.lock();
        runs.sweep(now);
        let paid_at = runs.paid_at.entry((project.to_owned(), run.to_owned())).or_insert(now);
        *paid_at = now.max(*paid_at) + cost;
        paid_at.checked_sub(BURST).filter(|due| *due > now)
    }
}

impl Runs {
    fn sweep(&mut self, now: Instant) {
        if self.paid_at.len() >= self.sweep_at {
            self.paid_at.retain(|_, paid_at| *paid_at > now);
            self.sweep_at = SWEEP_FROM.max(self.paid_at.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_sends_too_fast_waits() {
        let throttle = Throttle::new(1_000);
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(throttle.charge("", "a", 1_000, start), None, "the burst");
        assert_eq!(throttle.charge("", "a", 2_000, start), Some(after(2)));
        assert_eq!(throttle.charge("", "b", 1_000, start), None, "another run");
        assert_eq!(throttle.charge("p", "a", 1_000, start), None, "another project");
        assert_eq!(throttle.charge("", "a", 1_000, after(3)), None, "after a pause");
        assert_eq!(throttle.charge("", "a", 1_000, after(3)), Some(after(4)));
    }

    #[test]
    fn runs_without_debt_are_forgotten() {
        let throttle = Throttle::new(1_000);
        let start = Instant::now();
        for run in 0..SWEEP_FROM {
            throttle.charge("", &run.to_string(), 1, start);
        }
        throttle.charge("", "last", 1, start + BURST);
        assert_eq!(throttle.runs.lock().paid_at.len(), 1);
    }
}
