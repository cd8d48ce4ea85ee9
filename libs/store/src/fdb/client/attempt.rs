//! One attempt to commit a batch: a single transaction at one read version.

use foundationdb::options::MutationType;
use foundationdb::{FdbResult, Transaction};
use futures::{StreamExt, TryStreamExt, stream};

use super::cluster::Cluster;
use super::errors::{CommitFailure, call_error, too_large};
use super::retry::with_timeout;
use super::snapshot::CONCURRENT_READS;
use super::token::{LaneGuard, Token};
use crate::{Batch, Check, Error, Key, Mutation, Result, Stamp, Value};

/// Result of an attempt. Only `Applied` has written anything.
pub(super) enum AttemptOutcome {
    Applied(Stamp),
    /// At the read version, a value differed from the expected one.
    ValueMismatch,
    /// A checked key or range has changed since the read version.
    Conflict,
}

/// Attempts to commit a batch in a lane.
pub(super) struct CommitAttempts<'c> {
    pub(super) cluster: &'c Cluster,
    pub(super) batch: &'c Batch,
    pub(super) lane: LaneGuard,
}

impl CommitAttempts<'_> {
    /// Attempts the commit at the version `at`, or at the newest one if `None`.
    pub(super) async fn run(&mut self, at: Option<i64>) -> Result<AttemptOutcome> {
        let mut attempt = 1;
        loop {
            let transaction = self.cluster.begin()?;
            match at {
                Some(version) => {
                    if !has_value_checks(self.batch) {
                        // Without reads, the first waiting call would be
                        // the commit, which waits forever for an
                        // unreachable cluster. Reading a version first
                        // fails in time.
                        self.cluster.read_version(&self.cluster.begin()?).await?;
                    }
                    transaction.set_read_version(version);
                }
                None => drop(self.cluster.read_version(&transaction).await?),
            }
            match self.values_are_expected(&transaction).await {
                Ok(true) => {}
                Ok(false) => return Ok(AttemptOutcome::ValueMismatch),
                // The version is too old to evaluate the checks.
                Err(Error::SnapshotTooOld) => return Ok(AttemptOutcome::Conflict),
                Err(error) => return Err(error),
            }
            let token = self.lane.next_token(&self.cluster.space);
            self.add_operations(&transaction).and_then(|()| token.write(&transaction)).map_err(call_error)?;
            let error = match self.commit_with_token(transaction, &token).await {
                Ok(stamp) => return Ok(AttemptOutcome::Applied(stamp)),
                Err(error) => error,
            };
            match CommitFailure::from_error(error) {
                CommitFailure::Conflict => return Ok(AttemptOutcome::Conflict),
                CommitFailure::TooLarge => return Err(too_large(self.batch)),
                CommitFailure::InvalidUse => return Err(call_error(error)),
                _ if attempt >= self.cluster.retries.attempts => return Err(call_error(error)),
                CommitFailure::Busy | CommitFailure::Unknown => self.cluster.retries.wait(attempt).await,
            }
            attempt += 1;
        }
    }

    /// Commits and waits for the answer as long as it takes, since callers must not get an
    /// answer before the outcome is known. Any error means that nothing was applied, and
    /// never will be.
    async fn commit_with_token(&self, transaction: Transaction, token: &Token) -> FdbResult<Stamp> {
        let stamp = transaction.get_versionstamp();
        let unknown = match transaction.commit().await {
            Ok(_committed) => match stamp.await {
                Ok(stamp) => return Ok(Stamp(*stamp.first_chunk().expect("a versionstamp has ten bytes"))),
                Err(error) => error,
            },
            Err(error) if CommitFailure::from_error(*error) == CommitFailure::Unknown => *error,
            Err(error) => return Err(*error),
        };
        token.resolve_outcome(self.cluster).await.ok_or(unknown)
    }

    async fn values_are_expected(&self, transaction: &Transaction) -> Result<bool> {
        let expected = self.batch.checks.iter().filter_map(|check| match check {
            Check::Value { key, expected } => Some((key, expected.as_ref())),
            Check::Unchanged { .. } => None,
        });
        let reads: Vec<_> = expected.map(|(key, value)| self.is_expected(transaction, key, value)).collect();
        let mut mismatches = stream::iter(reads)
            .buffer_unordered(CONCURRENT_READS)
            .try_filter(|holds| std::future::ready(!*holds));
        Ok(mismatches.try_next().await?.is_none())
    }

    async fn is_expected(
        &self,
        transaction: &Transaction,
        key: &Key,
        expected: Option<&Value>,
    ) -> Result<bool> {
        let key = self.cluster.space.key(key);
        let value = self.cluster.retries.read(|| with_timeout(transaction.get(&key, false))).await?;
        Ok(value.as_deref() == expected.map(|value| &value[..]))
    }

    fn add_operations(&self, transaction: &Transaction) -> FdbResult<()> {
        for check in &self.batch.checks {
            if let Check::Unchanged { range, .. } = check {
                self.cluster.add_read_conflict(transaction, range)?;
            }
        }
        for mutation in &self.batch.mutations {
            self.mutate(transaction, mutation);
        }
        Ok(())
    }

    fn mutate(&self, transaction: &Transaction, mutation: &Mutation) {
        match mutation {
            Mutation::Set { key, value } => transaction.set(&self.cluster.space.key(key), value),
            Mutation::Clear { key } => transaction.clear(&self.cluster.space.key(key)),
            Mutation::ClearRange { range } => {
                if let Some((start, end)) = self.cluster.space.range(range) {
                    transaction.clear_range(&start, &end);
                }
            }
            Mutation::Add { key, delta } => {
                transaction.atomic_op(&self.cluster.space.key(key), &delta.to_le_bytes(), MutationType::Add);
            }
            Mutation::SetStamped { prefix, suffix, value } => {
                let key = stamped_key(&self.cluster.space.key(prefix), suffix);
                transaction.atomic_op(&key, value, MutationType::SetVersionstampedKey);
            }
        }
    }
}

/// True if checking the batch requires reads.
fn has_value_checks(batch: &Batch) -> bool {
    batch.checks.iter().any(|check| matches!(check, Check::Value { .. }))
}

/// A versionstamped key: room for the stamp, and at the end the stamp's position.
fn stamped_key(prefix: &[u8], suffix: &[u8]) -> Vec<u8> {
    let at = u32::try_from(prefix.len()).expect("a key has at most 10,000 bytes");
    [prefix, &[0; Stamp::BYTES], suffix, &at.to_le_bytes()].concat()
}
