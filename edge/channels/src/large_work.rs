//! Work over large messages and files, off the async threads.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Work over more bytes leaves the async threads: decoding 256 KiB takes half a millisecond.
const LARGE_BYTES: usize = 256 << 10;

/// Maximum number of pieces of large work of a port at the same time, because their threads also serve reads
/// and uploads.
const MAX_LARGE: usize = 4;

/// Maximum number of pieces of large work of `run_apart` at the same time, in the process. The runtime would start a
/// thread for each of hundreds, and each may hold many times the size of a document.
const MAX_APART: usize = 16;

static APART: Semaphore = Semaphore::const_new(MAX_APART);

/// Limits the large work of a port. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LargeWork(Arc<Semaphore>);

impl Default for LargeWork {
    fn default() -> Self {
        Self::new()
    }
}

impl LargeWork {
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_LARGE)))
    }

    /// Runs work over `bytes` bytes.
    pub async fn run<T: Send + 'static>(&self, bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
        if bytes <= LARGE_BYTES {
            return work();
        }
        let permit = self.0.clone().acquire_owned().await.expect("the semaphore is never closed");
        on_other_thread(permit, work).await
    }
}

/// Runs work over `bytes` bytes whose caller has no `LargeWork`, such as reading a document.
pub async fn run_apart<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if bytes <= LARGE_BYTES {
        return work();
    }
    let permit = APART.acquire().await.expect("the semaphore is never closed");
    on_other_thread(permit, work).await
}

/// Runs work that holds a permit. The work continues if the caller leaves.
async fn on_other_thread<T: Send + 'static>(
    permit: impl Send + 'static,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let task = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work()
    });
    task.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tokio::sync::{RwLock, mpsc};

    use super::*;

    #[tokio::test]
    async fn only_large_work_leaves_the_thread() {
        let work = LargeWork::new();
        let here = thread::current().id();
        assert_eq!(work.run(LARGE_BYTES, || thread::current().id()).await, here);
        assert_ne!(work.run(LARGE_BYTES + 1, || thread::current().id()).await, here);
        assert_eq!(run_apart(LARGE_BYTES, || thread::current().id()).await, here);
        assert_ne!(run_apart(LARGE_BYTES + 1, || thread::current().id()).await, here);
    }

    #[tokio::test]
    async fn little_large_work_runs_apart_at_the_same_time() {
        let gate = Arc::new(RwLock::new(()));
        let closed = gate.write().await;
        let (starts, mut started) = mpsc::unbounded_channel();
        let works = (0..4 * MAX_APART).map(|_| {
            let gate = Arc::clone(&gate);
            let starts = starts.clone();
            run_apart(LARGE_BYTES + 1, move || {
                starts.send(()).unwrap();
                drop(gate.blocking_read());
            })
        });
        let mut works = Box::pin(futures::future::join_all(works));
        for _ in 0..MAX_APART {
            tokio::select! {
                _ = &mut works => panic!("work ends while it waits"),
                start = started.recv() => start.unwrap(),
            }
        }
        assert!(futures::poll!(works.as_mut()).is_pending());
        assert!(started.try_recv().is_err(), "more work runs apart");
        drop(closed);
        works.await;
    }
}
