//! Edits of series. An edit is an item of the run's log: earlier items are applied, and later items are not,
//! so the edit can be applied to the stored rows.
//!
//! To delete steps, the run is folded first, because only chunks can lose points. Then chunks are dropped, a
//! few in each transaction, before the transaction that moves the cursor past the edit. Each of these
//! transactions expects the cursor, so a worker that has lost the run changes nothing. Each leaves a valid
//! series, so an edit can be interrupted and repeated.

use matyan_model::{
    branch::branch_get,
    ids::{RunNumber, SeriesNumber},
    keys::{self, SeriesKind},
    run::Head,
    series::{FoldStatus, LiveRow, Removal, RunRef, StepRange, StepRemoval, fold_run, remove_folded_steps},
    series_edit::{
        SeriesEditOutcome, SeriesName, remove_objects, series_drop, series_edit_outcome,
        series_edit_outcome_put, series_find, series_rename,
    },
};
use matyan_proto::{
    common::v1 as common,
    ingest::v1::{self as pb, edit_series::Edit, event::Kind},
    limits,
};
use matyan_store::{Batch, Snapshot};
use matyan_value::Context;

use crate::{
    apply::{
        apply_failure::ApplyFailure,
        decoded_record::DecodedRecord,
        failure::isolate::AttemptMode,
        run_key::RunKey,
        run_state::RunState,
        transaction::{RunTransaction, commit_at_cursor},
    },
    deps::Deps,
};

/// An edit of an event, checked.
pub(crate) struct SeriesEdit {
    id: [u8; 16],
    series: SeriesName,
    change: SeriesChange,
}

enum SeriesChange {
    Rename(SeriesName),
    RemoveSteps(StepRange),
}

/// Effect of an edit on a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EditEffect {
    /// The edit was applied before, or is refused.
    None,
    Changed,
    /// The series is gone.
    Dropped,
}

impl SeriesEdit {
    pub(crate) fn parse(edit: &pb::EditSeries) -> Result<Self, String> {
        let id = edit.id.as_ref().try_into().map_err(|_| "the edit has no id of 16 bytes".to_owned())?;
        let kind = if edit.objects { SeriesKind::Object } else { SeriesKind::Metric };
        let series = series_name(kind, edit.key.as_ref())?;
        let change = match &edit.edit {
            Some(Edit::NewKey(key)) => SeriesChange::Rename(series_name(kind, Some(key))?),
            Some(Edit::DeletedSteps(steps)) => SeriesChange::RemoveSteps((*steps).into()),
            None => return Err("the edit is of an unknown kind".to_owned()),
        };
        Ok(Self { id, series, change })
    }

    /// Applies the edit as far as `prepare` has left it to the transaction.
    pub(crate) async fn apply(
        &self,
        transaction: &mut RunTransaction<'_>,
        number: RunNumber,
    ) -> Result<EditEffect, ApplyFailure> {
        let run = RunRef { project: transaction.project(), number };
        let mut batch = Batch::default();
        let effect = self.write(transaction, &mut batch, run).await?;
        transaction.batch().append(batch);
        Ok(effect)
    }

    async fn write(
        &self,
        transaction: &RunTransaction<'_>,
        batch: &mut Batch,
        run: RunRef,
    ) -> Result<EditEffect, ApplyFailure> {
        let snapshot = transaction.snapshot();
        if series_edit_outcome(snapshot, run, &self.id).await?.is_some() {
            return Ok(EditEffect::None);
        }
        let Some(series) = series_find(snapshot, run, &self.series).await? else {
            series_edit_outcome_put(batch, run, &self.id, SeriesEditOutcome::NoSeries);
            return Ok(EditEffect::None);
        };
        if self.removes_shared_steps(snapshot, run, series).await? {
            series_edit_outcome_put(batch, run, &self.id, SeriesEditOutcome::SharedSteps);
            return Ok(EditEffect::None);
        }
        let effect = match &self.change {
            SeriesChange::Rename(new) => {
                if series_find(snapshot, run, new).await?.is_some() {
                    series_edit_outcome_put(batch, run, &self.id, SeriesEditOutcome::NameTaken);
                    return Ok(EditEffect::None);
                }
                series_rename(snapshot, batch, run, series, (&self.series, new)).await?;
                EditEffect::Changed
            }
            SeriesChange::RemoveSteps(steps) => {
                // Expected, so that a fold that started before does not write the removed points.
                let fold_row = keys::fold(run.project, run.number);
                batch.expect(fold_row.clone(), snapshot.get(&fold_row).await?);
                if run.has_blocks(snapshot).await? {
                    return Err(ApplyFailure::Conflict);
                }
                match self.remove(snapshot, batch, run, (series, *steps), transaction.now_us()).await? {
                    // Another attempt prepares the rest.
                    Removal::InProgress => return Err(ApplyFailure::Conflict),
                    Removal::Done => EditEffect::Changed,
                    // The steps that the series shares with an ancestor remain.
                    Removal::Emptied
                        if *steps != StepRange::ALL
                            && self.last_shared_step(snapshot, run, series).await?.is_some() =>
                    {
                        EditEffect::Changed
                    }
                    Removal::Emptied => {
                        series_drop(snapshot, batch, run, series, &self.series).await?;
                        EditEffect::Dropped
                    }
                }
            }
        };
        series_edit_outcome_put(batch, run, &self.id, SeriesEditOutcome::Done);
        Ok(effect)
    }

    /// Whether the edit removes some of the steps that a branch shares with an ancestor. Shared steps do not
    /// belong to the branch, and if its first own steps were removed, it would share more steps. All steps
    /// can be removed, because the branch then loses the series.
    async fn removes_shared_steps(
        &self,
        snapshot: &dyn Snapshot,
        run: RunRef,
        series: SeriesNumber,
    ) -> Result<bool, ApplyFailure> {
        let SeriesChange::RemoveSteps(steps) = self.change else { return Ok(false) };
        let last = self.last_shared_step(snapshot, run, series).await?;
        Ok(steps != StepRange::ALL && last.is_some_and(|last| steps.first <= last))
    }

    async fn last_shared_step(
        &self,
        snapshot: &dyn Snapshot,
        run: RunRef,
        series: SeriesNumber,
    ) -> Result<Option<i64>, ApplyFailure> {
        if self.series.kind == SeriesKind::Object {
            return Ok(None);
        }
        Ok(branch_get(snapshot, run.project, run.number).await?.last_shared_step(series))
    }

    async fn remove(
        &self,
        snapshot: &dyn Snapshot,
        batch: &mut Batch,
        run: RunRef,
        (series, steps): (SeriesNumber, StepRange),
        now_us: i64,
    ) -> Result<Removal, ApplyFailure> {
        Ok(match self.series.kind {
            SeriesKind::Metric => {
                remove_folded_steps(snapshot, batch, StepRemoval { run, series, steps, now_us }).await?
            }
            SeriesKind::Object => remove_objects(snapshot, batch, run, series, steps).await?,
        })
    }
}

/// If the next item is an edit, does the work that precedes its last transaction.
pub(crate) async fn prepare(
    deps: &Deps,
    run: &RunKey,
    state: &RunState,
    records: &mut [DecodedRecord],
    mode: &AttemptMode,
) -> Result<(), ApplyFailure> {
    let next = records
        .iter_mut()
        .find_map(|record| state.cursor.next_item(record.entry.position).map(|item| (record, item)));
    let Some((record, item)) = next else { return Ok(()) };
    let Some(Kind::EditSeries(edit)) = record.event(item).and_then(|event| event.kind.as_ref()) else {
        return Ok(());
    };
    if let (AttemptMode::Apply { .. }, Some(number), Ok(edit)) =
        (mode, state.live_number(), SeriesEdit::parse(edit))
        && let SeriesChange::RemoveSteps(steps) = edit.change
    {
        let run_ref = RunRef { project: run.project, number };
        fold_all(deps, run, run_ref).await?;
        while remove_ahead(deps, run, state, run_ref, &edit, steps).await? {}
    }
    record.prepared_edit = Some(item);
    Ok(())
}

async fn fold_all(deps: &Deps, run: &RunKey, run_ref: RunRef) -> Result<(), ApplyFailure> {
    let live = LiveRow { key: keys::head(run.project, &run.id), value: Head::Live(run_ref.number).encode() };
    // Superseded: the fold thread is folding the run, too.
    while fold_run(&*deps.store, run_ref, &live, false, &|| deps.now_us()).await? == FoldStatus::Superseded {}
    Ok(())
}

/// Removes steps in a separate transaction, unless they fit in the transaction that applies the edit.
async fn remove_ahead(
    deps: &Deps,
    run: &RunKey,
    state: &RunState,
    run_ref: RunRef,
    edit: &SeriesEdit,
    steps: StepRange,
) -> Result<bool, ApplyFailure> {
    let snapshot = deps.store.snapshot().await?;
    let snapshot = snapshot.as_ref();
    if series_edit_outcome(snapshot, run_ref, &edit.id).await?.is_some() {
        return Ok(false);
    }
    let Some(series) = series_find(snapshot, run_ref, &edit.series).await? else { return Ok(false) };
    if edit.removes_shared_steps(snapshot, run_ref, series).await? {
        return Ok(false);
    }
    let mut batch = Batch::buffered();
    let removal = edit.remove(snapshot, &mut batch, run_ref, (series, steps), deps.now_us()).await?;
    if removal != Removal::InProgress {
        return Ok(false);
    }
    batch.expect(keys::head(run.project, &run.id), Some(Head::Live(run_ref.number).encode()));
    let fold_row = keys::fold(run_ref.project, run_ref.number);
    batch.expect(fold_row.clone(), snapshot.get(&fold_row).await?);
    commit_at_cursor(deps, run, state.cursor.row(), batch).await?;
    Ok(true)
}

fn series_name(kind: SeriesKind, key: Option<&common::SeriesKey>) -> Result<SeriesName, String> {
    let key = key.ok_or("the edit names no series")?;
    if key.name.len() > limits::NAME_BYTES || key.context.len() > limits::CONTEXT_BYTES {
        return Err("the edit has a name or a context that is too long".to_owned());
    }
    let context = Context::parse(&key.context).map_err(|error| error.to_string())?;
    Ok(SeriesName { kind, name: key.name.clone(), context })
}
