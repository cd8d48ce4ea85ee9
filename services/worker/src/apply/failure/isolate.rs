//! Narrows a failure down to the item that causes it: an attempt takes fewer items after each failure, until
//! the item that fails alone is parked.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use matyan_model::{
    keys::{RowOwner, row_owner},
    run::run_id_get,
};
use matyan_store::{Error, Key};

use crate::{
    apply::{apply_failure::ApplyFailure, run_key::RunKey},
    deps::Deps,
    record::panic_text,
};

/// Mode of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AttemptMode {
    /// Applies at most this many items.
    Apply { items: u32 },
    /// Parks the first item for this reason, then ends. If `digest_only`, only the digest of
    /// the item is kept.
    Park { reason: String, digest_only: bool },
}

impl AttemptMode {
    /// Mode of a writer without failures.
    pub(crate) const UNLIMITED: Self = Self::Apply { items: u32::MAX };

    /// Maximum number of items of the attempt.
    pub(crate) fn max_items(&self) -> u32 {
        match self {
            Self::Apply { items } => *items,
            Self::Park { .. } => 1,
        }
    }

    /// The mode after a success: more items than before.
    pub(crate) fn widened(&self) -> Self {
        match self {
            Self::Apply { items } => Self::Apply { items: items.saturating_mul(2) },
            Self::Park { .. } => Self::Apply { items: 1 },
        }
    }

    /// The mode after a failure that waiting cannot fix, with this many items queued: half as
    /// many items, then parking the item that failed alone, and finally keeping only the
    /// digest of the item. `None` means to wait; an item that stays slow puts its run in quarantine.
    pub(crate) fn narrowed(&self, failure: &ApplyFailure, queued: u64) -> Option<Self> {
        match (self, failure) {
            (_, ApplyFailure::Store(_) | ApplyFailure::Conflict) => None,
            (Self::Apply { items }, _) if *items > 1 => {
                let tried = queued.min(u64::from(*items)) as u32;
                Some(Self::Apply { items: (tried / 2).max(1) })
            }
            (Self::Apply { .. }, ApplyFailure::Poison(reason)) => {
                Some(Self::Park { reason: reason.clone(), digest_only: false })
            }
            (Self::Park { reason, digest_only: false }, ApplyFailure::Poison(_)) => {
                Some(Self::Park { reason: reason.clone(), digest_only: true })
            }
            (Self::Park { digest_only: true, .. }, ApplyFailure::Poison(_)) | (_, ApplyFailure::Slow) => None,
        }
    }
}

/// Consecutive attempts at a single item that outlasted their snapshots while other runs were applied. If no
/// other run is applied, the store is slow, and not the item.
#[derive(Default)]
pub(crate) struct SlowAttempts {
    count: u32,
    /// Transactions of all runs before the last slow attempt.
    commits: Option<u64>,
}

impl SlowAttempts {
    /// Adds an attempt that was made after this many transactions of all runs.
    pub(crate) fn add(&mut self, commits: u64) {
        if self.commits != Some(commits) {
            self.count += 1;
        }
        self.commits = Some(commits);
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }
}

/// Makes a panic a failure of the items like any other.
pub(crate) async fn catch_panic<T>(
    work: impl Future<Output = Result<T, ApplyFailure>>,
) -> Result<T, ApplyFailure> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| {
        Err(ApplyFailure::Poison(format!("applying the item panicked: {}", panic_text(&*panic))))
    })
}

/// Makes damage of a row that other runs share a failure of the items that need the row: the run itself is
/// not damaged.
pub(crate) async fn isolate_damage(deps: &Deps, run: &RunKey, failure: ApplyFailure) -> ApplyFailure {
    let ApplyFailure::Store(Error::Corrupt { key, reason, source }) = failure else { return failure };
    let is_own = is_own_row(deps, run, key.as_ref()).await;
    let damage = Error::Corrupt { key, reason, source };
    match is_own {
        Ok(true) => ApplyFailure::Store(damage),
        Ok(false) => ApplyFailure::Poison(damage.to_string()),
        Err(error) => error.into(),
    }
}

/// Whether a row that cannot be decoded belongs to this run, and to no other.
async fn is_own_row(deps: &Deps, run: &RunKey, key: Option<&Key>) -> Result<bool, Error> {
    let Some(key) = key else { return Ok(true) };
    match row_owner(key) {
        RowOwner::Shared => Ok(false),
        RowOwner::RunId(id) => Ok(id == run.id),
        RowOwner::Number(number) => {
            let snapshot = deps.store.snapshot().await?;
            match run_id_get(&*snapshot, run.project, number).await {
                Ok(id) => Ok(id.is_none_or(|id| id == run.id)),
                Err(Error::Corrupt { .. }) => Ok(true),
                Err(error) => Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_item_is_isolated_then_parked_then_reduced_to_its_digest() {
        let poison = ApplyFailure::Poison("bad".into());
        let mut modes = vec![AttemptMode::UNLIMITED];
        while let Some(narrower) = modes.last().and_then(|mode| mode.narrowed(&poison, 9)) {
            modes.push(narrower);
        }
        let apply = |items| AttemptMode::Apply { items };
        let park = |digest_only| AttemptMode::Park { reason: "bad".into(), digest_only };
        assert_eq!(modes, [apply(u32::MAX), apply(4), apply(2), apply(1), park(false), park(true)]);
        assert_eq!(park(true).widened(), apply(1));
        assert_eq!(apply(3).widened(), apply(6));
    }

    #[test]
    fn slow_items_are_halved_but_never_parked() {
        let narrowed = |items| AttemptMode::Apply { items }.narrowed(&ApplyFailure::Slow, 100);
        assert_eq!(narrowed(40), Some(AttemptMode::Apply { items: 20 }));
        assert_eq!(narrowed(1), None);
        assert_eq!(AttemptMode::UNLIMITED.narrowed(&ApplyFailure::Conflict, 100), None);
    }
}
