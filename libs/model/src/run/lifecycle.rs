//! Lifecycle of a run id: created, deleted, swept, and possibly recreated. The head of the id
//! outlives every run number. Deleting a run unlinks its number in one transaction. The rows under
//! the dead number are ignored from then on, and cleared later, in steps.

use matyan_proto::log::v1::{RunDeleted, control_event};
use matyan_store::{Batch, Commit, Error, Range, Result, Scan, Snapshot, Store, Transaction};

use super::head::{Head, Tombstone, head_checked, head_get};
use super::{Props, RunEdit, WritingState, document_get, run_id_get};
use crate::{
    branch::{branch_clear, has_sharers, hiding_put},
    change::{self, ChangedPoints},
    cohort::{CohortKind, cohort_leave},
    entity::{NoteOwner, notes_clear},
    events,
    ids::{Project, RunId, RunNumber},
    keys::{self, Counter, SeriesKind},
    parked::restored_items_clear,
    position::LogPosition,
    rows,
    series::{RunRef, hiding_series},
    uncollected::UncollectedList,
};

/// Creates a run. The caller must have found the head of the id absent and check that in the
/// transaction, and must write the returned edit.
pub async fn run_create(
    transaction: &mut Transaction,
    project: Project,
    id: &RunId,
    created_us: i64,
) -> Result<RunEdit> {
    let number = number_assign(transaction, project, id, created_us).await?;
    let list = UncollectedList::read(transaction.unchecked(), CohortKind::Params, project).await?;
    let batch = transaction.batch();
    batch.set(keys::head(project, id), Head::Live(number).encode());
    batch.add(keys::project_counter(project, Counter::Runs), 1);
    Ok(RunEdit::create(project, number, Props::new(id.as_str(), created_us), list))
}

/// Assigns an unused run number to a run id.
pub(super) async fn number_assign(
    transaction: &mut Transaction,
    project: Project,
    id: &RunId,
    created_us: i64,
) -> Result<RunNumber> {
    // Numbers start at 1, because 0 means no run.
    let first = u64::try_from(created_us).unwrap_or_default().max(1);
    let number = RunNumber(number_free(transaction.unchecked(), project, first).await?);
    let batch = transaction.batch();
    batch.expect(keys::number(project, number), None);
    batch.set(keys::number(project, number), rows::encode(&id.as_str()));
    Ok(number)
}

/// A free number, `first` or higher. Runs created in the same microsecond have consecutive
/// numbers, so the end of the sequence is found by exponential and then binary search.
async fn number_free(snapshot: &dyn Snapshot, project: Project, first: u64) -> Result<u64> {
    let mut taken = first;
    if !number_is_taken(snapshot, project, taken).await? {
        return Ok(first);
    }
    let mut step = 1;
    while number_is_taken(snapshot, project, taken + step).await? {
        taken += step;
        step *= 2;
    }
    let mut free = taken + step;
    while free - taken > 1 {
        let middle = taken + (free - taken) / 2;
        if number_is_taken(snapshot, project, middle).await? {
            taken = middle;
        } else {
            free = middle;
        }
    }
    Ok(free)
}

async fn number_is_taken(snapshot: &dyn Snapshot, project: Project, number: u64) -> Result<bool> {
    Ok(snapshot.get(&keys::number(project, RunNumber(number))).await?.is_some())
}

/// The details of a delete.
#[derive(Clone, Copy, Debug)]
pub struct Deletion<'a> {
    pub at: LogPosition,
    pub time_us: i64,
    /// When it is applied.
    pub now_us: i64,
    pub caller: &'a str,
    /// Name of the project, for the control event.
    pub project_name: &'a str,
}

/// Unlinks the run, if there is one, and writes a tombstone, which it returns. The caller has
/// read `head`, and checks it in the transaction.
pub async fn run_delete(
    transaction: &mut Transaction,
    project: Project,
    id: &RunId,
    head: Option<&Head>,
    deletion: Deletion<'_>,
) -> Result<Head> {
    let number = match head {
        Some(Head::Tombstone(tombstone)) => return Ok(Head::Tombstone(*tombstone)),
        Some(Head::Live(number)) => Some(*number),
        None => None,
    };
    let mut cleared = Batch::default();
    if let Some(number) = number
        && let Some(edit) = RunEdit::load(transaction, project, number).await?
    {
        edit.clear(transaction.unchecked(), &mut cleared).await?;
    }
    transaction.batch().append(cleared);
    Ok(unlink(transaction.batch(), project, id, number, deletion))
}

/// Deletes a run whose rows may be damaged. If its document cannot be read, the rows of the indexes that
/// list runs are cleared for all their values, because some readers only count these rows. Readers ignore
/// the other index rows, and the repair of indexes clears them. The caller has read the head, and checks
/// it in the transaction.
pub async fn damaged_run_delete(
    transaction: &mut Transaction,
    project: Project,
    id: &RunId,
    number: Option<RunNumber>,
    deletion: Deletion<'_>,
) -> Result<()> {
    if let Some(number) = number {
        let mut cleared = Batch::default();
        let edit = RunEdit::load(transaction, project, number).await;
        let is_cleared = match edit {
            Ok(Some(edit)) => edit.clear(transaction.unchecked(), &mut cleared).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        match is_cleared {
            Ok(()) => {
                transaction.batch().append(cleared);
            }
            Err(Error::Corrupt { .. }) => {
                let snapshot = transaction.unchecked();
                let mut removed = Batch::default();
                let list = UncollectedList::read(snapshot, CohortKind::Params, project).await?;
                list.remove(snapshot, &mut removed, number).await?;
                let batch = transaction.batch().append(removed);
                batch.clear(keys::document(project, number));
                batch.clear(keys::indexed_params(project, number));
                for value in [false, true] {
                    batch.clear(keys::index_archived(project, value, number));
                    batch.clear(keys::index_active(project, value, number));
                }
            }
            Err(error) => return Err(error),
        }
    }
    unlink(transaction.batch(), project, id, number, deletion);
    Ok(())
}

/// The last number of a run id whose head is damaged, if the run was not deleted before.
pub async fn number_find(store: &dyn Store, project: Project, id: &RunId) -> Result<Option<RunNumber>> {
    let all = keys::numbers(project);
    let mut rest = Some(all.clone());
    let mut found = None;
    while let Some(range) = rest {
        let page = store.snapshot().await?.scan(&range, Scan::default()).await?;
        for (key, value) in &page.rows {
            if rows::decode::<&str>(key, value).is_ok_and(|of| of == id.as_str()) {
                let (number,) = keys::tail(&all.start, key)?;
                found = Some(RunNumber(number));
            }
        }
        rest = page.rows.last().filter(|_| page.more).map(|(last, _)| range.after(last));
    }
    let Some(number) = found else { return Ok(None) };
    let snapshot = store.snapshot().await?;
    let rows = [keys::document(project, number), keys::writing(project, number)];
    let is_live = snapshot.get_many(&rows).await?.iter().any(Option::is_some);
    Ok(is_live.then_some(number))
}

/// Writes the tombstone, and what makes others clear the rest of the run.
fn unlink(
    batch: &mut Batch,
    project: Project,
    id: &RunId,
    number: Option<RunNumber>,
    deletion: Deletion<'_>,
) -> Head {
    if let Some(number) = number {
        batch.set(keys::dead_run(project, number), Vec::new());
        batch.add(keys::project_counter(project, Counter::Runs), -1);
        let by = (deletion.now_us, deletion.caller);
        change::points_change_put(batch, project, number, by, ChangedPoints::Any);
    }
    let event = RunDeleted {
        run_id: id.as_str().to_owned(),
        run_number: number.unwrap_or_default().0,
        blob_keys: Vec::new(),
    };
    let kind = control_event::Kind::RunDeleted(event);
    events::event_put(batch, deletion.project_name, deletion.time_us, deletion.caller, kind);
    let tombstone = Tombstone {
        number: number.map(|number| number.0),
        at: deletion.at,
        deleted_us: deletion.time_us,
        blobs_deleted: false,
    };
    tombstone_put(batch, project, id, tombstone);
    Head::Tombstone(tombstone)
}

pub fn tombstone_put(batch: &mut Batch, project: Project, id: &RunId, tombstone: Tombstone) {
    batch.set(keys::head(project, id), Head::Tombstone(tombstone).encode());
    batch.set(keys::tombstone(project, id), Vec::new());
}

/// Hides a run whose delete has been appended to the log. Only the run number that was live at
/// that time is hidden: a new run with the same id would stay hidden forever. Returns whether
/// the run was hidden.
pub async fn pending_delete_put(
    transaction: &mut Transaction,
    project: Project,
    id: &RunId,
    number: RunNumber,
) -> Result<bool> {
    if head_checked(transaction, project, id).await? != Some(Head::Live(number)) {
        return Ok(false);
    }
    let Some(mut edit) = RunEdit::load(transaction, project, number).await? else { return Ok(false) };
    edit.props.pending_delete = true;
    // It cannot be brought back any more.
    edit.props.binned_us = None;
    edit.write(transaction.batch());
    Ok(true)
}

/// Records that the blob store has nothing left under the id of a deleted run. Returns `false`
/// if the id is live, or was deleted as another run number.
pub async fn blobs_deleted_put(
    transaction: &mut Transaction,
    project: Project,
    id: &RunId,
    number: RunNumber,
) -> Result<bool> {
    let Some(Head::Tombstone(tombstone)) = head_checked(transaction, project, id).await? else {
        return Ok(false);
    };
    if tombstone.number.unwrap_or_default() != number.0 {
        return Ok(false);
    }
    tombstone_put(transaction.batch(), project, id, Tombstone { blobs_deleted: true, ..tombstone });
    Ok(true)
}

/// Result of a request to clear a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClearOutcome {
    /// The id is free: the next record creates a run.
    Free,
    /// The run is live and not pending deletion.
    Live,
    /// Retry later: the delete has yet to be applied, or blobs have yet to be deleted.
    Waiting,
}

/// Frees the id of a deleted run. [`tombstones_list`] still finds it as a freed id, so that a sweep can clear
/// what else is left of the id.
pub async fn tombstone_clear(
    transaction: &mut Transaction,
    project: Project,
    id: &RunId,
) -> Result<ClearOutcome> {
    match head_checked(transaction, project, id).await? {
        None => Ok(ClearOutcome::Free),
        Some(Head::Live(number)) => {
            let document = document_get(transaction.unchecked(), project, number).await?;
            let is_pending = document.is_some_and(|document| document.props.is_deleted());
            Ok(if is_pending { ClearOutcome::Waiting } else { ClearOutcome::Live })
        }
        Some(Head::Tombstone(tombstone)) if !tombstone.blobs_deleted => Ok(ClearOutcome::Waiting),
        Some(Head::Tombstone(tombstone)) => {
            transaction.batch().clear(keys::head(project, id));
            transaction.batch().set(keys::tombstone(project, id), rows::encode(&tombstone));
            Ok(ClearOutcome::Free)
        }
    }
}

/// A page of the tombstones of a project.
#[derive(Default)]
pub struct TombstonesPage {
    pub tombstones: Vec<(RunId, Tombstone)>,
    /// Ids that were freed and may have rows left, with their cleared tombstones.
    pub freed: Vec<(RunId, Tombstone)>,
    /// The range of the rest.
    pub rest: Option<Range>,
}

pub async fn tombstones_list(
    snapshot: &dyn Snapshot,
    project: Project,
    range: &Range,
) -> Result<TombstonesPage> {
    let prefix = keys::tombstones(project).start;
    let rows = snapshot.scan(range, Scan { rows: 1_000, ..Scan::default() }).await?;
    let mut page = TombstonesPage::default();
    for (key, value) in &rows.rows {
        let (id,): (String,) = keys::tail(&prefix, key)?;
        let id = RunId::new(id);
        match rows::readable(head_get(snapshot, project, &id).await)? {
            Some(Some(Head::Tombstone(tombstone))) => page.tombstones.push((id, tombstone)),
            Some(Some(Head::Live(_)) | None) => {
                let cleared = rows::readable(rows::decode(key, value))?;
                page.freed.extend(cleared.map(|tombstone| (id, tombstone)));
            }
            None => {}
        }
    }
    page.rest = rows.rows.last().filter(|_| rows.more).map(|(last, _)| range.after(last));
    Ok(page)
}

/// Up to a page of dead run numbers whose rows have yet to be swept.
pub async fn dead_runs_list(snapshot: &dyn Snapshot, project: Project) -> Result<Vec<RunNumber>> {
    let range = keys::dead_runs(project);
    let page = snapshot.scan(&range, Scan { rows: 1_000, ..Scan::default() }).await?;
    page.rows
        .iter()
        .map(|(key, _)| keys::tail(&range.start, key).map(|(number,)| RunNumber(number)))
        .collect()
}

/// Number of rows cleared in one step of a sweep. This bounds the work in stores whose range
/// clears cost time per row.
const SWEEP_ROWS: usize = 2_000;

/// Clears some of the rows under a dead run number. Returns `true` when none are left. Safe to
/// repeat, also after a conflict.
pub async fn sweep_step(store: &dyn Store, project: Project, number: RunNumber) -> Result<bool> {
    let transaction = Transaction::new(store.snapshot().await?);
    let (batch, is_done) = sweep_batch(transaction, project, number, store.clears_ranges_at_once()).await?;
    Ok(matches!(store.commit(batch).await?, Commit::Done { .. }) && is_done)
}

async fn sweep_batch(
    mut transaction: Transaction,
    project: Project,
    number: RunNumber,
    clears_at_once: bool,
) -> Result<(Batch, bool)> {
    let leaves_metrics = cohort_leave(&mut transaction, CohortKind::Metrics, project, number).await?;
    if cohort_leave(&mut transaction, CohortKind::Params, project, number).await? || leaves_metrics {
        return Ok((transaction.into_batch(), false));
    }
    // The next step subtracts the run from the project counters. Clearing the row in the
    // same transaction ensures that this happens once.
    let writing = keys::writing(project, number);
    if let Some(value) = transaction.get(&writing).await? {
        let counted = rows::decode::<WritingState>(&writing, &value);
        let batch = transaction.batch();
        // If it is damaged, its counts are lost; its other rows are cleared all the same.
        for (counter, count) in counted.iter().flat_map(WritingState::project_counters) {
            batch.add(keys::project_counter(project, counter), -count);
        }
        batch.clear(writing);
        let hiding = if has_sharers(transaction.unchecked(), project, number).await? {
            hiding_series(transaction.unchecked(), RunRef { project, number }).await
        } else {
            Ok(Vec::new())
        };
        match hiding {
            Ok(hiding) => hiding_put(transaction.batch(), project, number, &hiding),
            // Its rows are cleared all the same.
            Err(Error::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
        return Ok((transaction.into_batch(), false));
    }
    // Without the values, because chunks may have been moved to their own files.
    let scan = Scan { rows: SWEEP_ROWS, keys_only: true, ..Scan::default() };
    // Index rows of series names are not under the run number. They are cleared along with the rows
    // that they follow from.
    for kind in [SeriesKind::Metric, SeriesKind::Object] {
        let range = keys::series_names(project, number, kind);
        let page = transaction.unchecked().scan(&range, scan).await?;
        let Some((last, _)) = page.rows.last() else { continue };
        let cleared = Range::new(range.start.clone(), range.after(last).start);
        for (key, _) in &page.rows {
            let name = keys::decode_series_name(&range, key)?;
            transaction.batch().clear(keys::index_series_name(project, kind, &name, number));
        }
        transaction.batch().clear_range(cleared);
        return Ok((transaction.into_batch(), false));
    }
    if !notes_clear(&mut transaction, project, &NoteOwner::Run(number.0)).await? {
        return Ok((transaction.into_batch(), false));
    }
    let id = run_id_get(transaction.unchecked(), project, number).await?;
    if let Some(id) = id
        && !restored_items_clear(&mut transaction, project, &id, number).await?
    {
        return Ok((transaction.into_batch(), false));
    }
    // All other rows are cleared without being decoded.
    let range = keys::run_rows(project, number);
    if clears_at_once {
        transaction.batch().clear_range(range);
    } else {
        let page = transaction.scan(&range, scan).await?;
        if let Some((last, _)) = page.rows.last() {
            transaction.batch().clear_range(Range::new(range.start.clone(), range.after(last).start));
            return Ok((transaction.into_batch(), false));
        }
    }
    let mut cleared = Batch::default();
    branch_clear(transaction.unchecked(), &mut cleared, project, number).await?;
    let batch = transaction.batch();
    batch.append(cleared);
    for key in [keys::dead_run, keys::unfolded] {
        batch.clear(key(project, number));
    }
    Ok((transaction.into_batch(), true))
}
