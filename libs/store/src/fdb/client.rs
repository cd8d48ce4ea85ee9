//! The store on FoundationDB. Batches become FoundationDB transactions, and the outcome of a
//! commit is always resolved before it is returned.
//!
//! Every commit writes a token along with its data, so that the outcome can be determined if
//! the answer was lost (see `token`). Our size limits are at least as strict as FoundationDB's
//! own (`Limits`). The client has one network thread per process (`Network`). The program
//! starts it before it opens a store, and it stops after the last store is dropped. The
//! client's own retry loop is deliberately unused, because it repeats commits that may have
//! been applied, and there are no interactive transactions.

mod attempt;
mod cluster;
mod commit;
mod errors;
mod network;
mod retry;
mod snapshot;
mod space;
mod token;
#[cfg(feature = "conformance")]
mod unknown_outcomes;
mod watch;

use std::sync::Arc;

use async_trait::async_trait;

pub use network::Network;

use super::Settings;
use crate::{Batch, Commit, Key, Result, Snapshot, Store, Value};
use cluster::Cluster;
use snapshot::FdbSnapshot;
use space::KeySpace;
use token::TokenLanes;

/// A store under a prefix of a cluster. Any number of processes may open the same one.
pub struct FdbStore {
    cluster: Arc<Cluster>,
    lanes: TokenLanes,
}

impl FdbStore {
    /// Opens the store and verifies that the cluster answers. The network runs at least as
    /// long as the store.
    pub async fn open(network: &Network, settings: Settings) -> Result<Self> {
        let Settings { cluster_file, prefix, retries } = settings;
        let space = KeySpace::new(&prefix);
        let cluster = Arc::new(Cluster::connect(network, &cluster_file, space, retries).await?);
        token::clear_old(&cluster).await?;
        Ok(Self { cluster, lanes: TokenLanes::new() })
    }

    /// Removes the tokens of this store. Otherwise they remain until a store is opened at
    /// least a week later.
    pub async fn close(&self) {
        if let Err(error) = self.lanes.clear_tokens(&self.cluster).await {
            tracing::warn!(%error, "failed to remove the store's FoundationDB tokens; they expire in a week");
        }
    }
}

#[async_trait]
impl Store for FdbStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(FdbSnapshot::take(self.cluster.clone()).await?))
    }

    async fn commit(&self, batch: Batch) -> Result<Commit> {
        batch.validate()?;
        commit::commit(&self.cluster, &self.lanes, &batch).await
    }

    /// Does nothing: FoundationDB answers every commit only once it is on disk in its log,
    /// regardless of durability.
    async fn sync(&self) -> Result<()> {
        Ok(())
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> Result<()> {
        watch::wait_for_change(&self.cluster, key, seen).await
    }

    fn clears_ranges_at_once(&self) -> bool {
        true
    }

    fn is_remote(&self) -> bool {
        true
    }
}
