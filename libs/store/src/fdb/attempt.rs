//! One attempt to commit a batch: a single transaction at one read version.

use foundationdb::options::{ConflictRangeType, MutationType};
use foundationdb::{FdbResult, Transaction};
use futures::{StreamExt, TryStreamExt, stream};

use super::Shared;
use super::errors::{Refusal, failed, too_large};
use super::retry::answered;
use super::snapshot::READS;
use super::token::{Token, Turn};
use crate::{Batch, Check, Error, Key, Mutation, Range, Result, Stamp, Value};

/// Result of an attempt. Only `Applied` has written anything.
pub(super) enum Outcome {
    Applied(Stamp),
    /// At the read version, a value differed from the expected one.
    Differs,
    /// A checked key or range has changed since the read version.
    Overtaken,
}

impl Shared {
    /// Attempts the commit at the version `at`, or at the newest one if `None`.
    pub(super) async fn attempt(&self, batch: &Batch, at: Option<i64>, turn: &mut Turn) -> Result<Outcome> {
        let mut attempt = 1;
        loop {
            let transaction = self.begin()?;
            match at {
                Some(version) => {
                    if !reads(batch) {
                        // Without reads, the first waiting call would be
                        // the commit, which waits forever for an
                        // unreachable cluster. Reading a version first
                        // fails in time.
                        self.read_version(&self.begin()?).await?;
                    }
                    transaction.set_read_version(version);
                }
                None => drop(self.read_version(&transaction).await?),
            }
            match self.values_are_expected(&transaction, batch).await {
                Ok(true) => {}
                Ok(false) => return Ok(Outcome::Differs),
                // The version is too old to evaluate the checks.
                Err(Error::SnapshotTooOld) => return Ok(Outcome::Overtaken),
                Err(error) => return Err(error),
            }
            let token = turn.token(self);
            self.fill(&transaction, batch).and_then(|()| token.write(&transaction)).map_err(failed)?;
            let error = match self.finish(transaction, &token).await {
                Ok(stamp) => return Ok(Outcome::Applied(stamp)),
                Err(error) => error,
            };
            match Refusal::of(error) {
                Refusal::Overtaken => return Ok(Outcome::Overtaken),
                Refusal::TooLarge => return Err(too_large(batch)),
                Refusal::Misused => return Err(failed(error)),
                _ if attempt >= self.retries.attempts => return Err(failed(error)),
                Refusal::Busy | Refusal::Unknown => self.retries.wait(attempt).await,
            }
            attempt += 1;
        }
    }

    /// Commits and waits for the answer as long as it takes, since callers must not get an
    /// answer before the outcome is known. Any error means that nothing was applied, and
    /// never will be.
    async fn finish(&self, transaction: Transaction, token: &Token) -> FdbResult<Stamp> {
        let stamp = transaction.get_versionstamp();
        let unknown = match transaction.commit().await {
            Ok(_committed) => match stamp.await {
                Ok(stamp) => return Ok(Stamp(*stamp.first_chunk().expect("a versionstamp has ten bytes"))),
                Err(error) => error,
            },
            Err(error) if Refusal::of(*error) == Refusal::Unknown => *error,
            Err(error) => return Err(*error),
        };
        self.settle(token).await.ok_or(unknown)
    }

    async fn values_are_expected(&self, transaction: &Transaction, batch: &Batch) -> Result<bool> {
        let expected = batch.checks.iter().filter_map(|check| match check {
            Check::Value { key, expected } => Some((key, expected.as_ref())),
            Check::Unchanged { .. } => None,
        });
        let reads: Vec<_> = expected.map(|(key, value)| self.is_expected(transaction, key, value)).collect();
        let differs = |holds: &bool| std::future::ready(!*holds);
        let mut others = stream::iter(reads).buffer_unordered(READS).try_filter(differs);
        Ok(others.try_next().await?.is_none())
    }

    async fn is_expected(
        &self,
        transaction: &Transaction,
        key: &Key,
        expected: Option<&Value>,
    ) -> Result<bool> {
        let key = self.space.key(key);
        let read = || answered(transaction.get(&key, false));
        let value = self.retries.reading(read).await?;
        Ok(value.as_deref() == expected.map(|value| &value[..]))
    }

    fn fill(&self, transaction: &Transaction, batch: &Batch) -> FdbResult<()> {
        for check in &batch.checks {
            if let Check::Unchanged { range, .. } = check {
                self.watch_over(transaction, range)?;
            }
        }
        batch.mutations.iter().for_each(|mutation| self.mutate(transaction, mutation));
        Ok(())
    }

    /// Makes the transaction fail to commit if the range has changed by then.
    pub(super) fn watch_over(&self, transaction: &Transaction, range: &Range) -> FdbResult<()> {
        match self.space.range(range) {
            Some((start, end)) => transaction.add_conflict_range(&start, &end, ConflictRangeType::Read),
            None => Ok(()),
        }
    }

    fn mutate(&self, transaction: &Transaction, mutation: &Mutation) {
        match mutation {
            Mutation::Set { key, value } => transaction.set(&self.space.key(key), value),
            Mutation::Clear { key } => transaction.clear(&self.space.key(key)),
            Mutation::ClearRange { range } => {
                if let Some((start, end)) = self.space.range(range) {
                    transaction.clear_range(&start, &end);
                }
            }
            Mutation::Add { key, delta } => {
                transaction.atomic_op(&self.space.key(key), &delta.to_le_bytes(), MutationType::Add);
            }
            Mutation::SetStamped { prefix, suffix, value } => {
                let key = stamped(&self.space.key(prefix), suffix);
                transaction.atomic_op(&key, value, MutationType::SetVersionstampedKey);
            }
        }
    }
}

/// True if checking the batch requires reads.
fn reads(batch: &Batch) -> bool {
    batch.checks.iter().any(|check| matches!(check, Check::Value { .. }))
}

/// A versionstamped key: room for the stamp, and at the end the stamp's position.
fn stamped(prefix: &[u8], suffix: &[u8]) -> Vec<u8> {
    let at = u32::try_from(prefix.len()).expect("a key has at most 10,000 bytes");
    [prefix, &[0; Stamp::BYTES], suffix, &at.to_le_bytes()].concat()
}
