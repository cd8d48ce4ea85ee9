//! A store that counts how many documents are read, and lets scans of a range wait.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use matyan_model::keys;
use matyan_store::{
    Batch, Commit, Key, Page, Range, Result, Scan, Snapshot, Store, Value, Version, embedded::EmbeddedStore,
};
use tokio::sync::watch;

use crate::harness::{Harness, P};

/// The test's side of the store.
#[derive(Clone)]
pub(crate) struct Observer {
    documents: Arc<AtomicU64>,
    /// Scans of this range wait.
    closed: watch::Sender<Option<Range>>,
    /// Number of scans that wait.
    waiting: watch::Sender<u64>,
}

struct ObservedStore {
    store: Arc<EmbeddedStore>,
    observer: Observer,
}

struct ObservedSnapshot {
    snapshot: Box<dyn Snapshot>,
    observer: Observer,
}

/// A harness whose store is observed.
pub(crate) async fn observed() -> (Harness, Observer) {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path().join("store"), Default::default()).await.unwrap();
    let observer = Observer {
        documents: Arc::default(),
        closed: watch::Sender::new(None),
        waiting: watch::Sender::new(0),
    };
    let store = Arc::new(store);
    let layer = Arc::new(ObservedStore { store: store.clone(), observer: observer.clone() });
    (Harness::over(store, layer, directory).await, observer)
}

impl Observer {
    /// Number of documents read so far.
    pub(crate) fn documents(&self) -> u64 {
        self.documents.load(Ordering::Relaxed)
    }

    /// Lets scans within a range wait until `open`.
    pub(crate) fn close(&self, range: Range) {
        self.closed.send_replace(Some(range));
    }

    pub(crate) fn open(&self) {
        self.closed.send_replace(None);
    }

    /// Returns once a scan waits.
    pub(crate) async fn waits(&self) {
        self.waiting.subscribe().wait_for(|waiting| *waiting > 0).await.unwrap();
    }

    fn count(&self, keys: impl IntoIterator<Item = Key>) {
        let documents = keys::documents(P);
        let read = keys.into_iter().filter(|key| documents.contains(key)).count();
        self.documents.fetch_add(read as u64, Ordering::Relaxed);
    }
}

#[async_trait]
impl Store for ObservedStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        let observer = self.observer.clone();
        Ok(Box::new(ObservedSnapshot { snapshot: self.store.snapshot().await?, observer }))
    }

    async fn commit(&self, batch: Batch) -> Result<Commit> {
        self.store.commit(batch).await
    }

    async fn sync(&self) -> Result<()> {
        self.store.sync().await
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> Result<()> {
        self.store.changed(key, seen).await
    }
}

#[async_trait]
impl Snapshot for ObservedSnapshot {
    async fn get(&self, key: &Key) -> Result<Option<Value>> {
        self.observer.count([key.clone()]);
        self.snapshot.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>> {
        self.observer.count(keys.to_vec());
        self.snapshot.get_many(keys).await
    }

    async fn scan(&self, range: &Range, scan: Scan) -> Result<Page> {
        let is_open = |closed: &Option<Range>| {
            closed.as_ref().is_none_or(|closed| range.start < closed.start || range.end > closed.end)
        };
        let mut closed = self.observer.closed.subscribe();
        if !is_open(&closed.borrow()) {
            self.observer.waiting.send_modify(|waiting| *waiting += 1);
            closed.wait_for(is_open).await.unwrap();
            self.observer.waiting.send_modify(|waiting| *waiting -= 1);
        }
        let page = self.snapshot.scan(range, scan).await?;
        self.observer.count(page.rows.iter().map(|(key, _)| key.clone()));
        Ok(page)
    }

    fn version(&self) -> Version {
        self.snapshot.version()
    }
}
