//! A store that counts how many documents and changes are read, and how much of params from a snapshot, lets
//! scans of a range wait, knows the threads that read documents and points, and has a project that changes while it is read.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use matyan_model::{change::change_put, ids::RunNumber, keys};
use matyan_store::{
    Batch, Commit, Error, Key, Page, Range, Result, Scan, Snapshot, Store, Value, Version,
    embedded::EmbeddedStore,
};
use tokio::sync::watch;

use crate::search::harness::{Harness, NOW_US, P};

/// The test's side of the store.
#[derive(Clone)]
pub(crate) struct Observer {
    documents: Arc<AtomicU64>,
    changes: Arc<AtomicU64>,
    /// Index rows read so far.
    index_rows: Arc<AtomicU64>,
    /// Most bytes of large params that were read from one snapshot.
    params_bytes: Arc<AtomicU64>,
    /// Names of the threads that read documents.
    document_readers: Arc<Mutex<BTreeSet<String>>>,
    /// Names of the threads that read points.
    point_readers: Arc<Mutex<BTreeSet<String>>>,
    /// Number of scans of changes that leave more changes to read.
    restless: Arc<AtomicU64>,
    /// Scans of this range wait.
    closed: watch::Sender<Option<Range>>,
    /// Number of scans that wait.
    waiting: watch::Sender<u64>,
    /// Scans that have waited fail.
    broken: Arc<AtomicBool>,
    /// Number of open snapshots.
    held: watch::Sender<u64>,
}

struct ObservedStore {
    store: Arc<EmbeddedStore>,
    observer: Observer,
}

struct ObservedSnapshot {
    store: Arc<EmbeddedStore>,
    snapshot: Box<dyn Snapshot>,
    observer: Observer,
    params_bytes: AtomicU64,
}

/// The runs with numbers up to this may have params that are observed.
pub(crate) const LARGE_RUNS: u64 = 24;

/// More changes than are read at a time.
pub(crate) const CHANGES: u64 = 10_001;

/// Changes of runs that no longer exist.
pub(crate) fn many_changes() -> Batch {
    let mut batch = Batch::default();
    for number in 0..CHANGES {
        change_put(&mut batch, P, RunNumber(1_000_000 + number), NOW_US, "");
    }
    batch
}

/// A harness whose store is observed.
pub(crate) async fn observed() -> (Harness, Observer) {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path().join("store"), Default::default()).await.unwrap();
    let observer = Observer {
        documents: Arc::default(),
        changes: Arc::default(),
        index_rows: Arc::default(),
        params_bytes: Arc::default(),
        document_readers: Arc::default(),
        point_readers: Arc::default(),
        restless: Arc::default(),
        closed: watch::Sender::new(None),
        waiting: watch::Sender::new(0),
        broken: Arc::default(),
        held: watch::Sender::new(0),
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

    /// Number of changes read so far.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Number of index rows read so far.
    pub(crate) fn index_rows(&self) -> u64 {
        self.index_rows.load(Ordering::Relaxed)
    }

    /// Returns the most bytes of large params that were read from one snapshot, and forgets them.
    pub(crate) fn take_params_bytes(&self) -> u64 {
        self.params_bytes.swap(0, Ordering::Relaxed)
    }

    /// Returns the names of the threads that read documents, and forgets them.
    pub(crate) fn take_document_readers(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.document_readers.lock().unwrap())
    }

    /// Returns the names of the threads that read points, and forgets them.
    pub(crate) fn take_point_readers(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.point_readers.lock().unwrap())
    }

    /// Adds `CHANGES` after each of the next scans of changes.
    pub(crate) fn change_after(&self, scans: u64) {
        self.restless.store(scans, Ordering::Relaxed);
    }

    /// Lets scans within a range wait until `open`.
    pub(crate) fn close(&self, range: Range) {
        self.closed.send_replace(Some(range));
    }

    /// Lets scans that wait, and later ones of the closed range, fail.
    pub(crate) fn fail_closed(&self) {
        self.broken.store(true, Ordering::Relaxed);
        self.closed.send_modify(|_| ());
    }

    pub(crate) fn open(&self) {
        self.closed.send_replace(None);
    }

    /// Returns once a scan waits.
    pub(crate) async fn waits(&self) {
        self.waiting.subscribe().wait_for(|waiting| *waiting > 0).await.unwrap();
    }

    /// Returns once this number of scans wait, and have the only open snapshots.
    pub(crate) async fn only_these_wait(&self, scans: u64) {
        self.waiting.subscribe().wait_for(|waiting| *waiting == scans).await.unwrap();
        self.held.subscribe().wait_for(|held| *held == scans).await.unwrap();
    }

    /// Returns once a scan that waits has the only open snapshot.
    pub(crate) async fn only_waits(&self) {
        self.waits().await;
        self.held.subscribe().wait_for(|held| *held == 1).await.unwrap();
    }

    fn count(&self, keys: impl IntoIterator<Item = Key>) {
        let documents = keys::documents(P);
        let changes = keys::changes(P);
        let indexes = keys::indexes(P);
        let thread = || std::thread::current().name().unwrap_or_default().to_owned();
        for key in keys {
            if documents.contains(&key) {
                self.documents.fetch_add(1, Ordering::Relaxed);
                self.document_readers.lock().unwrap().insert(thread());
            }
            self.changes.fetch_add(changes.contains(&key).into(), Ordering::Relaxed);
            self.index_rows.fetch_add(indexes.contains(&key).into(), Ordering::Relaxed);
            if (0..=LARGE_RUNS).any(|run| keys::blocks(P, RunNumber(run)).contains(&key)) {
                self.point_readers.lock().unwrap().insert(thread());
            }
        }
    }
}

#[async_trait]
impl Store for ObservedStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        let snapshot = self.store.snapshot().await?;
        let observer = self.observer.clone();
        let params_bytes = AtomicU64::default();
        observer.held.send_modify(|held| *held += 1);
        Ok(Box::new(ObservedSnapshot { store: self.store.clone(), snapshot, observer, params_bytes }))
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

    fn clears_ranges_at_once(&self) -> bool {
        self.store.clears_ranges_at_once()
    }

    fn is_remote(&self) -> bool {
        self.store.is_remote()
    }
}

impl Drop for ObservedSnapshot {
    fn drop(&mut self) {
        self.observer.held.send_modify(|held| *held -= 1);
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
            let is_broken = || self.observer.broken.load(Ordering::Relaxed);
            closed.wait_for(|closed| is_broken() || is_open(closed)).await.unwrap();
            self.observer.waiting.send_modify(|waiting| *waiting -= 1);
            if is_broken() {
                return Err(Error::unavailable("the store is gone"));
            }
        }
        let page = self.snapshot.scan(range, scan).await?;
        let is_left = |left: u64| left.checked_sub(1);
        if keys::changes(P).contains(&range.start)
            && self.observer.restless.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_left).is_ok()
        {
            self.store.commit(many_changes()).await?;
        }
        self.observer.count(page.rows.iter().map(|(key, _)| key.clone()));
        let is_params = |key: &Key| (0..=LARGE_RUNS).any(|run| keys::params(P, RunNumber(run)).contains(key));
        let large = page.rows.iter().filter(|(_, value)| value.len() > 1_000);
        let params = large.filter(|(key, _)| is_params(key));
        let bytes = params.map(|(_, value)| value.len() as u64).sum::<u64>();
        let bytes = bytes + self.params_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.observer.params_bytes.fetch_max(bytes, Ordering::Relaxed);
        Ok(page)
    }

    fn version(&self) -> Version {
        self.snapshot.version()
    }
}
