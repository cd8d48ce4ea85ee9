//! Locks that order the writes of a run. Whether a param or a point may be stored depends on what is there, so a
//! write reads, decides, and writes, and no other write of this process may come between.

use std::hash::{BuildHasher, RandomState};

use tokio::sync::{Mutex, MutexGuard};

/// Number of locks. Runs that share one wait for each other, which costs time and nothing else.
const LOCKS: usize = 512;

/// A fixed number of locks for any number of runs.
#[derive(Debug)]
pub(crate) struct RunLocks {
    locks: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl RunLocks {
    pub(crate) fn new() -> Self {
        Self { locks: (0..LOCKS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    /// Waits until no other write of the run is in progress.
    pub(crate) async fn lock(&self, run_id: &str) -> MutexGuard<'_, ()> {
        let at = usize::try_from(self.hasher.hash_one(run_id) % LOCKS as u64).unwrap_or_default();
        self.locks[at].lock().await
    }
}
