//! Whether a loop still goes round. Each round beats, and so does each wait: only one that hangs falls silent.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// A loop waits no longer than this without beating.
pub(crate) const BEAT_EVERY: Duration = Duration::from_secs(1);

/// Silence after which a loop counts as hanging: far more than a round takes on a machine that is short of everything.
const SILENCE: Duration = Duration::from_secs(60);

/// The same of a loop whose rounds are work: a transaction that nobody answers is followed up for as long as the store is away.
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

    /// Beats beside a wait that may last as long as it likes.
    pub(crate) async fn beside<T>(&self, wait: impl Future<Output = T>) -> T {
        let mut wait = pin!(wait);
        loop {
            self.beat();
            if let Ok(come) = timeout(BEAT_EVERY, &mut wait).await {
                return come;
            }
        }
    }

    /// What is wrong, if something is.
    pub(crate) fn problem(&self) -> Option<String> {
        let silent = self.last.borrow().elapsed();
        (silent > self.silence)
            .then(|| format!("{} has not gone round for {} s", self.what, silent.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_hangs_is_told_of_until_it_goes_on() {
        let heartbeat = Heartbeat::new("the test");
        tokio::time::advance(SILENCE).await;
        assert_eq!(heartbeat.problem(), None);
        tokio::time::advance(BEAT_EVERY).await;
        assert_eq!(heartbeat.problem().unwrap(), "the test has not gone round for 61 s");
        heartbeat.beat();
        assert_eq!(heartbeat.problem(), None);
    }
}
