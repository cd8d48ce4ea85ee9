//! Reads at one version: a transaction without writes, whose reads cause no conflicts.

use std::collections::{HashMap, HashSet};
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
/// Number of keys above which it is worth trying whether they are next to each other.
const SCANNED_FROM: usize = 64;
/// Bytes that a scan may read for each wanted key. Beyond that, single reads cost less.
const SCANNED_BYTES_A_KEY: usize = 4 << 10;
/// Size of the first scan over wanted keys, most of which is wasted if they are far apart.
const FIRST_SCAN_BYTES: usize = 64 << 10;
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
        self.cluster.retries.read(|| self.before_expiry(call())).await
    }

    async fn before_expiry<T>(&self, call: impl Future<Output = FdbResult<T>>) -> Result<FdbResult<T>> {
        let left = Limits::SNAPSHOT_AGE.checked_sub(self.taken_at.elapsed()).ok_or(Error::SnapshotTooOld)?;
        timeout(left, call).await.map_err(|_| Error::SnapshotTooOld)
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
        let scanned =
            if keys.len() < SCANNED_FROM { ScannedRows::default() } else { self.scanned(keys).await? };
        let reads = keys.iter().map(|key| async {
            match scanned.get(key) {
                Some(value) => Ok(value),
                None => self.get_checked(key).await,
            }
        });
        let reads: Vec<_> = reads.collect();
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

/// The wanted rows of the first part of a range.
#[derive(Default)]
struct ScannedRows {
    rows: HashMap<Key, Value>,
    /// The last key that was read, or `None` if the range was not read.
    last: Option<Key>,
}

impl ScannedRows {
    /// The value of a key, or `None` if the key is not in the part that was read.
    fn get(&self, key: &Key) -> Option<Option<Value>> {
        (Some(key) <= self.last.as_ref()).then(|| self.rows.get(key).cloned())
    }
}

impl FdbSnapshot {
    /// Reads the range over these keys, as long as it contains little else. So the rows of a run with a
    /// hundred thousand series take a few pages instead of as many reads.
    async fn scanned(&self, keys: &[Key]) -> Result<ScannedRows> {
        let mut scanned = ScannedRows::default();
        let mut wanted: Vec<&Key> = keys.iter().collect();
        wanted.sort_unstable();
        let mut scan = Scan { bytes: FIRST_SCAN_BYTES, ..Scan::default() };
        while let (Some(first), Some(last)) = (wanted.first(), wanted.last()) {
            // The end of a range is excluded, so a zero byte is appended to include the last key.
            let range = Range::new((*first).clone(), [&last[..], &[0]].concat());
            let page = self.scan(&range, scan).await?;
            let read_to = page.rows.last().filter(|_| page.more).map_or(*last, |(key, _)| key).clone();
            let bytes: usize = page.rows.iter().map(|(key, value)| key.len() + value.len()).sum();
            let passed = wanted.partition_point(|key| **key <= read_to);
            let is_dense = bytes <= passed * SCANNED_BYTES_A_KEY;
            let passed: HashSet<&Key> = wanted.drain(..passed).collect();
            scanned.rows.extend(page.rows.into_iter().filter(|(key, _)| passed.contains(key)));
            scanned.last = Some(read_to);
            if !is_dense {
                break;
            }
            scan.bytes = (scan.bytes * 4).min(REQUEST_BYTES);
        }
        Ok(scanned)
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
        let value = if self.scan.keys_only { Value::new() } else { Value::copy_from_slice(value) };
        self.rows.push((Key::copy_from_slice(key), value));
    }

    /// A page holds at least one row if the range has any, even with tiny limits.
    fn is_full(&self) -> bool {
        !self.rows.is_empty() && (self.rows.len() >= self.scan.rows || self.bytes >= self.scan.bytes)
    }

    fn finish(self) -> Page {
        Page { more: self.is_full(), rows: self.rows }
    }
}
