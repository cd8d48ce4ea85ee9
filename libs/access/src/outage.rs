//! The outage of a source that answers many calls. A source that is away must delay few of them: while it is away, one
//! call at a time asks whether it is back, and all others go without an answer.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

/// Time after which a source that does not answer is away. Shorter than calls wait for an answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Time between two questions to a source that is away.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Time after the last question after which an outage is forgotten.
const MEMORY: Duration = Duration::from_secs(10);

/// Whether a source is away, and if so, when it may be asked again.
#[derive(Default)]
pub struct Outage(Mutex<Option<Instant>>);

/// A question to the source.
struct Attempt<'o> {
    outage: &'o Outage,
    /// Whether others wait until this question has ended.
    is_only_one: bool,
}

impl Outage {
    /// Asks the source, and waits for at most `ANSWER_TIMEOUT`: `silent` makes the answer if the source takes
    /// longer. `is_away` says whether an answer shows that the source is away. Returns `None` if the source
    /// must not be asked.
    pub async fn ask<T>(
        &self,
        question: impl Future<Output = T>,
        silent: impl FnOnce() -> T,
        is_away: impl FnOnce(&T) -> bool,
    ) -> Option<T> {
        let attempt = self.attempt()?;
        let answer = timeout(ANSWER_TIMEOUT, question).await.unwrap_or_else(|_| silent());
        attempt.end(is_away(&answer));
        Some(answer)
    }

    pub fn is_away(&self) -> bool {
        self.0.lock().is_some()
    }

    /// Returns `None` if the source must not be asked.
    fn attempt(&self) -> Option<Attempt<'_>> {
        let mut retry_at = self.0.lock();
        let now = Instant::now();
        let is_only_one = match *retry_at {
            Some(at) if now < at => return None,
            // After a while without questions, the source may be back.
            Some(at) => now < at + MEMORY,
            None => false,
        };
        *retry_at = is_only_one.then(|| now + ANSWER_TIMEOUT + RETRY_INTERVAL);
        Some(Attempt { outage: self, is_only_one })
    }
}

impl Attempt<'_> {
    /// Notes whether the question has shown that the source is away.
    fn end(mut self, is_away: bool) {
        *self.outage.0.lock() = is_away.then(|| Instant::now() + RETRY_INTERVAL);
        self.is_only_one = false;
    }
}

impl Drop for Attempt<'_> {
    /// A call that was abandoned must not keep others from asking.
    fn drop(&mut self) {
        if self.is_only_one {
            *self.outage.0.lock() = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_source_that_is_away_is_asked_by_one_call_at_a_time() {
        let outage = Outage::default();
        let first = outage.attempt().unwrap();
        let second = outage.attempt().unwrap();
        assert!(!outage.is_away());
        first.end(true);
        assert!(outage.is_away() && outage.attempt().is_none());
        // A late answer shows that the source is back.
        second.end(false);
        assert!(!outage.is_away());
        outage.attempt().unwrap().end(true);
        advance(RETRY_INTERVAL).await;
        let retry = outage.attempt().unwrap();
        assert!(outage.attempt().is_none(), "another call asks");
        retry.end(true);
        assert!(outage.attempt().is_none(), "it has just failed");
        advance(RETRY_INTERVAL).await;
        outage.attempt().unwrap().end(false);
        assert!(!outage.is_away());
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_without_questions_is_forgotten() {
        let outage = Outage::default();
        outage.attempt().unwrap().end(true);
        advance(RETRY_INTERVAL + MEMORY).await;
        let questions = [outage.attempt(), outage.attempt()];
        assert!(questions.iter().all(Option::is_some) && !outage.is_away());
    }

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_question_keeps_no_one_from_asking() {
        let outage = Outage::default();
        drop(outage.attempt());
        assert!(!outage.is_away());
        outage.attempt().unwrap().end(true);
        advance(RETRY_INTERVAL).await;
        drop(outage.attempt().unwrap());
        assert!(outage.is_away());
        outage.attempt().unwrap().end(false);
        assert!(!outage.is_away());
    }
}
