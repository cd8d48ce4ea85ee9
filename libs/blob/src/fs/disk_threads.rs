//! Dedicated threads for the calls of a blob directory. A directory whose server hangs uses up these threads,
//! but none of the threads on which the process reads its store and its log.

use std::{io, sync::Arc};

use tokio::{
    runtime::{Builder, Runtime},
    sync::Semaphore,
};

use super::failure;
use crate::{Error, Result};

/// More than a disk can handle in parallel.
pub(super) const THREADS: usize = 16;

/// Runs blocking calls. Further callers wait until one of the threads is free.
pub(super) struct DiskThreads {
    /// Only its pool of blocking threads is used. Taken on drop.
    runtime: Option<Runtime>,
    free: Arc<Semaphore>,
}

impl DiskThreads {
    pub(super) fn new() -> io::Result<Self> {
        let runtime =
            Builder::new_current_thread().max_blocking_threads(THREADS).thread_name("blobs").build()?;
        Ok(Self { runtime: Some(runtime), free: Arc::new(Semaphore::new(THREADS)) })
    }

    /// Runs a call to its end, even if the caller gives up.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let free = self.free.clone().acquire_owned().await.expect("the semaphore is never closed");
        let runtime = self.runtime.as_ref().expect("taken only on drop");
        let call = runtime.spawn_blocking(move || {
            let _free = free;
            work()
        });
        match call.await {
            Ok(done) => done.map_err(|source| failure(doing, source)),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::unavailable("the process is shutting down")),
            },
        }
    }
}

/// A value whose drop may take long, such as the last handle of a large file that was removed.
pub(super) struct DroppedOnDisk<T: Send + 'static> {
    value: Option<T>,
    threads: Arc<DiskThreads>,
}

impl<T: Send + 'static> DroppedOnDisk<T> {
    pub(super) fn none(threads: Arc<DiskThreads>) -> Self {
        Self { value: None, threads }
    }

    pub(super) fn take(&mut self) -> Option<T> {
        self.value.take()
    }

    pub(super) fn set(&mut self, value: T) {
        self.value = Some(value);
    }
}

impl<T: Send + 'static> Drop for DroppedOnDisk<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take()
            && let Some(runtime) = &self.threads.runtime
        {
            runtime.spawn_blocking(move || drop(value));
        }
    }
}

impl Drop for DiskThreads {
    fn drop(&mut self) {
        // A call may hang for as long as its file system.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn rule_39_a_bounded_number_of_calls_is_made_at_a_time() {
        let threads = DiskThreads::new().unwrap();
        let running = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let (begun, begins) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        let ends = Arc::new(Mutex::new(ends));
        let calls = (0..4 * THREADS).map(|_| {
            let running = running.clone();
            let most = most.clone();
            let begun = begun.clone();
            let ends = ends.clone();
            threads.run("reading", move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                begun.send(()).unwrap();
                ends.lock().unwrap().recv().unwrap();
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            })
        });
        let mut calls = Box::pin(join_all(calls));
        assert!(futures::poll!(&mut calls).is_pending());
        for _ in 0..THREADS {
            begins.recv().unwrap();
        }
        for _ in 0..4 * THREADS {
            end.send(()).unwrap();
        }
        for done in calls.await {
            done.unwrap();
        }
        assert_eq!(most.load(Ordering::SeqCst), THREADS);
    }
}
