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

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use foundationdb::options::{DatabaseOption, TransactionOption};
use foundationdb::{Database, Transaction};

pub use network::Network;
pub use retry::Retries;

use crate::{Batch, Commit, Error, Key, Prefix, Result, Snapshot, Store, Value};
use errors::call_error;
use retry::with_timeout;
use snapshot::FdbSnapshot;
use space::KeySpace;
use token::TokenLanes;

/// Number of keys that a process may watch at the same time; the client's default limit is
/// 10,000.
const MAX_WATCHES: i32 = 1_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub cluster_file: PathBuf,
    /// Prefix of every key, so that others can use the same cluster.
    pub prefix: Prefix,
    pub retries: Retries,
}

/// A store under a prefix of a cluster. Any number of processes may open the same one.
pub struct FdbStore {
    shared: Arc<Shared>,
    lanes: TokenLanes,
}

/// State shared by reads and commits.
struct Shared {
    database: Database,
    space: KeySpace,
    retries: Retries,
    /// The newest version seen from the cluster. A read at a newer version must ask the
    /// cluster first.
    newest_version: AtomicI64,
    /// Keeps the network running; dropped after the database, as fields drop in order.
    _network: Network,
}

impl FdbStore {
    /// Opens the store and verifies that the cluster answers. The network runs at least as
    /// long as the store.
    pub async fn open(network: &Network, settings: Settings) -> Result<Self> {
        let database = database(&settings.cluster_file).await?;
        let Settings { prefix, retries, .. } = settings;
        let (space, newest_version) = (KeySpace::new(&prefix), AtomicI64::new(0));
        let shared = Shared { database, space, retries, newest_version, _network: network.clone() };
        let store = Self { shared: Arc::new(shared), lanes: TokenLanes::new() };
        store.clear_old_tokens().await?;
        Ok(store)
    }

    /// Removes the tokens of this store. Otherwise they remain until a store is opened at
    /// least a week later.
    pub async fn close(&self) {
        if let Err(error) = self.clear_own_tokens().await {
            tracing::warn!(%error, "failed to remove the store's FoundationDB tokens; they expire in a week");
        }
    }
}

async fn database(cluster_file: &std::path::Path) -> Result<Database> {
    let refused = |problem: &dyn std::fmt::Display| Error::Settings {
        reason: format!("the FoundationDB cluster file {} {problem}", cluster_file.display()),
    };
    // The client would wait forever if the file were missing.
    if let Err(error) = tokio::fs::read(cluster_file).await {
        return Err(refused(&format_args!("cannot be read: {error}")));
    }
    let path = cluster_file.to_str().ok_or_else(|| refused(&"has a path that is not valid UTF-8"))?;
    let database =
        Database::from_path(path).map_err(|error| refused(&format_args!("is invalid: {error}")))?;
    database.set_option(DatabaseOption::MaxWatches(MAX_WATCHES)).map_err(call_error)?;
    Ok(database)
}

impl Shared {
    /// Begins a transaction that reads only stored data, never its own writes.
    fn begin(&self) -> Result<Transaction> {
        let transaction = self.database.create_trx().map_err(call_error)?;
        transaction.set_option(TransactionOption::ReadYourWritesDisable).map_err(call_error)?;
        Ok(transaction)
    }

    /// Returns a version that includes everything committed so far; the transaction reads
    /// at it from now on.
    async fn read_version(&self, transaction: &Transaction) -> Result<i64> {
        let version = self.retries.read(|| with_timeout(transaction.get_read_version())).await?;
        self.record_version(version);
        Ok(version)
    }

    fn record_version(&self, version: i64) {
        self.newest_version.fetch_max(version, Ordering::Relaxed);
    }

    fn newest_version(&self) -> i64 {
        self.newest_version.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Store for FdbStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(FdbSnapshot::take(self.shared.clone()).await?))
    }

    async fn commit(&self, batch: Batch) -> Result<Commit> {
        batch.validate()?;
        self.commit_resolved(&batch).await
    }

    /// Does nothing: FoundationDB answers every commit only once it is on disk in its log,
    /// regardless of durability.
    async fn sync(&self) -> Result<()> {
        Ok(())
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> Result<()> {
        self.watch(key, seen).await
    }
}
