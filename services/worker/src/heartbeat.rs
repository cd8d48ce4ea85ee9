//! Detects loops that hang. A loop beats in each round and during each wait, so only one that
//! hangs falls silent.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// Maximum time that a loop waits without a beat.
pub(crate) const BEAT_EVERY: Duration = Duration::from_secs(1);

/// Silence after which a loop counts as hanging: far more than a round takes on an overloaded
/// machine.
const SILENCE: Duration = Duration::from_secs(60);

/// The same for loops whose rounds do work: a transaction is retried for as long as the store
/// is unavailable.
const SILENCE_AT_WORK: Duration = Duration::from_secs(300);

#[derive(Clone, Debug)]
pub struct Heartbeat {
    what: &'static str,
    silence: Duration,
    last: Arc<watch::Sender<Instant>>,
}

impl Heartbeat {
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, silence: SILENCE, last: Arc::new(watch::Sender::new(Instant::now())) }
    }

    pub(crate) fn at_work(what: &'static str) -> Self {
        Self { silence: SILENCE_AT_WORK, ..Self::new(what) }
    }

    pub(crate) fn beat(&self) {
        self.last.send_replace(Instant::now());
    }

    /// Beats during a wait of any length.
    pub(crate) async fn beside<T>(&self, wait: impl Future<Output = T>) -> T {
        let mut wait = pin!(wait);
        loop {
            self.beat();
            if let Ok(come) = timeout(BEAT_EVERY, &mut wait).await {
                return come;
            }
        }
    }

    /// Describes the problem if the loop hangs.
    pub(crate) fn problem(&self) -> Option<String> {
        let silent = self.last.borrow().elapsed();
        (silent > self.silence)
            .then(|| format!("{} has not made progress for {} s", self.what, silent.as_secs()))
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
        tokio::time::advance(BEAT_EVERY).await;
        assert_eq!(heartbeat.problem().unwrap(), "the test has not made progress for 61 s");
        heartbeat.beat();
        assert_eq!(heartbeat.problem(), None);
    }
}
