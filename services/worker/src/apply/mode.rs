//! Modes of an attempt: how many items it takes, and what it does with them.

use super::ApplyFailure;

/// Mode of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AttemptMode {
    /// Applies at most this many items.
    Apply { items: u32 },
    /// Parks the first item for this reason, then ends. If `digest_only`, only the digest of
    /// the item is kept.
    Park { reason: String, digest_only: bool },
}

impl AttemptMode {
    /// Mode of a writer without failures.
    pub(super) const UNLIMITED: Self = Self::Apply { items: u32::MAX };

    /// Maximum number of items of the attempt.
    pub(super) fn max_items(&self) -> u32 {
        match self {
            Self::Apply { items } => *items,
            Self::Park { .. } => 1,
        }
    }

    /// The mode after a success: more items again.
    pub(super) fn widened(&self) -> Self {
        match self {
            Self::Apply { items } => Self::Apply { items: items.saturating_mul(2) },
            Self::Park { .. } => Self::Apply { items: 1 },
        }
    }

    /// The mode after a failure that waiting cannot fix, with this many items queued: half as
    /// many items, then parking the item that failed alone, and finally keeping only its
    /// digest. `None` means to wait; an item that stays slow puts its run in quarantine.
    pub(super) fn narrowed(&self, failure: &ApplyFailure, queued: u64) -> Option<Self> {
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
