//! STORE: an ordered, transactional key-value store behind a small trait.
//!
//! A write is a value (`Batch`: checks and mutations) that a backend applies completely or not
//! at all. There are no interactive transactions, so a batch can be logged, replayed, and
//! compared. `transact` owns the only retry loop. The crate deliberately knows nothing about
//! the meaning of keys and values; that is the job of `matyan-model`.
//!
//! ```
//! use matyan_store::{Batch, Commit, Store as _, embedded::{EmbeddedStore, Settings}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let store = EmbeddedStore::open(directory.path(), Settings::default()).await?;
//! let mut batch = Batch::default();
//! batch.expect("runs/1", None).set("runs/1", "baseline").add("runs", 1);
//! assert!(matches!(store.commit(batch.clone()).await?, Commit::Done { .. }));
//! assert_eq!(store.commit(batch).await?, Commit::Conflict, "the run exists by now");
//!
//! let snapshot = store.snapshot().await?;
//! assert_eq!(snapshot.get(&"runs/1".into()).await?, Some("baseline".into()));
//! store.close().await?;
//! # Ok(())
//! # }
//! ```

mod batch;
mod error;
mod prefix;
mod read_threads;
mod transact;
mod version;

pub mod embedded;
pub mod fdb;
#[cfg(feature = "faults")]
pub mod layers;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use batch::{Batch, Check, Durability, Key, Limits, Mutation, Range, Value};
pub use error::{Error, Result};
pub use prefix::Prefix;
pub use read_threads::{ReadThreads, with_reads_on};
pub use transact::{Transaction, transact};
pub use version::{Stamp, Version};

use async_trait::async_trait;

/// Outcome of a batch. A failed check is an answer, not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// Applied. `stamp` starts with `version` in big-endian.
    Done { version: Version, stamp: Stamp },
    /// A check did not hold; nothing was applied.
    Conflict,
}

/// One page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In key order, or in reverse order if the scan requested it.
    pub rows: Vec<(Key, Value)>,
    /// True if the range may hold more rows: continue after the last key.
    pub more: bool,
}

impl Page {
    /// The part of the range of an ascending scan that is not read yet, if it may hold more rows.
    pub fn rest(&self, range: &Range) -> Option<Range> {
        self.rows.last().filter(|_| self.more).map(|(last, _)| range.after(last))
    }
}

/// Size limits of one page. A page ends at whichever limit comes first, and holds at least one
/// row if the range has any.
#[derive(Clone, Copy, Debug)]
pub struct Scan {
    pub rows: usize,
    pub bytes: usize,
    pub reverse: bool,
    /// Returns empty values. A store that keeps large values apart from keys does not read them; another
    /// one counts their bytes all the same.
    pub keys_only: bool,
}

impl Scan {
    pub const DEFAULT: Self = Self { rows: usize::MAX, bytes: 1 << 20, reverse: false, keys_only: false };
}

impl Default for Scan {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// An ordered, transactional key-value store.
///
/// It makes the following guarantees. Each is named after its conformance case:
///
/// 1. *atomic*: either all mutations of a batch are visible, or none.
/// 2. *serializable*: batches behave as if applied one after another, each against the checks
///    it carries.
/// 3. *own order*: mutations of one batch apply in order; a later one sees the effects of
///    earlier ones.
/// 4. *snapshot*: every read of a snapshot sees the same version: all commits answered before
///    it was taken, and no partial commit.
/// 5. *durable*: a batch with `Durability::Synced` survives kill -9 and power loss once it is
///    answered. A batch with `Durability::Buffered` may be lost with the process, but only
///    together with every commit after it; `sync` ends that risk. While the process lives,
///    nothing that was answered or seen is lost. (Concurrent calls have no defined order.)
/// 6. *limits*: keys, values, and batches over `Limits` are refused entirely, before anything
///    is applied.
/// 7. *ends*: a snapshot older than `Limits::SNAPSHOT_AGE` returns `Error::SnapshotTooOld`.
/// 8. *absent*: clearing an absent key succeeds.
/// 9. *settled*: `commit` never answers "maybe". An error means that the batch was not applied
///    and never will be, or that this process has lost the store for good.
/// 10. *recovers*: after a full disk or an I/O error, calls return `Error::Unavailable` until
///     the store has recovered without intervention.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// A consistent view of everything committed so far.
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>>;

    /// Applies a batch if its checks hold.
    async fn commit(&self, batch: Batch) -> Result<Commit>;

    /// Makes every commit answered so far durable.
    async fn sync(&self) -> Result<()>;

    /// Returns once the value of `key` differs from `seen`. It may also return spuriously: reread
    /// the key and compare. The caller bounds the wait by dropping the future.
    async fn changed(&self, key: &Key, seen: Option<&Value>) -> Result<()>;

    /// Whether clearing a range takes as long for many rows as for one. If not, long ranges are
    /// cleared in pages. Like the next method, it has no default, which a wrapper would return by mistake.
    fn clears_ranges_at_once(&self) -> bool;

    /// Whether calls wait for other machines, and not mostly for a processor or a disk of this one. Concurrent calls
    /// then take hardly longer than one, and each commit is work of machines that many processes share.
    fn is_remote(&self) -> bool;
}

/// A view of one version. Cheap to hold briefly, and useless after `Limits::SNAPSHOT_AGE`.
#[async_trait]
pub trait Snapshot: Send + Sync {
    async fn get(&self, key: &Key) -> Result<Option<Value>>;

    /// Values in the order of `keys`.
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>>;

    async fn scan(&self, range: &Range, scan: Scan) -> Result<Page>;

    fn version(&self) -> Version;
}
