//! The store on FoundationDB: batches become its transactions, and an unknown outcome is looked up before it is told.
//!
//! Every commit leaves a token beside what it writes, so that one whose answer was lost can be settled (`token`). What we
//! refuse by size, FoundationDB would refuse too (`Limits`). Its client has one network thread per process (`Network`),
//! which whoever composes the program starts first, and which stops behind the last store. Deliberately absent: its own retry loop, because it
//! repeats what may have been applied, and interactive transactions.

mod attempt;
mod commit;
mod errors;
mod network;
mod retry;
#[cfg(feature = "conformance")]
mod settling;
mod snapshot;
mod space;
mod token;
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
use errors::failed;
use retry::answered;
use snapshot::FdbSnapshot;
use space::Space;
use token::Lanes;

/// Keys that a process may watch at once; the client's own limit is 10,000.
const MAX_WATCHES: i32 = 1_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub cluster_file: PathBuf,
    /// In front of every key, so that others can use the same cluster.
    pub prefix: Prefix,
    pub retries: Retries,
}

/// A store under a prefix of a cluster; any number of processes may open the same one.
pub struct FdbStore {
    shared: Arc<Shared>,
    lanes: Lanes,
}

/// What reads and commits have in common.
struct Shared {
    database: Database,
    space: Space,
    retries: Retries,
    /// The newest version that the cluster has told us of: a read at a newer one has to ask first.
    newest: AtomicI64,
    /// Stops behind the database.
    _network: Network,
}

impl FdbStore {
    /// Opens the store, and makes sure that the cluster answers. The network runs as long as the store.
    pub async fn open(network: &Network, settings: Settings) -> Result<Self> {
        let database = database(&settings.cluster_file).await?;
        let Settings { prefix, retries, .. } = settings;
        let (space, newest) = (Space::new(&prefix), AtomicI64::new(0));
        let shared = Shared { database, space, retries, newest, _network: network.clone() };
        let store = Self { shared: Arc::new(shared), lanes: Lanes::new() };
        store.tokens_sweep().await?;
        Ok(store)
    }

    /// Takes the tokens of this store away. Without it they go when one opens a week later.
    pub async fn close(&self) {
        if let Err(error) = self.tokens_clear().await {
            tracing::warn!(%error, "FoundationDB keeps the tokens of this store for a week");
        }
    }
}

async fn database(cluster_file: &std::path::Path) -> Result<Database> {
    let refused = |problem: &dyn std::fmt::Display| Error::Settings {
        reason: format!("the FoundationDB cluster file {} {problem}", cluster_file.display()),
    };
    // The client would wait for a file that is missing.
    if let Err(error) = tokio::fs::read(cluster_file).await {
        return Err(refused(&format_args!("cannot be read: {error}")));
    }
    let path = cluster_file.to_str().ok_or_else(|| refused(&"has a path that is no text"))?;
    let database =
        Database::from_path(path).map_err(|error| refused(&format_args!("is refused: {error}")))?;
    database.set_option(DatabaseOption::MaxWatches(MAX_WATCHES)).map_err(failed)?;
    Ok(database)
}

impl Shared {
    /// A transaction that reads only what is stored, never its own writes.
    fn begin(&self) -> Result<Transaction> {
        let transaction = self.database.create_trx().map_err(failed)?;
        transaction.set_option(TransactionOption::ReadYourWritesDisable).map_err(failed)?;
        Ok(transaction)
    }

    /// The version of everything committed so far, which the transaction reads from now on.
    async fn read_version(&self, transaction: &Transaction) -> Result<i64> {
        let version = self.retries.reading(|| answered(transaction.get_read_version())).await?;
        self.saw(version);
        Ok(version)
    }

    fn saw(&self, version: i64) {
        self.newest.fetch_max(version, Ordering::Relaxed);
    }

    fn newest(&self) -> i64 {
        self.newest.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Store for FdbStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(FdbSnapshot::take(self.shared.clone()).await?))
    }

    async fn commit(&self, batch: Batch) -> Result<Commit> {
        batch.validate()?;
        self.commit_settled(&batch).await
    }

    /// FoundationDB answers a commit when it is on the disks of its log, whatever durability was asked for.
    async fn sync(&self) -> Result<()> {
        Ok(())
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> Result<()> {
        self.watch(key, seen).await
    }
}
