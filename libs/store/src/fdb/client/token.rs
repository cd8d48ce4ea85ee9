//! Tokens, which determine the outcome of a commit whose answer was lost.
//!
//! Each attempt of a commit writes a key that no other attempt ever writes, with its stamp as
//! the value, and declares a conflict with any other writer of that key. If the key exists, the
//! attempt was applied, and the stamp shows when. If not, writing something else there prevents
//! the attempt from ever being applied, even if it is still in flight. The next commit of the
//! same lane clears the token, so there is about one token per lane. Tokens of killed processes
//! are removed a week later.

use std::sync::Arc;

use foundationdb::options::{ConflictRangeType, MutationType};
use foundationdb::{FdbResult, KeySelector, RangeOption, Transaction};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::cluster::Cluster;
use super::errors::call_error;
use super::retry::with_timeout;
use super::space::KeySpace;
use crate::{Error, Limits, Range, Result, Stamp, Version};

/// Maximum number of concurrent commits; further callers wait for a limited time. Each holds a
/// batch of at most 10 MB.
const LANE_COUNT: u16 = 64;
/// A week in versions, which advance by about a million per second. No outcome is queried that
/// late.
const WEEK_IN_VERSIONS: u64 = 7 * 24 * 60 * 60 * 1_000_000;
/// Number of tokens read and cleared in one transaction.
const TOKENS_PER_TRANSACTION: usize = 1_000;
/// Size of the token that prevents its attempt from being applied: one byte longer than a
/// stamp, to distinguish the two.
const FENCE_BYTES: usize = Stamp::BYTES + 1;

/// The pool of lanes in which a store writes tokens.
pub(super) struct TokenLanes {
    store: [u8; 16],
    free: Arc<Mutex<Vec<Lane>>>,
    room: Arc<Semaphore>,
}

#[derive(Clone, Copy)]
struct Lane {
    number: u16,
    attempts: u64,
}

/// Exclusive use of a lane until dropped.
pub(super) struct LaneGuard {
    store: [u8; 16],
    lane: Lane,
    free: Arc<Mutex<Vec<Lane>>>,
    _room: OwnedSemaphorePermit,
}

impl TokenLanes {
    pub(super) fn new() -> Self {
        let lanes = (0..LANE_COUNT).map(|number| Lane { number, attempts: 0 });
        Self {
            store: rand::random(),
            free: Arc::new(Mutex::new(lanes.collect())),
            room: Arc::new(Semaphore::new(LANE_COUNT.into())),
        }
    }

    /// Waits for a free lane. A commit waiting here was decided on a snapshot and is
    /// useless once that has ended, so the wait is bounded. Commits in flight, in contrast,
    /// wait for their answers as long as it takes.
    pub(super) async fn acquire(&self) -> Result<LaneGuard> {
        let room = timeout(Limits::SNAPSHOT_AGE, self.room.clone().acquire_owned());
        let room = room
            .await
            .map_err(|_| Error::unavailable("FoundationDB does not answer the commits in flight"))?
            .expect("the semaphore is never closed");
        let lane = self.free.lock().pop().expect("there is one lane per permit");
        Ok(LaneGuard { store: self.store, lane, free: self.free.clone(), _room: room })
    }

    /// Takes all lanes, or returns None while commits are in flight. Afterwards no token is
    /// needed any more.
    fn acquire_all(&self) -> Option<SemaphorePermit<'_>> {
        self.room.try_acquire_many(LANE_COUNT.into()).ok()
    }

    /// Clears the tokens of all lanes.
    pub(super) async fn clear_tokens(&self, cluster: &Cluster) -> Result<()> {
        let closed = self.acquire_all();
        let _closed = closed.ok_or_else(|| Error::unavailable("commits are still in flight"))?;
        let own = [cluster.space.tokens(), &self.store].concat();
        let Range { start, end } = Range::prefix(own);
        let transaction = cluster.begin()?;
        cluster.read_version(&transaction).await?;
        transaction.clear_range(&start, &end);
        transaction.commit().await.map(|_| ()).map_err(|error| call_error(*error))
    }
}

impl Drop for LaneGuard {
    fn drop(&mut self) {
        // The permit is dropped only after this, so there is a free lane for every free permit.
        self.free.lock().push(self.lane);
    }
}

/// The key of one attempt's token, and the common prefix of all tokens of its lane.
pub(super) struct Token {
    key: Vec<u8>,
    lane: Vec<u8>,
}

impl LaneGuard {
    /// The token of the next attempt.
    pub(super) fn next_token(&mut self, space: &KeySpace) -> Token {
        self.lane.attempts += 1;
        let lane = [space.tokens(), &self.store, &self.lane.number.to_be_bytes()].concat();
        Token { key: [&lane[..], &self.lane.attempts.to_be_bytes()].concat(), lane }
    }
}

impl Token {
    pub(super) fn write(&self, transaction: &Transaction) -> FdbResult<()> {
        // Clears earlier tokens of the lane, whose outcomes are known by now.
        transaction.clear_range(&self.lane, &self.key);
        self.write_stamp(transaction, Stamp::BYTES);
        conflict_with(transaction, &self.key, ConflictRangeType::Read)
    }

    /// Writes a stamp of `bytes` bytes. The last four bytes give the position of the
    /// versionstamp, which is 0.
    fn write_stamp(&self, transaction: &Transaction, bytes: usize) {
        let value = vec![0; bytes + size_of::<u32>()];
        transaction.atomic_op(&self.key, &value, MutationType::SetVersionstampedValue);
    }

    /// Adds a write conflict without writing. A transaction without any would be read-only,
    /// and the cluster would not check its reads.
    pub(super) fn add_write_conflict(&self, transaction: &Transaction) -> FdbResult<()> {
        conflict_with(transaction, &self.key, ConflictRangeType::Write)
    }

    /// Determines whether the attempt was applied; if not, it never will be. No
    /// other answer is acceptable, so this continues until the cluster is available.
    pub(super) async fn resolve_outcome(&self, cluster: &Cluster) -> Option<Stamp> {
        let mut attempt = 1;
        loop {
            match self.find_or_fence(cluster).await {
                Ok(outcome) => return outcome,
                Err(error) => {
                    tracing::warn!(%error, attempt, "failed to determine the outcome of a commit; will retry")
                }
            }
            cluster.retries.wait(attempt).await;
            attempt += 1;
        }
    }

    async fn find_or_fence(&self, cluster: &Cluster) -> Result<Option<Stamp>> {
        let transaction = cluster.begin()?;
        cluster.read_version(&transaction).await?;
        let found = with_timeout(transaction.get(&self.key, false)).await?.map_err(call_error)?;
        if let Some(value) = found {
            return Ok(value[..].try_into().ok().map(Stamp));
        }
        self.write_stamp(&transaction, FENCE_BYTES);
        transaction.commit().await.map_err(|error| call_error(*error))?;
        Ok(None)
    }
}

fn conflict_with(transaction: &Transaction, key: &[u8], kind: ConflictRangeType) -> FdbResult<()> {
    transaction.add_conflict_range(key, &[key, &[0]].concat(), kind)
}

/// Clears the tokens of stores that were not closed, and old ones of open stores, whose
/// outcomes have long been known.
pub(super) async fn clear_old(cluster: &Cluster) -> Result<()> {
    let all = Range::prefix(cluster.space.tokens().to_vec());
    let mut rest = Some(all);
    while let Some(range) = rest {
        rest = clear_old_page(cluster, range).await?;
    }
    Ok(())
}

async fn clear_old_page(cluster: &Cluster, range: Range) -> Result<Option<Range>> {
    let transaction = cluster.begin()?;
    let now = cluster.read_version(&transaction).await?.unsigned_abs();
    let option = RangeOption {
        begin: KeySelector::first_greater_or_equal(&range.start[..]),
        end: KeySelector::first_greater_or_equal(&range.end[..]),
        limit: Some(TOKENS_PER_TRANSACTION),
        ..RangeOption::default()
    };
    let rows = with_timeout(transaction.get_range(&option, 1, false)).await?.map_err(call_error)?;
    let old = rows.iter().filter(|row| is_old(row.value(), Version(now)));
    let cleared = old.map(|row| transaction.clear(row.key())).count();
    if cleared > 0 {
        // The commit fails if one of the tokens was rewritten since; the next store that opens
        // retries.
        if let Err(error) = transaction.commit().await {
            tracing::debug!(%error, "failed to clear old tokens");
        }
    }
    let next = rows.last().filter(|_| rows.more());
    Ok(next.map(|last| range.after(&last.key().to_vec().into())))
}

fn is_old(token: &[u8], now: Version) -> bool {
    let written = token.first_chunk().copied().map(Stamp);
    written.is_some_and(|stamp| stamp.version().0.saturating_add(WEEK_IN_VERSIONS) < now.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_lane_is_bounded() {
        let lanes = TokenLanes::new();
        let mut guards = Vec::new();
        for _ in 0..LANE_COUNT {
            guards.push(lanes.acquire().await.expect("a lane is free"));
        }
        assert!(matches!(lanes.acquire().await, Err(Error::Unavailable { .. })));
        guards.pop();
        assert!(lanes.acquire().await.is_ok());
    }
}
