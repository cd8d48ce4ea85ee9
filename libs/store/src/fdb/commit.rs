//! Checks against past versions, implemented with transactions that have a single read version
//! each.
//!
//! A check of a value concerns the current state; a check of a range concerns all changes since
//! a version. FoundationDB supports only the latter, and only for one version per transaction.
//! Most batches were decided on one snapshot, so the first attempt is made at that version, and
//! if it succeeds, all checks held. If it fails, a value may still have changed and changed
//! back. So each range is then proved unchanged up to now by a transaction that writes nothing,
//! and the values are read at a version that all the proofs cover.

use std::collections::BTreeMap;

use futures::TryFutureExt;

use super::attempt::Outcome;
use super::errors::{Refusal, failed};
use super::retry::answered;
use super::token::Turn;
use super::{FdbStore, Shared};
use crate::{Batch, Check, Commit, Error, Range, Result, Stamp, Version};

/// An attempt fails only if another writer changed a checked key since the proof, and the
/// checks held again afterwards. So many failures in a row indicate extreme contention.
const MAX_ATTEMPTS: u32 = 1_000;

/// The ranges that a batch checks to be unchanged, by their `since` version.
type Ranges<'a> = BTreeMap<Version, Vec<&'a Range>>;

/// What is known about the ranges of a batch.
enum Proof {
    /// All are unchanged up to this version; `None` if there are no ranges, so any version
    /// will do.
    UpTo(Option<i64>),
    /// One has changed, or its version is too old to prove otherwise.
    Changed,
}

impl FdbStore {
    pub(super) async fn commit_settled(&self, batch: &Batch) -> Result<Commit> {
        let (shared, mut turn) = (&self.shared, self.lanes.turn().await?);
        let ranges = ranges(batch);
        if let Some(at) = shared.decided_at(&ranges)
            && let Outcome::Applied(stamp) = shared.attempt(batch, Some(at), &mut turn).await?
        {
            return Ok(done(stamp));
        }
        for _ in 0..MAX_ATTEMPTS {
            let Proof::UpTo(at) = shared.prove(&ranges, &mut turn).await? else {
                return Ok(Commit::Conflict);
            };
            match shared.attempt(batch, at, &mut turn).await? {
                Outcome::Applied(stamp) => return Ok(done(stamp)),
                Outcome::Differs => return Ok(Commit::Conflict),
                Outcome::Overtaken => {}
            }
        }
        Err(Error::Contended { attempts: MAX_ATTEMPTS })
    }
}

fn ranges(batch: &Batch) -> Ranges<'_> {
    let mut ranges = Ranges::new();
    for check in &batch.checks {
        if let Check::Unchanged { range, since } = check {
            ranges.entry(*since).or_default().push(range);
        }
    }
    ranges
}

fn done(stamp: Stamp) -> Commit {
    Commit::Done { version: stamp.version(), stamp }
}

impl Shared {
    /// The version of the snapshot that a batch was decided on, if there is exactly one and
    /// the cluster has issued it.
    fn decided_at(&self, ranges: &Ranges<'_>) -> Option<i64> {
        let (since, _) = ranges.first_key_value().filter(|_| ranges.len() == 1)?;
        i64::try_from(since.0).ok().filter(|at| (1..=self.newest()).contains(at))
    }

    async fn prove(&self, ranges: &Ranges<'_>, turn: &mut Turn) -> Result<Proof> {
        let mut reached: Option<i64> = None;
        for (since, ranges) in ranges {
            match self.unchanged_up_to(*since, ranges, turn).await? {
                Some(version) => reached = Some(reached.map_or(version, |least| least.min(version))),
                None => return Ok(Proof::Changed),
            }
        }
        Ok(Proof::UpTo(reached))
    }

    /// Returns a version up to which none of the ranges has changed. The transaction writes
    /// nothing, so an unknown outcome is simply retried.
    async fn unchanged_up_to(
        &self,
        since: Version,
        ranges: &[&Range],
        turn: &mut Turn,
    ) -> Result<Option<i64>> {
        let mut attempt = 1;
        loop {
            let transaction = self.begin()?;
            // The commit fails if a range has changed after its read version.
            transaction.set_read_version(self.given_out(since).await?);
            let mut checks = ranges.iter().map(|range| self.watch_over(&transaction, range));
            checks.try_for_each(|check| check).map_err(failed)?;
            turn.token(self).touch(&transaction).map_err(failed)?;
            let committed = transaction.commit().map_err(|error| *error);
            let error = match answered(committed).await? {
                Ok(committed) => {
                    let version = committed.committed_version().map_err(failed)?;
                    self.saw(version);
                    return Ok(Some(version));
                }
                Err(error) => error,
            };
            match Refusal::of(error) {
                Refusal::Overtaken => return Ok(None),
                Refusal::Misused => return Err(failed(error)),
                _ if attempt >= self.retries.attempts => return Err(failed(error)),
                _ => self.retries.wait(attempt).await,
            }
            attempt += 1;
        }
    }

    /// Clamps `version` to versions that the cluster has reached; reading at a later one
    /// would fail.
    async fn given_out(&self, version: Version) -> Result<i64> {
        let version = i64::try_from(version.0).unwrap_or(i64::MAX).max(1);
        if version > self.newest() {
            self.read_version(&self.begin()?).await?;
        }
        Ok(version.min(self.newest()))
    }
}
