use std::collections::HashMap;

use matyan_proto::common::v1::Access;
use parking_lot::Mutex;
use tokio::time::advance;

use super::*;
use crate::{CallerRights, Denial, RETRY_INTERVAL, Role};

/// A source whose answers a test changes.
#[derive(Clone, Default)]
struct ChangingSource(Arc<Mutex<SourceState>>);

#[derive(Default)]
struct SourceState {
    is_away: bool,
    callers: HashMap<Option<TokenDigest>, Caller>,
    calls: usize,
}

#[async_trait]
impl CallerSource for ChangingSource {
    async fn find(&self, token: Option<&TokenDigest>) -> Result<Option<Caller>, LookupError> {
        let mut state = self.0.lock();
        state.calls += 1;
        if state.is_away { Err("away".into()) } else { Ok(state.callers.get(&token.copied()).cloned()) }
    }
}

const TOKEN: TokenDigest = TokenDigest([1; 32]);

fn owner() -> Caller {
    let mut rights = CallerRights::default();
    rights.grant_in("team", Role::Owner);
    Caller::new("service:node", rights)
}

fn known() -> (ChangingSource, CallerCache) {
    let source = ChangingSource::default();
    source.0.lock().callers.insert(Some(TOKEN), owner());
    (source.clone(), CallerCache::new(source))
}

#[tokio::test(start_paused = true)]
async fn rule_55_a_revoked_token_is_refused_within_the_promised_time() {
    let (source, cache) = known();
    assert_eq!(cache.find(Some(&TOKEN)).await.unwrap().as_deref(), Some(&owner()));
    source.0.lock().callers.clear();
    advance(LIFETIME).await;
    assert_eq!(cache.find(Some(&TOKEN)).await.unwrap(), None);
}

/// A source that reads at once, and takes some time to answer.
#[derive(Clone, Default)]
struct SlowSource(ChangingSource);

#[async_trait]
impl CallerSource for SlowSource {
    async fn find(&self, token: Option<&TokenDigest>) -> Result<Option<Caller>, LookupError> {
        let answer = self.0.find(token).await;
        tokio::time::sleep(ANSWER_TIMEOUT / 2).await;
        answer
    }
}

#[tokio::test(start_paused = true)]
async fn rule_55_an_answer_is_as_old_as_its_question() {
    let source = SlowSource::default();
    source.0.0.lock().callers.insert(Some(TOKEN), owner());
    let cache = CallerCache::new(source.clone());
    let asked = Instant::now();
    assert!(cache.find(Some(&TOKEN)).await.unwrap().is_some());
    source.0.0.lock().callers.clear();
    advance(LIFETIME - asked.elapsed()).await;
    assert_eq!(cache.find(Some(&TOKEN)).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn rule_55_a_late_answer_replaces_no_newer_answer() {
    let (_, cache) = known();
    let asked = Instant::now();
    advance(Duration::from_secs(1)).await;
    cache.keep(Some(TOKEN), DatedValue::now(None));
    cache.keep(Some(TOKEN), DatedValue { value: Some(Arc::new(owner())), at: asked });
    assert_eq!(cache.find(Some(&TOKEN)).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_used_for_some_seconds() {
    let (source, cache) = known();
    for _ in 0..100 {
        cache.find(Some(&TOKEN)).await.unwrap().unwrap();
    }
    assert_eq!(source.0.lock().calls, 1);
}

#[tokio::test(start_paused = true)]
async fn rule_56_without_a_source_known_callers_send_data_for_15_minutes() {
    let (source, cache) = known();
    cache.find(Some(&TOKEN)).await.unwrap().unwrap();
    source.0.lock().is_away = true;
    for _ in 0..59 {
        advance(LIFETIME).await;
        let caller = cache.find(Some(&TOKEN)).await.unwrap().unwrap();
        assert_eq!(caller.check(Access::Ingest, "team"), Ok(()));
        for (access, project) in [(Access::Read, "team"), (Access::Caller, ""), (Access::Ingest, "other")] {
            assert_eq!(caller.check(access, project), Err(Denial::RightsAway), "nothing is refused for good");
        }
    }
    advance(LIFETIME).await;
    cache.find(Some(&TOKEN)).await.unwrap_err();
    // A token that was never seen is neither accepted nor refused.
    cache.find(Some(&TokenDigest([2; 32]))).await.unwrap_err();
    source.0.lock().is_away = false;
    advance(RETRY_INTERVAL).await;
    assert_eq!(cache.find(Some(&TOKEN)).await.unwrap().as_deref(), Some(&owner()));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_away_is_asked_once_a_second() {
    let (source, cache) = known();
    source.0.lock().is_away = true;
    for _ in 0..100 {
        cache.find(Some(&TOKEN)).await.unwrap_err();
    }
    assert_eq!(source.0.lock().calls, 1);
    advance(RETRY_INTERVAL).await;
    cache.find(Some(&TOKEN)).await.unwrap_err();
    assert_eq!(source.0.lock().calls, 2);
}

/// A source that never answers.
struct SilentSource;

#[async_trait]
impl CallerSource for SilentSource {
    async fn find(&self, _: Option<&TokenDigest>) -> Result<Option<Caller>, LookupError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn rule_56_a_source_that_does_not_answer_is_away() {
    CallerCache::new(SilentSource).find(Some(&TOKEN)).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn answers_about_many_tokens_are_forgotten() {
    let (_, cache) = known();
    cache.find(Some(&TOKEN)).await.unwrap().unwrap();
    for number in 0..2 * MAX_ANSWERS {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        assert_eq!(cache.find(Some(&TokenDigest(digest))).await.unwrap(), None);
    }
    let answers = &cache.0.answers;
    assert!(answers.count() <= MAX_ANSWERS);
    assert!(answers.get(&Some(TOKEN)).is_some());
}
