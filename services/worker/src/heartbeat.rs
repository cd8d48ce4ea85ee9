//! Detects loops that hang. A loop beats in each iteration and during each wait, so only a loop
//! that hangs falls silent.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// Maximum time that a loop waits without a beat.
pub(crate) const BEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Silence after which a loop counts as hung: far longer than an iteration takes on an
/// overloaded machine.
const SILENCE: Duration = Duration::from_secs(60);

/// Same for loops whose iterations do work: a transaction is retried for as long as the store
/// is unavailable.
const SILENCE_OF_LONG_ROUNDS: Duration = Duration::from_secs(300);

#[derive(Clone, Debug)]
pub struct Heartbeat {
    name: &'static str,
    silence: Duration,
    last: Arc<watch::Sender<Instant>>,
}

impl Heartbeat {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, silence: SILENCE, last: Arc::new(watch::Sender::new(Instant::now())) }
    }

    pub(crate) fn for_long_rounds(name: &'static str) -> Self {
        Self { silence: SILENCE_OF_LONG_ROUNDS, ..Self::new(name) }
    }

    pub(crate) fn beat(&self) {
        self.last.send_replace(Instant::now());
    }

    /// Beats during a wait of any length.
    pub(crate) async fn beat_during<T>(&self, wait: impl Future<Output = T>) -> T {
        let mut wait = pin!(wait);
        loop {
            self.beat();
            if let Ok(output) = timeout(BEAT_INTERVAL, &mut wait).await {
                return output;
            }
        }
    }

    /// Describes the problem if the loop hangs.
    pub(crate) fn problem(&self) -> Option<String> {
        let silent = self.last.borrow().elapsed();
        (silent > self.silence)
            .then(|| format!("{} has not made progress for {} s", self.name, silent.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hanging_loop_is_reported_until_it_continues() {
        let heartbeat = Heartbeat::new("the test");
        tokio::time::advance(SILENCE).await;
        assert_eq!(heartbeat.problem(), None);
        tokio::time::advance(BEAT_INTERVAL).await;
        assert_eq!(heartbeat.problem().unwrap(), "the test has not made progress for 61 s");
        heartbeat.beat();
        assert_eq!(heartbeat.problem(), None);
    }
}
