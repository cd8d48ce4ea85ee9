//! Work over large messages and files, off the async threads.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Work over more bytes leaves the async threads: decoding 256 KiB takes half a millisecond.
const LARGE_BYTES: usize = 256 << 10;

/// Maximum number of pieces of large work of a port at the same time, because their threads also serve reads
/// and uploads.
const MAX_LARGE: usize = 4;

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
        // The work continues if the caller leaves.
        run_apart(bytes, move || {
            let _permit = permit;
            work()
        })
        .await
    }
}

/// Runs work over `bytes` bytes that is bounded by other means, such as the size of a document.
pub async fn run_apart<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if bytes <= LARGE_BYTES {
        return work();
    }
    let task = tokio::task::spawn_blocking(work);
    task.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

#[cfg(test)]
mod tests {
    use std::thread;

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
}
