//! The effects of commits not yet covered by a sync, so that they can be rewritten.
//!
//! An engine that is reopened after an error may have lost them. The list is bounded, because
//! the committer syncs when it grows long.

use std::collections::VecDeque;

use super::super::effects::Effects;
use crate::Version;

#[derive(Default)]
pub(super) struct UnsyncedCommits {
    commits: VecDeque<(Version, Effects)>,
    bytes: usize,
}

impl UnsyncedCommits {
    pub(super) fn push(&mut self, version: Version, effects: Effects) -> &Effects {
        self.bytes += effects.bytes();
        self.commits.push_back((version, effects));
        &self.commits.back().expect("just pushed").1
    }

    pub(super) fn after(&self, version: Version) -> impl Iterator<Item = &(Version, Effects)> {
        self.commits.range(self.position_after(version)..)
    }

    /// Drops commits that must not be rewritten.
    pub(super) fn truncate_after(&mut self, version: Version) {
        self.commits.truncate(self.position_after(version));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn position_after(&self, version: Version) -> usize {
        self.commits.partition_point(|(commit, _)| *commit <= version)
    }
}
