//! Callers as far as this process knows them. An answer of the source is used for some seconds. While the
//! source is away, callers that were known keep the rights to send data and to read metrics for 15 minutes, so
//! that training continues and Prometheus sees the outage; everything else waits.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::caller::Caller;
use crate::dated_map::{DatedMap, DatedValue};
use crate::outage::{ANSWER_TIMEOUT, Outage};
use crate::token::TokenDigest;

/// Time after which a revoked right is gone, also from streams that are open.
pub const REVOCATION_TIME: Duration = Duration::from_secs(30);

/// Time for which an answer of the source is used.
pub const LIFETIME: Duration = Duration::from_secs(15);

/// Interval between checks of an open stream.
pub const RECHECK_INTERVAL: Duration = Duration::from_secs(13);

/// A stream is checked with an answer that is almost too old, then once more, and the source takes its time.
const _: () = assert!(
    LIFETIME.as_secs() + RECHECK_INTERVAL.as_secs() + ANSWER_TIMEOUT.as_secs() <= REVOCATION_TIME.as_secs()
);

/// Time for which known callers may send data and read metrics while the source is away.
pub const MAX_OUTAGE: Duration = Duration::from_secs(15 * 60);

/// Maximum number of answers that are kept. Credentials come from outside.
const MAX_ANSWERS: usize = 10_000;

/// The source cannot answer at the moment.
pub type LookupError = Box<dyn StdError + Send + Sync>;

/// Principals, grants and tokens: a store, or another process that has one.
#[async_trait]
pub trait CallerSource: Send + Sync {
    /// The caller with this token, or the anonymous one. `None` for a token that was never valid, has
    /// expired, or was revoked.
    async fn find(&self, token: Option<&TokenDigest>) -> Result<Option<Caller>, LookupError>;
}

/// Cheap to clone; clones share their answers.
#[derive(Clone)]
pub struct CallerCache(Arc<SharedAnswers>);

struct SharedAnswers {
    source: Box<dyn CallerSource>,
    answers: DatedMap<Option<TokenDigest>, Option<Arc<Caller>>>,
    outage: Outage,
}

impl CallerCache {
    pub fn new(source: impl CallerSource + 'static) -> Self {
        let answers = DatedMap::new(MAX_ANSWERS);
        Self(Arc::new(SharedAnswers { source: Box::new(source), answers, outage: Outage::default() }))
    }

    /// The caller with this token, as of a moment at most `LIFETIME` ago; `None` if the token is not valid.
    pub async fn find(&self, token: Option<&TokenDigest>) -> Result<Option<Arc<Caller>>, LookupError> {
        let key = token.copied();
        let known = self.0.answers.get(&key);
        if let Some(known) = known.as_ref().filter(|known| known.is_younger_than(LIFETIME)) {
            return Ok(known.value.clone());
        }
        let at = Instant::now();
        match self.ask(token).await {
            Ok(caller) => {
                let caller = caller.map(Arc::new);
                self.keep(key, DatedValue { value: caller.clone(), at });
                Ok(caller)
            }
            Err(error) => {
                let known = known.filter(|known| known.is_younger_than(MAX_OUTAGE));
                let caller = known.and_then(|known| known.value).ok_or(error)?;
                Ok(Some(Arc::new(caller.outdated())))
            }
        }
    }

    /// Asks the source, unless it is away. Every error means that it is.
    async fn ask(&self, token: Option<&TokenDigest>) -> Result<Option<Caller>, LookupError> {
        let silent = || Err("the source of access rights does not answer".into());
        let answered = self.0.outage.ask(self.0.source.find(token), silent, Result::is_err).await;
        let answered = answered.ok_or("the source of access rights was away a moment ago")?;
        if let Err(error) = &answered {
            tracing::warn!(%error, "failed to look up a caller; known callers may only send data and read metrics");
        }
        answered
    }

    /// Keeps an answer. Tokens that are not valid make room for others.
    fn keep(&self, token: Option<TokenDigest>, answer: DatedValue<Option<Arc<Caller>>>) {
        let is_of_use =
            |kept: &DatedValue<Option<Arc<Caller>>>| kept.value.is_some() && kept.is_younger_than(MAX_OUTAGE);
        self.0.answers.insert(token, answer, is_of_use);
    }
}

impl std::fmt::Debug for CallerCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallerCache")
    }
}

#[cfg(test)]
mod tests;
