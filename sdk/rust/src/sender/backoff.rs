//! Pauses between attempts to connect. They are random, so that thousands of scripts do not
//! reconnect to a restarted server in the same instant.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(15);

/// Pauses that double until the next success.
#[derive(Debug)]
pub(crate) struct Backoff {
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { longest: FIRST }
    }
}

impl Backoff {
    /// Returns the next pause: between half and all of a time that doubles.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let longest = self.longest;
        self.longest = (longest * 2).min(LONGEST);
        longest / 2 + random_below(longest / 2)
    }

    /// Starts over after a success.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// A random time from zero up to a limit.
pub(crate) fn random_below(limit: Duration) -> Duration {
    // Without randomness, the pauses are just not random.
    let random = getrandom::u32().unwrap_or_default();
    limit.mul_f64(f64::from(random) / (f64::from(u32::MAX) + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_start_over() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..20).map(|_| backoff.next_pause()).collect();
        assert!((FIRST / 2..=FIRST).contains(&pauses[0]), "{pauses:?}");
        assert!((LONGEST / 2..=LONGEST).contains(&pauses[19]), "{pauses:?}");
        backoff.reset();
        assert!(backoff.next_pause() <= FIRST);
    }
}
