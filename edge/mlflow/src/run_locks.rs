//! Locks that order the writes of a run. Whether a param or a point may be stored depends on the stored data.
//! So a write reads, decides, and writes, and no other write of this process may come between. Runs never
//! wait for each other: each run has its own lock, which exists while requests hold it or wait for it. Runs
//! of two projects may have the same id.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::error::{ErrorCode, MlflowError, Result};

/// Requests of one run that write or wait. Further requests are refused, and their clients repeat them.
const REQUESTS_PER_RUN: usize = 1_024;

/// The locks of the runs of all projects that are being written.
#[derive(Debug, Default)]
pub(crate) struct RunLocks {
    runs: Mutex<HashMap<Arc<RunKey>, RunLock>>,
}

/// The locks of the runs of one project.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProjectRunLocks<'l> {
    all: &'l RunLocks,
    /// Empty for the default project.
    project: &'l str,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct RunKey {
    project: String,
    run_id: String,
}

#[derive(Debug, Default)]
struct RunLock {
    lock: Arc<tokio::sync::Mutex<()>>,
    /// Requests that hold the lock or wait for it.
    requests: usize,
}

/// The right to write to a run.
#[derive(Debug)]
pub(crate) struct RunGuard<'l> {
    // Declared before the registration, and so dropped first: a lock is only removed once it is free.
    _held: OwnedMutexGuard<()>,
    _registration: Registration<'l>,
}

/// A request that is counted for its run.
#[derive(Debug)]
struct Registration<'l> {
    locks: &'l RunLocks,
    run: Arc<RunKey>,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let mut runs = self.locks.runs.lock();
        let Some(run) = runs.get_mut(&self.run) else { return };
        run.requests -= 1;
        if run.requests == 0 {
            runs.remove(&self.run);
        }
    }
}

impl RunLocks {
    /// The locks of the runs of a project.
    pub(crate) fn of_project<'l>(&'l self, project: &'l str) -> ProjectRunLocks<'l> {
        ProjectRunLocks { all: self, project }
    }
}

impl<'l> ProjectRunLocks<'l> {
    /// Waits until no other write of the run is in progress.
    pub(crate) async fn lock(self, run_id: &str) -> Result<RunGuard<'l>> {
        let (lock, registration) = self.register(run_id)?;
        Ok(RunGuard { _held: lock.lock_owned().await, _registration: registration })
    }

    fn register(self, run_id: &str) -> Result<(Arc<tokio::sync::Mutex<()>>, Registration<'l>)> {
        let key = Arc::new(RunKey { project: self.project.to_owned(), run_id: run_id.to_owned() });
        let mut runs = self.all.runs.lock();
        let run = runs.entry(Arc::clone(&key)).or_default();
        if run.requests >= REQUESTS_PER_RUN {
            return Err(MlflowError::new(
                ErrorCode::TemporarilyUnavailable,
                format!(
                    "{REQUESTS_PER_RUN} requests are writing to the run {run_id}: try again, or log in batches"
                ),
            ));
        }
        run.requests += 1;
        let registration = Registration { locks: self.all, run: key };
        Ok((Arc::clone(&run.lock), registration))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn rule_40_a_stuck_run_delays_no_other() {
        let all = RunLocks::default();
        let locks = all.of_project("");
        let _stuck = locks.lock("stuck").now_or_never().unwrap().unwrap();
        assert!(locks.lock("stuck").now_or_never().is_none());
        for other in 0..20_000 {
            let guard = locks.lock(&other.to_string()).now_or_never();
            assert!(guard.is_some(), "run {other} waits for another run");
        }
        let same_id = all.of_project("speech").lock("stuck").now_or_never();
        assert!(same_id.is_some(), "a run waits for a run of another project");
        drop(same_id);
        assert_eq!(all.runs.lock().len(), 1, "locks without requests are removed");
    }

    #[test]
    fn requests_of_a_run_wait_in_a_bounded_queue() {
        let all = RunLocks::default();
        let locks = all.of_project("");
        let held = locks.lock("r").now_or_never().unwrap().unwrap();
        let mut waiting: Vec<_> = (1..REQUESTS_PER_RUN).map(|_| Box::pin(locks.lock("r"))).collect();
        assert!(waiting.iter_mut().all(|request| request.as_mut().now_or_never().is_none()));
        let refused = locks.lock("r").now_or_never().unwrap().unwrap_err();
        assert_eq!(refused.code, ErrorCode::TemporarilyUnavailable);
        // A client that disconnects leaves the queue.
        waiting.truncate(1);
        drop(held);
        let next = waiting[0].as_mut().now_or_never().unwrap().unwrap();
        drop((next, waiting));
        assert!(all.runs.lock().is_empty());
    }
}
