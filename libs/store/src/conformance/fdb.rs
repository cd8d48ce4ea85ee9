//! Stores on a FoundationDB server of the tests' own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use matyan_servers::foundationdb::{Cluster, Engine};

use crate::Prefix;
use crate::fdb::{FdbStore, Network, Retries, Settings};

/// Settings of a store that shares nothing with any other.
pub fn settings(cluster: &Cluster) -> Settings {
    static STORES: AtomicU64 = AtomicU64::new(0);
    // As long as it may be, so that limits hold for every prefix.
    let prefix = Prefix::new(&format!("test{:028}", STORES.fetch_add(1, Ordering::Relaxed)));
    Settings {
        cluster_file: cluster.file(),
        prefix: prefix.expect("it is plain, and has 32 bytes"),
        retries: Retries::default(),
    }
}

/// A store that shares nothing with any other.
pub async fn open_on(cluster: &Cluster, network: &Network) -> FdbStore {
    FdbStore::open(network, settings(cluster)).await.expect("the store opens")
}

/// The server and the network of a test program that has no end of its own at which to stop them.
struct Running {
    cluster: Cluster,
    network: Network,
}

static RUNNING: Mutex<Option<Arc<Running>>> = Mutex::new(None);

/// A store that shares nothing with any other, on a server that all tests of the program share.
pub async fn open() -> FdbStore {
    let running = running();
    let store = open_on(&running.cluster, &running.network).await;
    stop_at_exit();
    store
}

fn running() -> Arc<Running> {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let start = || {
        Arc::new(Running {
            cluster: Cluster::start(Engine::Memory),
            network: Network::start().expect("it starts once"),
        })
    };
    running.get_or_insert_with(start).clone()
}

/// What is registered last is done first: so each store that is opened registers it anew, behind what the client has made in the
/// meantime and would lose before.
fn stop_at_exit() {
    #[expect(unsafe_code, reason = "the C library's own function, given one that does not unwind")]
    let refused = unsafe { atexit(stop) };
    assert_eq!(refused, 0, "nothing could be done at the end");
}

#[expect(unsafe_code, reason = "of the C library that every program has")]
unsafe extern "C" {
    fn atexit(at_exit: extern "C" fn()) -> std::ffi::c_int;
}

/// The client must not run any more when the program is taken down around it. It is stopped by a thread of its own: what the
/// client keeps for the one that ends is gone by now.
extern "C" fn stop() {
    let taken = || drop(RUNNING.lock().unwrap_or_else(PoisonError::into_inner).take());
    // One that fails has said so.
    let _ = std::thread::spawn(taken).join();
}
