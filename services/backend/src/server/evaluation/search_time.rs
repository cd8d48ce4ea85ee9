//! The time that a search has used on the threads of queries, which decides on its turns.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::task::futures::TaskLocalFuture;

/// Time after which a search is no longer new.
const NEW: Duration = Duration::from_millis(20);

tokio::task_local! {
    static CURRENT: SearchTime;
}

/// The time of a search. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct SearchTime {
    nanoseconds: Arc<AtomicU64>,
}

impl SearchTime {
    /// The time of the search that the current task works on. Work of no search comes after new searches, and before
    /// larger ones.
    pub(crate) fn current() -> Self {
        CURRENT.try_get().unwrap_or_else(|_| {
            let other = Self::default();
            other.add(NEW);
            other
        })
    }

    /// Work of this search.
    pub(crate) fn of<F: Future>(self, work: F) -> TaskLocalFuture<Self, F> {
        CURRENT.scope(self, work)
    }

    /// Runs work of this search on the current thread.
    pub(super) fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), work)
    }

    /// Runs a slice, and adds its processor time.
    pub(super) fn measure<T>(&self, slice: impl FnOnce() -> T) -> T {
        let begun = thread_time();
        let done = slice();
        self.add(thread_time().saturating_sub(begun));
        done
    }

    pub(super) fn used(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed))
    }

    pub(super) fn is_new(&self) -> bool {
        self.used() < NEW
    }

    pub(super) fn add(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

/// Time for which the current thread has run.
#[cfg(unix)]
pub(super) fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a thread uses no negative time")
}

/// Elsewhere, the time for which a thread waits counts as well.
#[cfg(not(unix))]
pub(super) fn thread_time() -> Duration {
    use std::{sync::LazyLock, time::Instant};

    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGUN.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_work_of_a_search_counts_together() {
        let search = SearchTime::default();
        let work = async {
            let current = SearchTime::current();
            current.add(NEW / 2);
            current.enter(|| SearchTime::current().add(NEW / 4));
        };
        search.clone().of(work).await;
        assert_eq!(search.used(), NEW * 3 / 4);
        assert!(search.is_new());
        search.measure(|| {
            while search.is_new() {
                search.add(NEW / 4);
            }
        });
        assert!(search.used() >= NEW);
        let other = SearchTime::current();
        assert!(!other.is_new());
        assert_eq!(other.used(), NEW);
    }
}
