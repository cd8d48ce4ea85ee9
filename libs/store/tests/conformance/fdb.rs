//! A FoundationDB server, started by the first case that needs it and shared by all, each with
//! its own prefix.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use matyan_servers::foundationdb::{Cluster, Engine, lacking};
use matyan_store::Store;
use matyan_store::conformance::{Instance, OpenInstance, fdb};
use matyan_store::fdb::{FdbStore, Network, Settings};
use matyan_store::layers::Faults;

/// The server and network; dropped after all cases, when nothing uses them any more.
#[derive(Clone, Default)]
pub(crate) struct Real(Arc<OnceLock<Running>>);

struct Running {
    cluster: Cluster,
    network: Network,
}

impl Real {
    pub(crate) fn open(&self, faults: Option<Faults>) -> Result<OpenInstance, String> {
        if let Some(reason) = lacking() {
            return Err(reason);
        }
        let real = self.clone();
        Ok(Arc::new(move || {
            let (real, faults) = (real.clone(), faults.clone());
            Box::pin(async move {
                let settings = fdb::settings(&real.running().cluster);
                let mut instance = FdbInstance { real, settings, faults, opened: None };
                instance.reopen().await;
                Box::new(instance) as Box<dyn Instance>
            })
        }))
    }

    fn running(&self) -> &Running {
        self.0.get_or_init(|| Running {
            cluster: Cluster::start(Engine::Memory),
            network: Network::start().expect("the network is started once"),
        })
    }
}

struct FdbInstance {
    real: Real,
    settings: Settings,
    faults: Option<Faults>,
    opened: Option<Arc<FdbStore>>,
}

#[async_trait]
impl Instance for FdbInstance {
    fn store(&self) -> Arc<dyn Store> {
        super::under(self.faults.as_ref(), self.opened.clone().expect("the store is open"))
    }

    async fn reopen(&mut self) {
        self.close().await;
        let store = FdbStore::open(&self.real.running().network, self.settings.clone()).await;
        self.opened = Some(Arc::new(store.expect("the store opens")));
    }

    /// Waits in real time, because the server has its own clock.
    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    async fn close(&mut self) {
        if let Some(store) = self.opened.take() {
            store.close().await;
        }
    }
}
