//! A store whose runs change at any moment while a job works.

use std::sync::Arc;

use async_trait::async_trait;
use matyan_store::{
    Batch, Commit, Key, Result, Snapshot, Store, Transaction, Value, embedded::EmbeddedStore,
};
use tokio::sync::Mutex;

/// Pseudorandom numbers, which follow from a seed other than 0.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

/// The runs of a test, and the way in which the test changes them.
pub(crate) trait ChangingRuns: Send + Sized + 'static {
    fn random(&mut self) -> &mut Random;

    /// Changes a run.
    async fn change(&mut self, store: &ChangingStore<Self>);
}

/// A store whose runs change before its snapshots and commits.
pub(crate) struct ChangingStore<R> {
    /// The store, without changes.
    pub(crate) store: EmbeddedStore,
    pub(crate) known: Mutex<R>,
    _directory: tempfile::TempDir,
}

impl<R: ChangingRuns> ChangingStore<R> {
    pub(crate) async fn with_runs(known: R) -> Arc<Self> {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path(), Default::default()).await.unwrap();
        Arc::new(Self { store, known: Mutex::new(known), _directory: directory })
    }

    /// Changes no run most of the time, because a job has many transactions.
    async fn change_some(&self) {
        if self.known.lock().await.random().below(6) > 0 {
            return;
        }
        // On its own thread, because the futures of changes stay on their thread.
        let change = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut known = self.known.lock().await;
                known.change(self).await;
            });
        };
        std::thread::scope(|scope| scope.spawn(change).join()).unwrap();
    }

    pub(crate) async fn write(&self, mut decide: impl AsyncFnMut(&mut Transaction) -> Result<()>) {
        loop {
            let mut transaction = Transaction::new(self.store.snapshot().await.unwrap());
            decide(&mut transaction).await.unwrap();
            if let Commit::Done { .. } = self.store.commit(transaction.into_batch()).await.unwrap() {
                return;
            }
        }
    }
}

#[async_trait]
impl<R: ChangingRuns> Store for ChangingStore<R> {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        self.change_some().await;
        self.store.snapshot().await
    }

    async fn commit(&self, batch: Batch) -> Result<Commit> {
        self.change_some().await;
        self.store.commit(batch).await
    }

    async fn sync(&self) -> Result<()> {
        self.store.sync().await
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> Result<()> {
        self.store.changed(key, seen).await
    }

    fn clears_ranges_at_once(&self) -> bool {
        self.store.clears_ranges_at_once()
    }

    fn is_remote(&self) -> bool {
        self.store.is_remote()
    }
}
