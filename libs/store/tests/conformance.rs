//! Runs the suite on the embedded store and on a real FoundationDB, each with and without the
//! fault layer, and tests of the embedded store that start this program as a child process.

#[path = "conformance/durability.rs"]
mod durability;
#[cfg(feature = "fdb")]
#[path = "conformance/fdb.rs"]
mod fdb;
#[cfg(not(feature = "fdb"))]
#[path = "conformance/without_fdb.rs"]
mod fdb;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use libtest_mimic::Arguments;
use matyan_store::Store;
use matyan_store::conformance::{Instance, OpenInstance, Suite, trials};
use matyan_store::embedded::{EmbeddedStore, Settings};
use matyan_store::layers::{Faults, FaultyStore};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if durability::run_child(&arguments) {
        return ExitCode::SUCCESS;
    }
    let server = fdb::FdbServer::default();
    let mut trials = trials(&[
        Suite { name: "embedded", open: Ok(open(None)) },
        Suite { name: "embedded_slow", open: Ok(open(slow())) },
        Suite { name: "fdb", open: server.open(None) },
        Suite { name: "fdb_slow", open: server.open(slow()) },
    ]);
    trials.extend(durability::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn slow() -> Option<Faults> {
    Some(Faults::delays(1, Duration::from_millis(2)))
}

fn with_faults(faults: Option<&Faults>, store: Arc<dyn Store>) -> Arc<dyn Store> {
    match faults {
        Some(faults) => Arc::new(FaultyStore::new(store, faults.clone())),
        None => store,
    }
}

fn open(faults: Option<Faults>) -> OpenInstance {
    Arc::new(move || {
        let faults = faults.clone();
        Box::pin(async move {
            let directory = tempfile::tempdir().expect("a temporary directory can be created");
            let mut embedded = Embedded { directory, faults, advanced_ms: Arc::default(), opened: None };
            embedded.reopen().await;
            Box::new(embedded) as Box<dyn Instance>
        })
    })
}

struct Embedded {
    directory: tempfile::TempDir,
    faults: Option<Faults>,
    /// Milliseconds by which the store's clock was advanced.
    advanced_ms: Arc<AtomicU64>,
    opened: Option<Arc<EmbeddedStore>>,
}

#[async_trait]
impl Instance for Embedded {
    fn store(&self) -> Arc<dyn Store> {
        with_faults(self.faults.as_ref(), self.opened.clone().expect("the store is open"))
    }

    async fn reopen(&mut self) {
        self.close().await;
        let start = Instant::now();
        let advanced_ms = self.advanced_ms.clone();
        let clock = Arc::new(move || start + Duration::from_millis(advanced_ms.load(Ordering::SeqCst)));
        let store = EmbeddedStore::open_with_clock(self.directory.path(), Settings::default(), clock).await;
        self.opened = Some(Arc::new(store.expect("the store opens")));
    }

    async fn advance_time(&self, time: Duration) {
        self.advanced_ms
            .fetch_add(u64::try_from(time.as_millis()).expect("the duration is short"), Ordering::SeqCst);
    }

    async fn close(&mut self) {
        if let Some(store) = self.opened.take() {
            store.close().await.expect("the store closes");
        }
    }
}
