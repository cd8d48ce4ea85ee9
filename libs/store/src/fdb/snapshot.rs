//! Reads at one version: a transaction without writes, whose reads cause no conflicts.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use foundationdb::options::StreamingMode;
use foundationdb::{FdbResult, KeySelector, RangeOption, Transaction};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::timeout;

use super::cluster::Cluster;
use crate::batch::{validate_key, validate_range};
use crate::{Error, Key, Limits, Page, Range, Result, Scan, Snapshot, Value, Version};

/// Number of concurrent point reads per caller.
pub(super) const CONCURRENT_READS: usize = 64;
/// Number of bytes requested per read; the server may return fewer.
const REQUEST_BYTES: usize = 1 << 20;

pub(super) struct FdbSnapshot {
    cluster: Arc<Cluster>,
    transaction: Transaction,
    version: i64,
    taken_at: Instant,
}

impl FdbSnapshot {
    pub(super) async fn take(cluster: Arc<Cluster>) -> Result<Self> {
        let taken_at = Instant::now();
        let transaction = cluster.begin()?;
        let version = cluster.read_version(&transaction).await?;
        Ok(Self { cluster, transaction, version, taken_at })
    }

    /// Bounds a read by the age of the snapshot. FoundationDB would forget the version at
    /// about this time; ending exactly then gives callers one consistent rule.
    async fn read<T, F: Future<Output = FdbResult<T>>>(&self, mut call: impl FnMut() -> F) -> Result<T> {
        let before_expiry = |call: F| async {
            let left =
                Limits::SNAPSHOT_AGE.checked_sub(self.taken_at.elapsed()).ok_or(Error::SnapshotTooOld)?;
            timeout(left, call).await.map_err(|_| Error::SnapshotTooOld)
        };
        self.cluster.retries.read(|| before_expiry(call())).await
    }

    async fn get_checked(&self, key: &Key) -> Result<Option<Value>> {
        let key = self.cluster.space.key(key);
        let value = self.read(|| self.transaction.get(&key, true)).await?;
        Ok(value.map(|value| Value::copy_from_slice(&value)))
    }
}

#[async_trait]
impl Snapshot for FdbSnapshot {
    async fn get(&self, key: &Key) -> Result<Option<Value>> {
        validate_key(key)?;
        self.get_checked(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>> {
        keys.iter().try_for_each(|key| validate_key(key))?;
        let reads: Vec<_> = keys.iter().map(|key| self.get_checked(key)).collect();
        stream::iter(reads).buffered(CONCURRENT_READS).try_collect().await
    }

    async fn scan(&self, range: &Range, scan: Scan) -> Result<Page> {
        validate_range(range)?;
        let mut page = PageBuilder::new(scan);
        let Some((mut start, mut end)) = self.cluster.space.range(range) else { return Ok(Page::default()) };
        loop {
            let (limit, target_bytes) = page.remaining();
            let option = RangeOption {
                begin: KeySelector::first_greater_or_equal(&start[..]),
                end: KeySelector::first_greater_or_equal(&end[..]),
                limit: Some(limit),
                target_bytes,
                mode: StreamingMode::WantAll,
                reverse: scan.reverse,
                ..RangeOption::default()
            };
            let rows = self.read(|| self.transaction.get_range(&option, 1, true)).await?;
            for row in &rows {
                page.push(self.cluster.space.strip_prefix_of_store(row.key()), row.value());
                if page.is_full() {
                    return Ok(page.finish());
                }
            }
            match rows.last().filter(|_| rows.more()) {
                Some(last) if scan.reverse => end = last.key().to_vec(),
                Some(last) => start = [last.key(), &[0]].concat(),
                None => return Ok(page.finish()),
            }
        }
    }

    fn version(&self) -> Version {
        Version(self.version.unsigned_abs())
    }
}

struct PageBuilder {
    scan: Scan,
    rows: Vec<(Key, Value)>,
    bytes: usize,
}

impl PageBuilder {
    fn new(scan: Scan) -> Self {
        Self { scan, rows: Vec::new(), bytes: 0 }
    }

    /// Number of rows and bytes still to be requested. The server always sends at least one
    /// row, and interprets 0 as no limit.
    fn remaining(&self) -> (usize, usize) {
        let rows = self.scan.rows.saturating_sub(self.rows.len());
        (rows.max(1), self.scan.bytes.saturating_sub(self.bytes).clamp(1, REQUEST_BYTES))
    }

    fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes += key.len() + value.len();
        self.rows.push((Key::copy_from_slice(key), Value::copy_from_slice(value)));
    }

    /// A page holds at least one row if the range has any, even with tiny limits.
    fn is_full(&self) -> bool {
        !self.rows.is_empty() && (self.rows.len() >= self.scan.rows || self.bytes >= self.scan.bytes)
    }

    fn finish(self) -> Page {
        Page { more: self.is_full(), rows: self.rows }
    }
}
