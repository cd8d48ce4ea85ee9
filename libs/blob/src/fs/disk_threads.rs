//! Dedicated threads for the calls of a blob directory. A directory whose server hangs uses up these threads,
//! but none of the threads on which the process reads its store and its log.

use std::{
    io,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use tokio::{
    runtime::{Builder, Runtime},
    sync::Semaphore,
};

use super::failure;
use crate::{Error, Result};

/// Enough to keep any disk busy.
pub(super) const THREADS: usize = 16;

/// Runs blocking calls. Further callers wait until one of the threads is free.
pub(super) struct DiskThreads {
    /// Only its pool of blocking threads is used. Taken on drop.
    runtime: Option<Runtime>,
    /// A permit for each thread. Calls wait for one, and not in the queue of the runtime: there, a call would stay whose
    /// caller has given up. Only values to be dropped are put there without a permit.
    free: Arc<Semaphore>,
}

impl DiskThreads {
    pub(super) fn new() -> io::Result<Self> {
        let runtime =
            Builder::new_current_thread().max_blocking_threads(THREADS).thread_name("blobs").build()?;
        Ok(Self { runtime: Some(runtime), free: Arc::new(Semaphore::new(THREADS)) })
    }

    /// Waits for a free thread, and then runs a call on it. The call runs to its end even if the caller gives up. What the call
    /// holds or returns is then dropped where the caller runs, so it holds files in a `DroppedOnDiskThread`.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let free = self.free.clone().acquire_owned().await.expect("the semaphore is never closed");
        let runtime = self.runtime.as_ref().expect("taken only on drop");
        let call = runtime.spawn_blocking(move || {
            let _free = free;
            work()
        });
        match call.await {
            Ok(done) => done.map_err(|source| failure(action, source)),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::unavailable("the process is shutting down")),
            },
        }
    }
}

/// A value that is dropped on a disk thread, because that may take long: closing the last handle of a removed file frees
/// its blocks, and an incomplete draft removes its file.
pub(super) struct DroppedOnDiskThread<T: Send + 'static> {
    /// Taken by `into_inner` and on drop.
    value: Option<T>,
    threads: Arc<DiskThreads>,
}

impl<T: Send + 'static> DroppedOnDiskThread<T> {
    pub(super) fn new(value: T, threads: Arc<DiskThreads>) -> Self {
        Self { value: Some(value), threads }
    }

    /// The value, for a call on a disk thread.
    pub(super) fn into_inner(mut self) -> T {
        self.value.take().expect(HELD)
    }
}

const HELD: &str = "the value is taken only at the end";

impl<T: Send + 'static> Deref for DroppedOnDiskThread<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect(HELD)
    }
}

impl<T: Send + 'static> DerefMut for DroppedOnDiskThread<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect(HELD)
    }
}

impl<T: Send + 'static> Drop for DroppedOnDiskThread<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            let runtime = self.threads.runtime.as_ref().expect("taken only on drop");
            runtime.spawn_blocking(move || drop(value));
        }
    }
}

impl Drop for DiskThreads {
    fn drop(&mut self) {
        // Calls are not waited for: they may hang for as long as the file system does.
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
        let max_running = Arc::new(AtomicUsize::new(0));
        let (start, started) = mpsc::channel();
        let (end, may_end) = mpsc::channel::<()>();
        let may_end = Arc::new(Mutex::new(may_end));
        let calls = (0..4 * THREADS).map(|_| {
            let running = running.clone();
            let max_running = max_running.clone();
            let start = start.clone();
            let may_end = may_end.clone();
            threads.run("reading", move || {
                max_running.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                start.send(()).unwrap();
                may_end.lock().unwrap().recv().unwrap();
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            })
        });
        let mut calls = Box::pin(join_all(calls));
        assert!(futures::poll!(&mut calls).is_pending());
        for _ in 0..THREADS {
            started.recv().unwrap();
        }
        for _ in 0..4 * THREADS {
            end.send(()).unwrap();
        }
        for done in calls.await {
            done.unwrap();
        }
        assert_eq!(max_running.load(Ordering::SeqCst), THREADS);
    }

    /// Reports the thread on which it is dropped.
    struct Draft(mpsc::Sender<Option<String>>);

    impl Drop for Draft {
        fn drop(&mut self) {
            self.0.send(std::thread::current().name().map(str::to_owned)).unwrap();
        }
    }

    #[tokio::test]
    async fn rule_39_what_a_waiting_call_holds_is_dropped_on_these_threads() {
        let threads = Arc::new(DiskThreads::new().unwrap());
        let (drafts, dropped) = mpsc::channel();
        let gates: Vec<_> = (0..THREADS).map(|_| mpsc::channel::<()>()).collect();
        let mut ends = Vec::new();
        let hanging = gates.into_iter().map(|(end, may_end)| {
            ends.push(end);
            threads.run("reading", move || may_end.recv().map_err(io::Error::other))
        });
        let mut hanging = Box::pin(join_all(hanging));
        assert!(futures::poll!(&mut hanging).is_pending());
        let draft = DroppedOnDiskThread::new(Draft(drafts), threads.clone());
        let mut waiting = Box::pin(threads.run("writing", move || Ok(draft)));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(waiting);
        assert!(dropped.try_recv().is_err(), "no thread is free");
        for end in ends {
            end.send(()).unwrap();
        }
        for done in hanging.await {
            done.unwrap();
        }
        assert_eq!(dropped.recv().unwrap().as_deref(), Some("blobs"));
    }
}
