//! The store of a process, embedded or FoundationDB, in a single value. Startup and shutdown steps
//! that only one of these stores needs are here.

use std::{path::PathBuf, sync::Arc, time::Duration};

use matyan_model::{format::format_open, keys};
use matyan_store::embedded::EmbeddedStore;
use matyan_store::fdb::{self, FdbStore};

use super::format_fence::FormatFence;
use crate::{settings, wire::Error};

/// Interval between attempts to watch the format while the store is not available.
const FORMAT_RETRY: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) enum Store {
    Embedded(Arc<EmbeddedStore>),
    Fdb {
        store: Arc<FdbStore>,
        /// The same store, for everything that is written.
        fenced: Arc<FormatFence>,
    },
}

/// Process-wide state of a store client. It is created before everything else and dropped after
/// it.
pub(crate) struct Network {
    fdb: Option<fdb::Network>,
}

impl Network {
    pub(crate) fn start(store: Option<&settings::Store>) -> Result<Self, Error> {
        let is_needed = matches!(store, Some(settings::Store::Fdb(_)));
        Ok(Self { fdb: is_needed.then(fdb::Network::start).transpose()? })
    }

    pub(crate) fn is_used(&self) -> bool {
        self.fdb.is_some()
    }
}

impl Store {
    pub(crate) async fn open(
        setting: &settings::Store,
        network: &Network,
        data_path: impl Fn(&str) -> PathBuf,
    ) -> Result<Self, Error> {
        match setting {
            settings::Store::Embedded => {
                let store = EmbeddedStore::open(data_path("store"), Default::default()).await?;
                format_open(&store).await?;
                Ok(Self::Embedded(Arc::new(store)))
            }
            settings::Store::Fdb(settings) => {
                let network = network.fdb.as_ref().expect("the network is started for a FoundationDB store");
                let store = Arc::new(FdbStore::open(network, settings.clone()).await?);
                let fenced = Arc::new(FormatFence::open(store.clone()).await?);
                Ok(Self::Fdb { store, fenced })
            }
        }
    }

    pub(crate) fn shared(&self) -> Arc<dyn matyan_store::Store> {
        match self {
            Self::Embedded(store) => store.clone(),
            Self::Fdb { fenced, .. } => fenced.clone(),
        }
    }

    /// Waits until the store ends unexpectedly. Cancel-safe.
    pub(super) async fn ended(&self) {
        match self {
            Self::Embedded(store) => store.ended().await,
            // Its thread belongs to the FoundationDB client.
            Self::Fdb { .. } => std::future::pending().await,
        }
    }

    /// Waits until another process has raised the store to a format that this program cannot read. From then
    /// on, this process would take new rows for damaged ones, so it writes nothing more: see `FormatFence`.
    /// Cancel-safe.
    pub(super) async fn format_raised(&self) -> matyan_store::Error {
        let store = self.shared();
        loop {
            match until_format_changes(&*store).await {
                Ok(()) => {}
                Err(error) if error.is_temporary() => tokio::time::sleep(FORMAT_RETRY).await,
                Err(error) => return error,
            }
        }
    }

    pub(crate) async fn close(&self) -> Result<(), Error> {
        match self {
            Self::Embedded(store) => store.close().await?,
            Self::Fdb { store, .. } => store.close().await,
        }
        Ok(())
    }
}

async fn until_format_changes(store: &dyn matyan_store::Store) -> matyan_store::Result<()> {
    let key = keys::format();
    let seen = store.snapshot().await?.get(&key).await?;
    // After reading the row, so that no change between the two is missed.
    format_open(store).await?;
    store.changed(&key, seen.as_ref()).await
}

#[cfg(test)]
mod tests {
    use matyan_store::{Batch, Commit, Store as _};

    use super::*;

    #[tokio::test]
    async fn rule_44_a_process_learns_that_its_store_was_raised() {
        let directory = tempfile::tempdir().unwrap();
        let embedded = Arc::new(EmbeddedStore::open(directory.path(), Default::default()).await.unwrap());
        format_open(&*embedded).await.unwrap();
        let store = Store::Embedded(embedded.clone());
        let mut raised = Box::pin(store.format_raised());
        assert!(futures::poll!(&mut raised).is_pending());
        let key = keys::format();
        let row = embedded.snapshot().await.unwrap().get(&key).await.unwrap().unwrap();
        let mut newer = row.to_vec();
        *newer.last_mut().unwrap() += 2;
        let mut batch = Batch::default();
        batch.set(key, newer);
        assert!(matches!(embedded.commit(batch).await.unwrap(), Commit::Done { .. }));
        let error = raised.await.to_string();
        assert!(error.contains("has format") && error.contains("newer"), "{error}");
        embedded.close().await.unwrap();
    }
}
