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

use super::attempt::AttemptOutcome;
use super::errors::{CommitFailure, call_error};
use super::retry::with_timeout;
use super::token::LaneGuard;
use super::{FdbStore, Shared};
use crate::{Batch, Check, Commit, Error, Range, Result, Stamp, Version};

/// An attempt fails only if another writer changed a checked key since the proof, and the
/// checks held again afterwards. So many failures in a row indicate extreme contention.
const MAX_ATTEMPTS: u32 = 1_000;

/// The ranges that a batch checks to be unchanged, by their `since` version.
type Ranges<'a> = BTreeMap<Version, Vec<&'a Range>>;

/// What is known about the ranges of a batch.
enum RangeProof {
    /// All are unchanged up to this version; `None` if there are no ranges, so any version
    /// will do.
    UpTo(Option<i64>),
    /// One has changed, or its version is too old to prove otherwise.
    Changed,
}

impl FdbStore {
    pub(super) async fn commit_resolved(&self, batch: &Batch) -> Result<Commit> {
        let (shared, mut lane) = (&self.shared, self.lanes.acquire().await?);
        let ranges = ranges(batch);
        if let Some(at) = shared.snapshot_version(&ranges)
            && let AttemptOutcome::Applied(stamp) = shared.attempt(batch, Some(at), &mut lane).await?
        {
            return Ok(committed(stamp));
        }
        for _ in 0..MAX_ATTEMPTS {
            let RangeProof::UpTo(at) = shared.prove(&ranges, &mut lane).await? else {
                return Ok(Commit::Conflict);
            };
            match shared.attempt(batch, at, &mut lane).await? {
                AttemptOutcome::Applied(stamp) => return Ok(committed(stamp)),
                AttemptOutcome::ValueMismatch => return Ok(Commit::Conflict),
                AttemptOutcome::Conflict => {}
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

fn committed(stamp: Stamp) -> Commit {
    Commit::Done { version: stamp.version(), stamp }
}

impl Shared {
    /// The version of the snapshot that a batch was decided on, if there is exactly one and
    /// the cluster has issued it.
    fn snapshot_version(&self, ranges: &Ranges<'_>) -> Option<i64> {
        let (since, _) = ranges.first_key_value().filter(|_| ranges.len() == 1)?;
        i64::try_from(since.0).ok().filter(|at| (1..=self.newest_version()).contains(at))
    }

    async fn prove(&self, ranges: &Ranges<'_>, lane: &mut LaneGuard) -> Result<RangeProof> {
        let mut reached: Option<i64> = None;
        for (since, ranges) in ranges {
            match self.unchanged_up_to(*since, ranges, lane).await? {
                Some(version) => reached = Some(reached.map_or(version, |least| least.min(version))),
                None => return Ok(RangeProof::Changed),
            }
        }
        Ok(RangeProof::UpTo(reached))
    }

    /// Returns a version up to which none of the ranges has changed. The transaction writes
    /// nothing, so an unknown outcome is simply retried.
    async fn unchanged_up_to(
        &self,
        since: Version,
        ranges: &[&Range],
        lane: &mut LaneGuard,
    ) -> Result<Option<i64>> {
        let mut attempt = 1;
        loop {
            let transaction = self.begin()?;
            // The commit fails if a range has changed after its read version.
            transaction.set_read_version(self.clamp_to_issued(since).await?);
            let mut checks = ranges.iter().map(|range| self.add_read_conflict(&transaction, range));
            checks.try_for_each(|check| check).map_err(call_error)?;
            lane.next_token(self).add_write_conflict(&transaction).map_err(call_error)?;
            let committed = transaction.commit().map_err(|error| *error);
            let error = match with_timeout(committed).await? {
                Ok(committed) => {
                    let version = committed.committed_version().map_err(call_error)?;
                    self.record_version(version);
                    return Ok(Some(version));
                }
                Err(error) => error,
            };
            match CommitFailure::from_error(error) {
                CommitFailure::Conflict => return Ok(None),
                CommitFailure::InvalidUse => return Err(call_error(error)),
                _ if attempt >= self.retries.attempts => return Err(call_error(error)),
                _ => self.retries.wait(attempt).await,
            }
            attempt += 1;
        }
    }

    /// Clamps `version` to versions that the cluster has reached; reading at a later one
    /// would fail.
    async fn clamp_to_issued(&self, version: Version) -> Result<i64> {
        let version = i64::try_from(version.0).unwrap_or(i64::MAX).max(1);
        if version > self.newest_version() {
            self.read_version(&self.begin()?).await?;
        }
        Ok(version.min(self.newest_version()))
    }
}
