//! A snapshot for reads that may take longer than a snapshot lives: once it is too old, a newer one takes its place.
//!
//! Rows of several snapshots need not agree. That is enough for a plan: indexes only suggest runs, and the documents
//! decide.

use std::sync::Arc;

use matyan_store::{Error, Key, Page, Range, Result, Scan, Snapshot, Store, Value, Version};
use parking_lot::Mutex;

pub(crate) struct RenewedSnapshot {
    store: Arc<dyn Store>,
    current: Mutex<Arc<dyn Snapshot>>,
}

impl RenewedSnapshot {
    pub(crate) async fn open(store: Arc<dyn Store>) -> Result<Self> {
        let first = store.snapshot().await?;
        Ok(Self { store, current: Mutex::new(first.into()) })
    }

    /// The snapshot for several reads that must agree. Their result goes to `renew`.
    pub(crate) fn current(&self) -> Arc<dyn Snapshot> {
        self.current.lock().clone()
    }

    /// Takes a newer snapshot if a read says that the current one is too old. Any other result is returned.
    pub(crate) async fn renew<T>(&self, read: Result<T>) -> Result<Option<T>> {
        match read {
            Err(Error::SnapshotTooOld) => {
                let newer = self.store.snapshot().await?;
                *self.current.lock() = newer.into();
                Ok(None)
            }
            read => read.map(Some),
        }
    }
}

#[tonic::async_trait]
impl Snapshot for RenewedSnapshot {
    async fn get(&self, key: &Key) -> Result<Option<Value>> {
        let read = self.current().get(key).await;
        match self.renew(read).await? {
            Some(value) => Ok(value),
            None => self.current().get(key).await,
        }
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>> {
        let read = self.current().get_many(keys).await;
        match self.renew(read).await? {
            Some(values) => Ok(values),
            None => self.current().get_many(keys).await,
        }
    }

    async fn scan(&self, range: &Range, scan: Scan) -> Result<Page> {
        let read = self.current().scan(range, scan).await;
        match self.renew(read).await? {
            Some(page) => Ok(page),
            None => self.current().scan(range, scan).await,
        }
    }

    fn version(&self) -> Version {
        self.current().version()
    }
}
