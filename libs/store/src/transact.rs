//! Read, decide, write: the one retry loop over optimistic transactions.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    Batch, Commit, Durability, Error, Key, Page, Range, Result, Scan, Snapshot, Stamp, Store, Value, Version,
};

/// Reads through a snapshot and records each read, so that the commit can check that it still
/// holds.
///
/// Reads do not see the transaction's own writes: decide first, write last.
pub struct Transaction {
    snapshot: Box<dyn Snapshot>,
    reads: Mutex<Batch>,
    batch: Batch,
}

impl Transaction {
    pub fn new(snapshot: Box<dyn Snapshot>) -> Self {
        Self { snapshot, reads: Mutex::default(), batch: Batch::default() }
    }

    /// Reads a key; the commit fails if the value has changed by then.
    pub async fn get(&self, key: &Key) -> Result<Option<Value>> {
        let value = self.snapshot.get(key).await?;
        self.reads.lock().expect(key.clone(), value.clone());
        Ok(value)
    }

    /// Reads a page; the commit fails if the part of the range covered by the page has
    /// changed by then.
    pub async fn scan(&self, range: &Range, scan: Scan) -> Result<Page> {
        let page = self.snapshot.scan(range, scan).await?;
        let covered = match (page.more, page.rows.last()) {
            (true, Some((last, _))) if scan.reverse => Range::new(last.clone(), range.end.clone()),
            (true, Some((last, _))) => Range::new(range.start.clone(), range.after(last).start),
            _ => range.clone(),
        };
        let since = self.snapshot.version();
        self.reads.lock().expect_unchanged(covered, since);
        Ok(page)
    }

    /// A snapshot whose reads the commit does not check, for reads that may be stale
    /// without harm.
    pub fn unchecked(&self) -> &dyn Snapshot {
        self.snapshot.as_ref()
    }

    pub fn version(&self) -> Version {
        self.snapshot.version()
    }

    /// The batch of writes so far.
    pub fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    pub fn set_buffered(&mut self) {
        self.batch.durability = Durability::Buffered;
    }

    /// Returns the writes together with a check for every recorded read.
    pub fn into_batch(mut self) -> Batch {
        let reads = std::mem::take(&mut self.reads.lock().checks);
        self.batch.checks.extend(reads);
        self.batch
    }
}

/// Far more attempts than fair contention needs: with 64 writers of one key, most of them
/// pausing at any time, about one in a billion loses this often. Including pauses, this takes
/// some ten seconds, or minutes if commits are slow.
const MAX_ATTEMPTS: u32 = 400;

/// Conflicts before an attempt waits. More conflicts indicate heavy contention, where every
/// further attempt slows all writers.
const FREE_CONFLICTS: u32 = 3;

/// The longest wait fits this many attempts of the duration of the lost one, so that most
/// writers are pausing even if commits are slow. It is clamped to the two bounds below.
const ATTEMPTS_PER_WAIT: u32 = 16;
const MIN_LONGEST_WAIT: Duration = Duration::from_millis(50);
const MAX_LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Runs `decide` on fresh snapshots until its transaction commits, and returns its result
/// together with the stamp of the commit. An error from `decide` is returned immediately,
/// without writing. A transaction without writes is not committed.
///
/// `decide` takes the transaction and returns it, because a future that borrowed it could not
/// be sent between threads: `transact(store, async |mut transaction: Transaction| { …;
/// Ok((transaction, answer)) })`.
///
/// ```
/// use matyan_store::{Error, Transaction, embedded::{EmbeddedStore, Settings}, transact};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// # let directory = tempfile::tempdir().expect("a directory for the example");
/// let store = EmbeddedStore::open(directory.path(), Settings::default()).await?;
/// let claim = async |mut transaction: Transaction| -> Result<_, Error> {
///     let free = transaction.get(&"owner".into()).await?.is_none();
///     if free {
///         transaction.batch().set("owner", "worker 1");
///     }
///     Ok((transaction, free))
/// };
/// assert!(transact(&store, claim).await?.0);
/// assert!(!transact(&store, claim).await?.0, "the first call has taken it");
/// # store.close().await
/// # }
/// ```
pub async fn transact<T, E, F, D>(store: &dyn Store, mut decide: F) -> Result<(T, Option<Stamp>), E>
where
    E: From<Error>,
    F: FnMut(Transaction) -> D,
    D: Future<Output = Result<(Transaction, T), E>>,
{
    for attempt in 1..=MAX_ATTEMPTS {
        let start = Instant::now();
        let transaction = Transaction::new(store.snapshot().await?);
        let (transaction, answer) = decide(transaction).await?;
        let batch = transaction.into_batch();
        if batch.mutations.is_empty() {
            return Ok((answer, None));
        }
        match store.commit(batch).await? {
            Commit::Done { stamp, .. } => return Ok((answer, Some(stamp))),
            Commit::Conflict => {}
        }
        back_off(attempt, start.elapsed()).await;
    }
    Err(Error::Contended { attempts: MAX_ATTEMPTS }.into())
}

/// Yields to other writers: first without a delay, then for a random time, so that they do not
/// collide repeatedly.
async fn back_off(conflicts: u32, lost: Duration) {
    if conflicts < FREE_CONFLICTS {
        return tokio::task::yield_now().await;
    }
    let longest = (lost * ATTEMPTS_PER_WAIT).clamp(MIN_LONGEST_WAIT, MAX_LONGEST_WAIT);
    // Every RandomState has new keys, so its hash serves as a random number.
    let chance = RandomState::new().hash_one(()) as f64 / u64::MAX as f64;
    tokio::time::sleep(longest.mul_f64(chance)).await;
}

#[cfg(test)]
mod tests;
