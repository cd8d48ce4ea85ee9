//! Stores on a FoundationDB server dedicated to the tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use matyan_servers::foundationdb::{Cluster, Engine};
use parking_lot::Mutex;

use crate::Prefix;
use crate::fdb::{FdbStore, Network, Retries, Settings};

/// Settings of a store that is isolated from all others.
pub fn settings(cluster: &Cluster) -> Settings {
    static STORES: AtomicU64 = AtomicU64::new(0);
    // The longest possible prefix, so that limits are tested for every prefix.
    let prefix = Prefix::new(&format!("test{:028}", STORES.fetch_add(1, Ordering::Relaxed)));
    Settings {
        cluster_file: cluster.file(),
        prefix: prefix.expect("the prefix has 32 valid bytes"),
        retries: Retries::default(),
    }
}

/// Opens a store that is isolated from all others.
pub async fn open_on(cluster: &Cluster, network: &Network) -> FdbStore {
    FdbStore::open(network, settings(cluster)).await.expect("the store opens")
}

/// The server and the network, for a test program that has no place at its end to stop them.
struct RunningCluster {
    cluster: Cluster,
    network: Network,
}

static RUNNING: Mutex<Option<Arc<RunningCluster>>> = Mutex::new(None);

/// Opens a store that is isolated from all others, on a server shared by all tests of the
/// program.
pub async fn open() -> FdbStore {
    let running = running();
    let store = open_on(&running.cluster, &running.network).await;
    stop_at_exit();
    store
}

fn running() -> Arc<RunningCluster> {
    let mut running = RUNNING.lock();
    running
        .get_or_insert_with(|| {
            Arc::new(RunningCluster {
                cluster: Cluster::start(Engine::Memory),
                network: Network::start().expect("the network is started once"),
            })
        })
        .clone()
}

/// Registers `stop` to run at exit. Exit handlers run in reverse order of registration, so each
/// opened store registers it: `stop` must run before the client's own handlers, which the client
/// may have registered in the meantime.
fn stop_at_exit() {
    #[expect(unsafe_code, reason = "a C library function, called with a handler that does not unwind")]
    let refused = unsafe { atexit(stop_cluster) };
    assert_eq!(refused, 0, "failed to register the exit handler");
}

#[expect(unsafe_code, reason = "declares a function of the C standard library")]
unsafe extern "C" {
    fn atexit(at_exit: extern "C" fn()) -> std::ffi::c_int;
}

/// Stops the client, which must not run while the process is torn down. It is stopped on a new
/// thread, because the exiting thread's thread-local storage, which the client needs, is
/// already destroyed.
extern "C" fn stop_cluster() {
    // A thread that panicked has already printed why.
    let _ = std::thread::spawn(|| drop(RUNNING.lock().take())).join();
}
