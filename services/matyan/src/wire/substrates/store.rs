//! The store of a process, embedded or FoundationDB, as one value. Startup and shutdown steps
//! that only one of the two needs are here, as is the handling of builds without FoundationDB.

use std::{path::PathBuf, sync::Arc};

use matyan_model::format::format_open;
use matyan_store::embedded::EmbeddedStore;
#[cfg(feature = "fdb")]
use matyan_store::fdb::{self, FdbStore};

use crate::{
    settings::{self, Settings},
    wire::Error,
};

#[derive(Clone)]
pub(crate) enum Store {
    Embedded(Arc<EmbeddedStore>),
    #[cfg(feature = "fdb")]
    Fdb(Arc<FdbStore>),
}

/// Process-wide state of a store client. It is created before everything else and dropped after
/// it.
pub(crate) struct Network {
    #[cfg(feature = "fdb")]
    fdb: Option<fdb::Network>,
}

impl Network {
    #[cfg(feature = "fdb")]
    pub(crate) fn start(settings: &Settings) -> Result<Self, Error> {
        let is_needed =
            settings.role.has_store() && matches!(settings.storage.store, settings::Store::Fdb(_));
        Ok(Self { fdb: is_needed.then(fdb::Network::start).transpose()? })
    }

    #[cfg(feature = "fdb")]
    pub(crate) fn is_used(&self) -> bool {
        self.fdb.is_some()
    }

    #[cfg(not(feature = "fdb"))]
    #[expect(clippy::unused_self, reason = "same signature in every build")]
    pub(crate) fn is_used(&self) -> bool {
        false
    }

    #[cfg(not(feature = "fdb"))]
    #[expect(clippy::unnecessary_wraps, reason = "same signature in every build")]
    pub(crate) fn start(_settings: &Settings) -> Result<Self, Error> {
        Ok(Self {})
    }
}

impl Store {
    /// Opens the store. None if the process may not access state.
    pub(super) async fn open(
        settings: &Settings,
        #[cfg_attr(not(feature = "fdb"), expect(unused_variables, reason = "only used with FoundationDB"))]
        network: &Network,
        data_path: impl Fn(&str) -> PathBuf,
    ) -> Result<Option<Self>, Error> {
        if !settings.role.has_store() {
            return Ok(None);
        }
        let store = match &settings.storage.store {
            settings::Store::Embedded => {
                Self::Embedded(Arc::new(EmbeddedStore::open(data_path("store"), Default::default()).await?))
            }
            #[cfg(feature = "fdb")]
            settings::Store::Fdb(fdb) => {
                let network = network.fdb.as_ref().expect("the network is started for a FoundationDB store");
                Self::Fdb(Arc::new(FdbStore::open(network, fdb_settings(fdb)).await?))
            }
            #[cfg(not(feature = "fdb"))]
            settings::Store::Fdb(_) => unreachable!("the settings refuse backends that the build lacks"),
        };
        format_open(&*store.shared()).await?;
        Ok(Some(store))
    }

    pub(crate) fn shared(&self) -> Arc<dyn matyan_store::Store> {
        match self {
            Self::Embedded(store) => store.clone(),
            #[cfg(feature = "fdb")]
            Self::Fdb(store) => store.clone(),
        }
    }

    /// Waits until the store ends unexpectedly. Cancel-safe.
    pub(super) async fn ended(&self) {
        match self {
            Self::Embedded(store) => store.ended().await,
            // Its thread belongs to the FoundationDB client.
            #[cfg(feature = "fdb")]
            Self::Fdb(_) => std::future::pending().await,
        }
    }

    pub(super) async fn close(&self) -> Result<(), Error> {
        match self {
            Self::Embedded(store) => store.close().await?,
            #[cfg(feature = "fdb")]
            Self::Fdb(store) => store.close().await,
        }
        Ok(())
    }
}

#[cfg(feature = "fdb")]
fn fdb_settings(settings: &settings::Fdb) -> fdb::Settings {
    let settings::Fdb { cluster_file, prefix, attempts, first_delay, longest_delay } = settings.clone();
    let retries = fdb::Retries { attempts, first_delay, longest_delay };
    fdb::Settings { cluster_file, prefix, retries }
}
