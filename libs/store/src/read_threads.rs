//! The threads on which reads may wait for the disk.

use std::cell::RefCell;

use tokio::{runtime::Handle, task::JoinHandle};

thread_local! {
    static RUNTIME: RefCell<Option<Handle>> = const { RefCell::new(None) };
}

/// Runs `work`. Reads that it starts may wait for the disk on blocking threads of `runtime`, instead of the current
/// runtime: those threads may have a priority of their own.
pub fn with_reads_on<T>(runtime: &Handle, work: impl FnOnce() -> T) -> T {
    let _previous = PreviousRuntime(RUNTIME.replace(Some(runtime.clone())));
    work()
}

/// The runtime that was set before. It is restored on drop.
struct PreviousRuntime(Option<Handle>);

impl Drop for PreviousRuntime {
    fn drop(&mut self) {
        RUNTIME.set(self.0.take());
    }
}

/// Runs part of a read that may wait for the disk.
pub(crate) fn spawn_read<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match RUNTIME.with_borrow(Clone::clone) {
        Some(runtime) => runtime.spawn_blocking(read),
        None => tokio::task::spawn_blocking(read),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tokio::runtime::Builder;

    use super::*;

    #[tokio::test]
    async fn reads_wait_on_the_threads_of_the_runtime() {
        let runtime = |name: &str| Builder::new_current_thread().thread_name(name).build().unwrap();
        let outer = runtime("outer");
        let inner = runtime("inner");
        let name = || thread::current().name().map(str::to_owned);
        let reads = with_reads_on(outer.handle(), || {
            let within = with_reads_on(inner.handle(), || spawn_read(name));
            [within, spawn_read(name)]
        });
        for (read, expected) in reads.into_iter().zip(["inner", "outer"]) {
            assert_eq!(read.await.unwrap().as_deref(), Some(expected));
        }
        let elsewhere = spawn_read(name).await.unwrap();
        assert!(!["inner", "outer"].map(str::to_owned).map(Some).contains(&elsewhere));
        for runtime in [outer, inner] {
            runtime.shutdown_background();
        }
    }
}
