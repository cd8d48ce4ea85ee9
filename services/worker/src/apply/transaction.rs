//! The transaction of an attempt: its reads and writes, and how much still fits in it.

use matyan_model::{ids::Project, keys};
use matyan_store::{Batch, Commit, Mutation, Snapshot, Transaction, Value};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{apply_failure::ApplyFailure, run_key::RunKey};
use crate::deps::Deps;

/// Target size of a transaction; FoundationDB recommends it.
pub(crate) const TRANSACTION_BYTES: usize = 1 << 20;

/// Number of transactions that the writers of a process build and commit at once.
const SLOTS: usize = 64;

/// Bounds the memory of all transactions of a process. A transaction can take a thousand times as much memory
/// as its records: a deletion reads the run's document, and deletes a row for each param.
pub(crate) struct TransactionSlots(Semaphore);

impl TransactionSlots {
    pub(crate) async fn take(&self) -> SemaphorePermit<'_> {
        self.0.acquire().await.expect("the semaphore is never closed")
    }
}

impl Default for TransactionSlots {
    fn default() -> Self {
        Self(Semaphore::new(SLOTS))
    }
}

/// A growing transaction of one run.
pub(crate) struct RunTransaction<'a> {
    deps: &'a Deps,
    run: &'a RunKey,
    transaction: Transaction,
    /// The stored cursor row; the commit fails if it has changed.
    cursor: Option<Value>,
    /// The stored head, for which the same holds.
    head: Option<Value>,
    /// Number of items taken so far.
    items: u32,
    max_items: u32,
    /// Estimated bytes to be written, including the rows that are added to the batch only at the
    /// end.
    estimate: usize,
    /// Size of the batch so far, by the store's accounting.
    batch_bytes: BatchBytes,
}

/// Incremental size of a growing batch: counts each mutation once.
#[derive(Debug, Default)]
struct BatchBytes {
    mutations: usize,
    bytes: usize,
}

impl BatchBytes {
    fn count(&mut self, batch: &Batch) -> usize {
        self.bytes += batch.mutations[self.mutations..].iter().map(Mutation::bytes).sum::<usize>();
        self.mutations = batch.mutations.len();
        self.bytes
    }
}

/// Commits a batch, unless the run was written by another process since its cursor had this row.
pub(crate) async fn commit_at_cursor(
    deps: &Deps,
    run: &RunKey,
    cursor: &Option<Value>,
    mut batch: Batch,
) -> Result<(), ApplyFailure> {
    batch.expect(keys::cursor(run.project, &run.id), cursor.clone());
    match deps.store.commit(batch).await? {
        Commit::Done { .. } => Ok(()),
        Commit::Conflict => Err(ApplyFailure::Conflict),
    }
}

impl<'a> RunTransaction<'a> {
    /// Starts a transaction that commits only if the run's cursor and head have these values.
    pub(crate) async fn start(
        deps: &'a Deps,
        run: &'a RunKey,
        cursor: Option<Value>,
        head: Option<Value>,
        max_items: u32,
    ) -> Result<Self, ApplyFailure> {
        let mut transaction = Transaction::new(deps.store.snapshot().await?);
        // Not synced: the log keeps the records until a sync has covered this commit.
        transaction.set_buffered();
        let batch = transaction.batch();
        batch.expect(keys::cursor(run.project, &run.id), cursor.clone());
        batch.expect(keys::head(run.project, &run.id), head.clone());
        Ok(Self {
            deps,
            run,
            transaction,
            cursor,
            head,
            items: 0,
            max_items,
            estimate: 0,
            batch_bytes: BatchBytes::default(),
        })
    }

    pub(crate) fn run(&self) -> &'a RunKey {
        self.run
    }

    pub(crate) fn project(&self) -> Project {
        self.run.project
    }

    /// The snapshot of the transaction, for reads that the commit does not check.
    pub(crate) fn snapshot(&self) -> &dyn Snapshot {
        self.transaction.unchecked()
    }

    /// The underlying transaction. The commit fails if something read through it has changed.
    pub(crate) fn checked(&mut self) -> &mut Transaction {
        &mut self.transaction
    }

    /// The writes so far.
    pub(crate) fn batch(&mut self) -> &mut Batch {
        self.transaction.batch()
    }

    pub(crate) fn now_us(&self) -> i64 {
        self.deps.now_us()
    }

    /// A new id for an entity.
    pub(crate) fn new_id(&self) -> String {
        self.deps.new_id()
    }

    /// Commits writes before this transaction, unless the run was written by another process, or deleted.
    pub(crate) async fn commit_ahead(&self, mut batch: Batch) -> Result<(), ApplyFailure> {
        batch.expect(keys::head(self.run.project, &self.run.id), self.head.clone());
        commit_at_cursor(self.deps, self.run, &self.cursor, batch).await
    }

    /// Counts items as taken.
    pub(crate) fn count_items(&mut self, count: u32) {
        self.items += count;
    }

    pub(crate) fn has_items(&self) -> bool {
        self.items > 0
    }

    /// Number of items that may still be taken.
    pub(crate) fn items_left(&self) -> u32 {
        self.max_items - self.items
    }

    /// Takes no more items.
    pub(crate) fn close(&mut self) {
        self.max_items = self.items;
    }

    pub(crate) fn is_full(&mut self) -> bool {
        self.items >= self.max_items || self.bytes() >= TRANSACTION_BYTES
    }

    /// Adds to the estimate of the bytes to be written.
    pub(crate) fn add_estimate(&mut self, bytes: usize) {
        self.estimate += bytes;
    }

    pub(crate) fn estimate(&self) -> usize {
        self.estimate
    }

    /// Size of the batch so far.
    pub(crate) fn batch_bytes(&mut self) -> usize {
        self.batch_bytes.count(self.transaction.batch())
    }

    /// Current estimate of the transaction's size. The estimate includes blocks that are packed at
    /// the end; the batch includes rows that were underestimated. The larger number counts.
    pub(crate) fn bytes(&mut self) -> usize {
        self.estimate.max(self.batch_bytes())
    }

    pub(crate) fn into_batch(self) -> Batch {
        self.transaction.into_batch()
    }
}
