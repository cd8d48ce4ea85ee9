//! Files of a spool that wait for their upload: a bound on their bytes, and the number of files that
//! were lost.

use std::sync::atomic::{AtomicU64, Ordering};

/// Space that files use, in addition to the space of the records.
#[derive(Debug, Default)]
pub(crate) struct UploadSpace {
    used: AtomicU64,
    lost: AtomicU64,
}

impl UploadSpace {
    pub(crate) fn used(bytes: u64) -> Self {
        Self { used: AtomicU64::new(bytes), ..Self::default() }
    }

    /// Takes space for a file, given the limit and the free space of the file system. Returns false
    /// if there is none. Without other files, one may exceed the limit: it would wait for ever.
    pub(crate) fn take(&self, bytes: u64, limit: u64, free: u64) -> bool {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                let wanted = used.saturating_add(bytes);
                let is_within_limit = used == 0 || wanted <= limit;
                (is_within_limit && wanted <= free.saturating_add(used) / 5 * 4).then_some(wanted)
            })
            .is_ok()
    }

    /// Gives space back, when a file has been removed.
    pub(crate) fn give_back(&self, bytes: u64) {
        // It is never refused.
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(bytes)))
            .ok();
    }

    /// Counts a file that can never arrive.
    pub(crate) fn count_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_fit_into_the_limit_and_into_four_fifths_of_the_free_space() {
        let space = UploadSpace::default();
        assert!(space.take(600, 1_000, u64::MAX));
        assert!(!space.take(401, 1_000, u64::MAX));
        assert!(space.take(400, 1_000, u64::MAX));
        space.give_back(600);
        assert!(!space.take(401, 1_000, 600));
        assert!(space.take(400, 1_000, 600));
    }

    #[test]
    fn a_single_file_may_exceed_the_limit_but_not_the_free_space() {
        let space = UploadSpace::default();
        assert!(!space.take(5_000, 1_000, 5_000));
        assert!(space.take(5_000, 1_000, 10_000));
        assert!(!space.take(1, 1_000, 10_000));
        space.give_back(u64::MAX);
        assert!(space.take(1, 1_000, 10_000));
    }
}
