//! Tokens: how the outcome of a commit is found out when its answer was lost.
//!
//! Each attempt of a commit writes a key that nobody else ever writes, with its stamp as the value, and conflicts with
//! whoever else has written it. If it is there, the attempt was applied, and the stamp tells when. If not, writing
//! something else there shuts the attempt out for good, even if it is still under way. The next commit of the same lane
//! clears it, so there is about one token per lane, and what a killed process leaves goes a week later.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foundationdb::options::{ConflictRangeType, MutationType};
use foundationdb::{FdbResult, KeySelector, RangeOption, Transaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::errors::failed;
use super::retry::answered;
use super::{FdbStore, Shared};
use crate::{Error, Limits, Range, Result, Stamp, Version};

/// Commits under way at once; more callers wait, for a while. Each holds a batch of at most 10 MB.
const LANES: u16 = 64;
/// In versions, which go up by about a million a second. Nobody asks for an outcome as late as that.
const WEEK: u64 = 7 * 24 * 60 * 60 * 1_000_000;
/// Tokens that are read and cleared in one transaction.
const SWEPT: usize = 1_000;
/// A token that shuts its attempt out is a byte longer than a stamp.
const SHUT_BYTES: usize = Stamp::BYTES + 1;

/// Who takes turns in writing tokens.
pub(super) struct Lanes {
    store: [u8; 16],
    free: Arc<Mutex<Vec<Lane>>>,
    room: Arc<Semaphore>,
}

#[derive(Clone, Copy)]
struct Lane {
    number: u16,
    attempts: u64,
}

/// A lane that is ours until it is dropped.
pub(super) struct Turn {
    store: [u8; 16],
    lane: Lane,
    free: Arc<Mutex<Vec<Lane>>>,
    _room: OwnedSemaphorePermit,
}

impl Lanes {
    pub(super) fn new() -> Self {
        let lanes = (0..LANES).map(|number| Lane { number, attempts: 0 });
        Self {
            store: rand::random(),
            free: Arc::new(Mutex::new(lanes.collect())),
            room: Arc::new(Semaphore::new(LANES.into())),
        }
    }

    /// What waits here was decided on a snapshot, and of no use when that has ended. Commits under way wait for their answers
    /// for as long as it takes.
    pub(super) async fn turn(&self) -> Result<Turn> {
        let room = timeout(Limits::SNAPSHOT_AGE, self.room.clone().acquire_owned());
        let silent = |_| Error::unavailable("FoundationDB does not answer the commits under way");
        let room = room.await.map_err(silent)?.expect("it is never closed");
        let lane = lock(&self.free).pop().expect("there is a lane for each permit");
        Ok(Turn { store: self.store, lane, free: self.free.clone(), _room: room })
    }

    /// All of them, if no commit is under way: nobody will ask for a token then.
    fn close(&self) -> Option<SemaphorePermit<'_>> {
        self.room.try_acquire_many(LANES.into()).ok()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.free).push(self.lane);
    }
}

fn lock(free: &Mutex<Vec<Lane>>) -> MutexGuard<'_, Vec<Lane>> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The keys of one attempt: its own, and where those of earlier attempts begin.
pub(super) struct Token {
    key: Vec<u8>,
    lane: Vec<u8>,
}

impl Turn {
    /// Of the next attempt.
    pub(super) fn token(&mut self, shared: &Shared) -> Token {
        self.lane.attempts += 1;
        let lane = [shared.space.tokens(), &self.store, &self.lane.number.to_be_bytes()].concat();
        Token { key: [&lane[..], &self.lane.attempts.to_be_bytes()].concat(), lane }
    }
}

impl Token {
    pub(super) fn write(&self, transaction: &Transaction) -> FdbResult<()> {
        transaction.clear_range(&self.lane, &self.key);
        self.stamp(transaction, Stamp::BYTES);
        conflict_with(transaction, &self.key, ConflictRangeType::Read)
    }

    /// The stamp goes where the last four bytes say: to the beginning.
    fn stamp(&self, transaction: &Transaction, bytes: usize) {
        let value = vec![0; bytes + size_of::<u32>()];
        transaction.atomic_op(&self.key, &value, MutationType::SetVersionstampedValue);
    }

    /// As if it were written: makes a transaction one that the cluster decides on.
    pub(super) fn touch(&self, transaction: &Transaction) -> FdbResult<()> {
        conflict_with(transaction, &self.key, ConflictRangeType::Write)
    }
}

fn conflict_with(transaction: &Transaction, key: &[u8], how: ConflictRangeType) -> FdbResult<()> {
    transaction.add_conflict_range(key, &[key, &[0]].concat(), how)
}

impl Shared {
    /// Whether the attempt of a token was applied; if not, it never will be. There is no other answer to give, so this
    /// goes on until the cluster is there.
    pub(super) async fn settle(&self, token: &Token) -> Option<Stamp> {
        let mut attempt = 1;
        loop {
            match self.look_or_shut(token).await {
                Ok(outcome) => return outcome,
                Err(error) => tracing::warn!(%error, attempt, "the outcome of a commit is not known yet"),
            }
            self.retries.wait(attempt).await;
            attempt += 1;
        }
    }

    async fn look_or_shut(&self, token: &Token) -> Result<Option<Stamp>> {
        let transaction = self.begin()?;
        self.read_version(&transaction).await?;
        let found = answered(transaction.get(&token.key, false)).await?.map_err(failed)?;
        if let Some(value) = found {
            return Ok(value[..].try_into().ok().map(Stamp));
        }
        token.stamp(&transaction, SHUT_BYTES);
        transaction.commit().await.map_err(|error| failed(*error))?;
        Ok(None)
    }
}

impl FdbStore {
    /// Clears what stores have left that were not closed, and of those that are open what has long been told.
    pub(super) async fn tokens_sweep(&self) -> Result<()> {
        let all = Range::prefix(self.shared.space.tokens().to_vec());
        let mut rest = Some(all);
        while let Some(range) = rest {
            rest = self.sweep_page(range).await?;
        }
        Ok(())
    }

    async fn sweep_page(&self, range: Range) -> Result<Option<Range>> {
        let transaction = self.shared.begin()?;
        let now = self.shared.read_version(&transaction).await?.unsigned_abs();
        let option = RangeOption {
            begin: KeySelector::first_greater_or_equal(&range.start[..]),
            end: KeySelector::first_greater_or_equal(&range.end[..]),
            limit: Some(SWEPT),
            ..RangeOption::default()
        };
        let rows = answered(transaction.get_range(&option, 1, false)).await?.map_err(failed)?;
        let old = rows.iter().filter(|row| is_old(row.value(), Version(now)));
        let swept = old.map(|row| transaction.clear(row.key())).count();
        if swept > 0 {
            // One that is written meanwhile lives; the next store that opens looks again.
            if let Err(error) = transaction.commit().await {
                tracing::debug!(%error, "old tokens stay");
            }
        }
        let next = rows.last().filter(|_| rows.more());
        Ok(next.map(|last| range.after(&last.key().to_vec().into())))
    }

    pub(super) async fn tokens_clear(&self) -> Result<()> {
        let closed = self.lanes.close();
        let _closed = closed.ok_or_else(|| Error::unavailable("commits are under way"))?;
        let own = [self.shared.space.tokens(), &self.lanes.store].concat();
        let Range { start, end } = Range::prefix(own);
        let transaction = self.shared.begin()?;
        self.shared.read_version(&transaction).await?;
        transaction.clear_range(&start, &end);
        transaction.commit().await.map(|_| ()).map_err(|error| failed(*error))
    }
}

fn is_old(token: &[u8], now: Version) -> bool {
    let written = token.first_chunk().copied().map(Stamp);
    written.is_some_and(|stamp| stamp.version().0.saturating_add(WEEK) < now.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever_behind_commits_without_an_answer() {
        let lanes = Lanes::new();
        let mut turns = Vec::new();
        for _ in 0..LANES {
            turns.push(lanes.turn().await.expect("there is room"));
        }
        assert!(matches!(lanes.turn().await, Err(Error::Unavailable { .. })));
        turns.pop();
        assert!(lanes.turn().await.is_ok());
    }
}
