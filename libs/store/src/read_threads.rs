//! The threads on which reads may wait for the disk.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use tokio::sync::oneshot;

/// Threads for reads that may wait for the disk.
pub trait ReadThreads: Send + Sync {
    /// Runs a read, which was started on the current thread, on one of these threads.
    fn spawn(&self, read: Box<dyn FnOnce() + Send>);
}

thread_local! {
    static THREADS: RefCell<Option<Arc<dyn ReadThreads>>> = const { RefCell::new(None) };
}

/// Runs `work`. Reads that it starts may wait for the disk on `threads`, instead of blocking threads of the current
/// runtime: `threads` may have their own priority.
pub fn with_reads_on<T>(threads: &Arc<dyn ReadThreads>, work: impl FnOnce() -> T) -> T {
    let _previous = PreviousThreads(THREADS.replace(Some(threads.clone())));
    work()
}

/// The threads that were set before. They are restored on drop.
struct PreviousThreads(Option<Arc<dyn ReadThreads>>);

impl Drop for PreviousThreads {
    fn drop(&mut self) {
        THREADS.set(self.0.take());
    }
}

/// Runs part of a read that may wait for the disk, and sends its result, or its panic. Nothing is sent if the threads
/// end before.
pub(crate) fn spawn_read<T: Send + 'static>(
    read: impl FnOnce() -> T + Send + 'static,
) -> oneshot::Receiver<thread::Result<T>> {
    let (sender, receiver) = oneshot::channel();
    let read = move || {
        // Fails only if the caller has left.
        drop(sender.send(catch_unwind(AssertUnwindSafe(read))));
    };
    match THREADS.with_borrow(Clone::clone) {
        Some(threads) => threads.spawn(Box::new(read)),
        None => drop(tokio::task::spawn_blocking(read)),
    }
    receiver
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Handle, Runtime};

    use super::*;

    impl ReadThreads for Handle {
        fn spawn(&self, read: Box<dyn FnOnce() + Send>) {
            self.spawn_blocking(read);
        }
    }

    #[tokio::test]
    async fn reads_wait_on_the_threads_that_are_set() {
        let runtime = |name: &str| Builder::new_current_thread().thread_name(name).build().unwrap();
        let outer = runtime("outer");
        let inner = runtime("inner");
        let threads = |runtime: &Runtime| -> Arc<dyn ReadThreads> { Arc::new(runtime.handle().clone()) };
        let name = || thread::current().name().map(str::to_owned);
        let reads = with_reads_on(&threads(&outer), || {
            let within = with_reads_on(&threads(&inner), || spawn_read(name));
            [within, spawn_read(name)]
        });
        for (read, expected) in reads.into_iter().zip(["inner", "outer"]) {
            assert_eq!(read.await.unwrap().unwrap().as_deref(), Some(expected));
        }
        let elsewhere = spawn_read(name).await.unwrap().unwrap();
        assert!(!["inner", "outer"].map(str::to_owned).map(Some).contains(&elsewhere));
        for runtime in [outer, inner] {
            runtime.shutdown_background();
        }
    }
}
