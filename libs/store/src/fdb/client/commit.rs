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

use super::attempt::{AttemptOutcome, CommitAttempts};
use super::cluster::Cluster;
use super::errors::{CommitFailure, call_error};
use super::retry::with_timeout;
use super::token::{LaneGuard, TokenLanes};
use crate::{Batch, Check, Commit, Error, Range, Result, Stamp, Version};

/// An attempt fails only if another writer changed a checked key since the proof, and the checks
/// held afterwards. That many failures in a row indicate extreme contention.
const MAX_ATTEMPTS: u32 = 1_000;

/// The ranges that a batch checks to be unchanged, by their `since` version.
type Ranges<'a> = BTreeMap<Version, Vec<&'a Range>>;

/// Knowledge about the ranges of a batch.
enum RangeProof {
    /// All are unchanged up to this version; `None` if there are no ranges, so any version
    /// will do.
    UpTo(Option<i64>),
    /// One has changed, or its version is too old to prove otherwise.
    Changed,
}

/// Commits a batch if all its checks hold.
pub(super) async fn commit(cluster: &Cluster, lanes: &TokenLanes, batch: &Batch) -> Result<Commit> {
    let ranges = ranges(batch);
    let mut attempts = CommitAttempts { cluster, batch, lane: lanes.acquire().await? };
    if let Some(at) = snapshot_version(cluster, &ranges)
        && let AttemptOutcome::Applied(stamp) = attempts.run(Some(at)).await?
    {
        return Ok(committed(stamp));
    }
    for _ in 0..MAX_ATTEMPTS {
        let RangeProof::UpTo(at) = prove(cluster, &ranges, &mut attempts.lane).await? else {
            return Ok(Commit::Conflict);
        };
        match attempts.run(at).await? {
            AttemptOutcome::Applied(stamp) => return Ok(committed(stamp)),
            AttemptOutcome::ValueMismatch => return Ok(Commit::Conflict),
            AttemptOutcome::Conflict => {}
        }
    }
    Err(Error::Contended { attempts: MAX_ATTEMPTS })
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

/// The version of the snapshot that a batch was decided on, if there is exactly one and
/// the cluster has issued it.
fn snapshot_version(cluster: &Cluster, ranges: &Ranges<'_>) -> Option<i64> {
    let (since, _) = ranges.first_key_value().filter(|_| ranges.len() == 1)?;
    i64::try_from(since.0).ok().filter(|at| (1..=cluster.newest_version()).contains(at))
}

async fn prove(cluster: &Cluster, ranges: &Ranges<'_>, lane: &mut LaneGuard) -> Result<RangeProof> {
    let mut reached: Option<i64> = None;
    for (since, ranges) in ranges {
        match unchanged_up_to(cluster, *since, ranges, lane).await? {
            Some(version) => reached = Some(reached.map_or(version, |least| least.min(version))),
            None => return Ok(RangeProof::Changed),
        }
    }
    Ok(RangeProof::UpTo(reached))
}

/// Returns a version up to which none of the ranges has changed. The transaction writes
/// nothing, so an unknown outcome is simply retried.
async fn unchanged_up_to(
    cluster: &Cluster,
    since: Version,
    ranges: &[&Range],
    lane: &mut LaneGuard,
) -> Result<Option<i64>> {
    let mut attempt = 1;
    loop {
        let transaction = cluster.begin()?;
        // The commit fails if a range has changed after its read version.
        transaction.set_read_version(clamp_to_issued(cluster, since).await?);
        let mut checks = ranges.iter().map(|range| cluster.add_read_conflict(&transaction, range));
        checks.try_for_each(|check| check).map_err(call_error)?;
        lane.next_token(&cluster.space).add_write_conflict(&transaction).map_err(call_error)?;
        let committed = transaction.commit().map_err(|error| *error);
        let error = match with_timeout(committed).await? {
            Ok(committed) => {
                let version = committed.committed_version().map_err(call_error)?;
                cluster.record_version(version);
                return Ok(Some(version));
            }
            Err(error) => error,
        };
        match CommitFailure::from_error(error) {
            CommitFailure::Conflict => return Ok(None),
            CommitFailure::InvalidUse => return Err(call_error(error)),
            _ if attempt >= cluster.retries.attempts => return Err(call_error(error)),
            _ => cluster.retries.wait(attempt).await,
        }
        attempt += 1;
    }
}

/// Clamps `version` to versions that the cluster has reached; reading at a later one
/// would fail.
async fn clamp_to_issued(cluster: &Cluster, version: Version) -> Result<i64> {
    let version = i64::try_from(version.0).unwrap_or(i64::MAX).max(1);
    if version > cluster.newest_version() {
        cluster.read_version(&cluster.begin()?).await?;
    }
    Ok(version.min(cluster.newest_version()))
}
