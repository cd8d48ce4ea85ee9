//! A connection to a FoundationDB cluster: its transactions, and the newest version seen.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use foundationdb::options::{ConflictRangeType, DatabaseOption, TransactionOption};
use foundationdb::{Database, FdbResult, Transaction};

use super::errors::call_error;
use super::network::Network;
use super::retry::with_timeout;
use super::space::KeySpace;
use crate::{Error, Range, Result, fdb::Retries};

/// Number of keys that a process may watch at the same time; the client's default limit is
/// 10,000.
const MAX_WATCHES: i32 = 1_000_000;

/// A connection to a cluster, with the part of it that the store uses. Reads and commits share it.
pub(super) struct Cluster {
    pub(super) database: Database,
    pub(super) space: KeySpace,
    pub(super) retries: Retries,
    /// The newest version seen from the cluster. A read at a newer version must ask the
    /// cluster first.
    newest_version: AtomicI64,
    /// Keeps the network running; dropped after the database, because fields drop in order.
    _network: Network,
}

impl Cluster {
    pub(super) async fn connect(
        network: &Network,
        file: &Path,
        space: KeySpace,
        retries: Retries,
    ) -> Result<Self> {
        let database = database(file).await?;
        let newest_version = AtomicI64::new(0);
        Ok(Self { database, space, retries, newest_version, _network: network.clone() })
    }

    /// Starts a transaction that reads only stored data, never its own writes.
    pub(super) fn begin(&self) -> Result<Transaction> {
        let transaction = self.database.create_trx().map_err(call_error)?;
        transaction.set_option(TransactionOption::ReadYourWritesDisable).map_err(call_error)?;
        Ok(transaction)
    }

    /// Returns a version that includes everything committed so far; the transaction reads
    /// at it from now on.
    pub(super) async fn read_version(&self, transaction: &Transaction) -> Result<i64> {
        let version = self.retries.read(|| with_timeout(transaction.get_read_version())).await?;
        self.record_version(version);
        Ok(version)
    }

    pub(super) fn record_version(&self, version: i64) {
        self.newest_version.fetch_max(version, Ordering::Relaxed);
    }

    pub(super) fn newest_version(&self) -> i64 {
        self.newest_version.load(Ordering::Relaxed)
    }

    /// Makes the transaction fail to commit if the range has changed by then.
    pub(super) fn add_read_conflict(&self, transaction: &Transaction, range: &Range) -> FdbResult<()> {
        match self.space.range(range) {
            Some((start, end)) => transaction.add_conflict_range(&start, &end, ConflictRangeType::Read),
            None => Ok(()),
        }
    }
}

fn bad_cluster_file(path: &Path, problem: &str) -> Error {
    Error::Settings { reason: format!("the FoundationDB cluster file {} {problem}", path.display()) }
}

async fn database(cluster_file: &Path) -> Result<Database> {
    // The client would wait forever if the file were missing.
    if let Err(error) = tokio::fs::read(cluster_file).await {
        return Err(bad_cluster_file(cluster_file, &format!("cannot be read: {error}")));
    }
    let path = cluster_file
        .to_str()
        .ok_or_else(|| bad_cluster_file(cluster_file, "has a path that is not valid UTF-8"))?;
    let database = Database::from_path(path)
        .map_err(|error| bad_cluster_file(cluster_file, &format!("is invalid: {error}")))?;
    database.set_option(DatabaseOption::MaxWatches(MAX_WATCHES)).map_err(call_error)?;
    Ok(database)
}
