//! Threads for the clients of a load. In a network, such clients have their own processors. Here they share
//! the processors with the server and the measuring client, so they only run on processors that these leave
//! idle.

use std::{future::Future, sync::LazyLock};

use matyan_backend::run_on_idle_cores;
use tokio::runtime::{Builder, Runtime};

static THREADS: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    builder.enable_all().on_thread_start(run_on_idle_cores).build().expect("the system has threads")
});

/// Starts a load: the tasks that `start` spawns run on these threads.
pub(crate) fn start<T>(start: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| THREADS.block_on(start))
}
