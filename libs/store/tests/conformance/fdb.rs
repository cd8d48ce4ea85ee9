//! A FoundationDB server, started by the first case that needs it and shared by all, each with
//! its own prefix.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use matyan_servers::foundationdb::{Cluster, Engine, unavailable_reason};
use matyan_store::Store;
use matyan_store::conformance::{Instance, OpenInstance, fdb};
use matyan_store::fdb::{FdbStore, Network, Settings};
use matyan_store::layers::Faults;

/// The server and network; dropped after all cases, when nothing uses them any more.
#[derive(Clone, Default)]
pub(crate) struct FdbServer(Arc<OnceLock<RunningCluster>>);

struct RunningCluster {
    cluster: Cluster,
    network: Network,
}

impl FdbServer {
    pub(crate) fn open(&self, faults: Option<Faults>) -> Result<OpenInstance, String> {
        if let Some(reason) = unavailable_reason() {
            return Err(reason);
        }
        let server = self.clone();
        Ok(Arc::new(move || {
            let server = server.clone();
            let faults = faults.clone();
            Box::pin(async move {
                let settings = fdb::settings(&server.running().cluster);
                let mut instance = FdbInstance { server, settings, faults, opened: None };
                instance.reopen().await;
                Box::new(instance) as Box<dyn Instance>
            })
        }))
    }

    fn running(&self) -> &RunningCluster {
        self.0.get_or_init(|| RunningCluster {
            cluster: Cluster::start(Engine::Memory),
            network: Network::start().expect("the network is started once"),
        })
    }
}

struct FdbInstance {
    server: FdbServer,
    settings: Settings,
    faults: Option<Faults>,
    opened: Option<Arc<FdbStore>>,
}

#[async_trait]
impl Instance for FdbInstance {
    fn store(&self) -> Arc<dyn Store> {
        super::with_faults(self.faults.as_ref(), self.opened.clone().expect("the store is open"))
    }

    async fn reopen(&mut self) {
        self.close().await;
        let store = FdbStore::open(&self.server.running().network, self.settings.clone()).await;
        self.opened = Some(Arc::new(store.expect("the store opens")));
    }

    /// Waits in real time, because the server has its own clock.
    async fn advance_time(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    async fn close(&mut self) {
        if let Some(store) = self.opened.take() {
            store.close().await;
        }
    }
}
