//! Restore of runs. A run that is being restored is written under a run number that nothing
//! links to, so it is invisible; at the end, one transaction makes it live. A row by the run id
//! holds the run number and the source, so that an interrupted restore can continue. A restore
//! that never finishes is swept like a dead run.

use matyan_store::{Batch, Result, Snapshot, Store, Transaction, transact};
use minicbor::{Decode, Encode, bytes::ByteArray};

use super::{Head, Props, RunEdit, lifecycle, run_id_get};
use crate::{
    ids::{Project, RunId, RunNumber},
    keys::{self, CohortKind, Counter},
    rows,
    series::LiveRow,
    uncollected::UncollectedList,
};
use matyan_value::Map;

/// Time for which an interrupted restore can be resumed, in microseconds. The sweep of orphaned
/// blobs must wait longer than that.
pub const RESTORE_KEPT_US: i64 = 3 * 24 * 3_600 * 1_000_000;

/// A restore in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StagedRun {
    pub number: RunNumber,
    /// Identifies the content that is restored.
    pub source: [u8; 32],
    pub begun_us: i64,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct StagedRow {
    #[n(0)]
    number: u64,
    #[n(1)]
    source: ByteArray<32>,
    #[n(2)]
    begun_us: i64,
}

impl StagedRun {
    fn encode(&self) -> matyan_store::Value {
        rows::encode(&StagedRow {
            number: self.number.0,
            source: self.source.into(),
            begun_us: self.begun_us,
        })
    }

    /// The row that exists while this restore is in progress: folds check it, and every
    /// transaction expects it.
    pub fn live(&self, project: Project, id: &RunId) -> LiveRow {
        LiveRow { key: keys::staged(project, id), value: self.encode() }
    }

    /// Makes the batch fail if the restore has ended in the meantime.
    pub fn expect(&self, batch: &mut Batch, project: Project, id: &RunId) {
        batch.expect(keys::staged(project, id), Some(self.encode()));
    }
}

pub async fn staged_get(snapshot: &dyn Snapshot, project: Project, id: &RunId) -> Result<Option<StagedRun>> {
    let row: Option<StagedRow> = rows::get(snapshot, &keys::staged(project, id)).await?;
    Ok(row.map(|row| StagedRun {
        number: RunNumber(row.number),
        source: row.source.into(),
        begun_us: row.begun_us,
    }))
}

/// The progress of the restore that the caller stored; 0 at the start.
pub async fn staged_progress_get(snapshot: &dyn Snapshot, project: Project, id: &RunId) -> Result<u64> {
    Ok(rows::get(snapshot, &keys::staged_progress(project, id)).await?.unwrap_or_default())
}

pub fn staged_progress_put(batch: &mut Batch, project: Project, id: &RunId, position: u64) {
    batch.set(keys::staged_progress(project, id), rows::encode(&position));
}

/// Starts the restore of a run. `created_us` determines its position among the other runs.
pub async fn staged_begin(
    transaction: &mut Transaction,
    project: Project,
    id: &RunId,
    source: [u8; 32],
    (created_us, now_us): (i64, i64),
) -> Result<StagedRun> {
    let number = lifecycle::number_assign(transaction, project, id, created_us).await?;
    let staged = StagedRun { number, source, begun_us: now_us };
    let batch = transaction.batch();
    batch.expect(keys::staged(project, id), None);
    batch.set(keys::staged(project, id), staged.encode());
    staged_progress_put(batch, project, id, 0);
    Ok(staged)
}

/// Abandons a restore. The sweep clears the rows of the restore.
pub fn staged_drop(batch: &mut Batch, project: Project, id: &RunId, staged: &StagedRun) {
    staged.expect(batch, project, id);
    forget(batch, project, id);
    batch.set(keys::dead_run(project, staged.number), Vec::new());
}

fn forget(batch: &mut Batch, project: Project, id: &RunId) {
    batch.clear(keys::staged(project, id)).clear(keys::staged_progress(project, id));
}

/// Abandons the restores that started before `before_us`. Returns how many there were.
pub async fn staged_drop_old(store: &dyn Store, project: Project, before_us: i64) -> Result<usize> {
    let rows = rows::scan_all(&*store.snapshot().await?, &keys::staged_all(project)).await?;
    let start = keys::staged_all(project).start;
    let mut dropped = 0;
    for (key, _) in &rows {
        let (id, row): (String, u16) = keys::tail(&start, key)?;
        // Row 1 is the progress of the same restore.
        if row == 0 {
            dropped += usize::from(drop_if_old(store, project, &RunId::new(id), before_us).await?);
        }
    }
    Ok(dropped)
}

async fn drop_if_old(store: &dyn Store, project: Project, id: &RunId, before_us: i64) -> Result<bool> {
    let (is_old, _) = transact(store, async |mut transaction: Transaction| {
        let staged = staged_get(transaction.unchecked(), project, id).await?;
        let old = staged.filter(|staged| staged.begun_us < before_us);
        if let Some(staged) = &old {
            staged_drop(transaction.batch(), project, id, staged);
        }
        Ok::<_, matyan_store::Error>((transaction, old.is_some()))
    })
    .await?;
    Ok(is_old)
}

/// Makes a restored run live. The caller must have found the head absent, and must check that
/// in the transaction.
pub async fn staged_link(
    transaction: &mut Transaction,
    project: Project,
    id: &RunId,
    staged: &StagedRun,
    (props, params): (Props, Map),
) -> Result<()> {
    let parent = props.parent;
    let params_list = UncollectedList::read(transaction.unchecked(), CohortKind::Params, project).await?;
    let mut edit = RunEdit::create(project, staged.number, props, params_list);
    if let Some(parent) = parent
        && let Some(parent_id) =
            run_id_get(transaction.unchecked(), project, RunNumber(parent.number)).await?
    {
        edit.set_parent(parent, parent_id);
    }
    *edit.params(transaction.unchecked()).await? = params;
    let metrics_list = UncollectedList::read(transaction.unchecked(), CohortKind::Metrics, project).await?;
    let batch = transaction.batch();
    staged.expect(batch, project, id);
    forget(batch, project, id);
    batch.set(keys::head(project, id), Head::Live(staged.number).encode());
    batch.set(keys::origin(project, staged.number), rows::encode(&ByteArray::from(staged.source)));
    batch.add(keys::project_counter(project, Counter::Runs), 1);
    edit.write(batch);
    // A migration lists only runs with documents, and an older program may have folded this one.
    metrics_list.put(batch, staged.number, Vec::new());
    Ok(())
}

/// The source that a run was restored from, if it was restored.
pub async fn origin_get(
    snapshot: &dyn Snapshot,
    project: Project,
    number: RunNumber,
) -> Result<Option<[u8; 32]>> {
    let origin: Option<ByteArray<32>> = rows::get(snapshot, &keys::origin(project, number)).await?;
    Ok(origin.map(Into::into))
}
