//! Edits of series: a series gets another name or context, or loses points or objects. Only ingestion
//! applies them, in the order of the log, like all other rows that ingestion writes to a run.
//!
//! The rows of a series contain its number, so a rename changes only the rows that name it. The number
//! of a deleted series is not reused. The outcome of an edit is kept as long as the run, so that a
//! repeated request finds it.

use matyan_store::{Batch, Range, Result, Scan, Snapshot};
use matyan_value::Context;
use minicbor::{Decode, Encode};

use crate::{
    cohort::uncollected_put,
    ids::SeriesNumber,
    keys::{self, SeriesKind},
    metric::{metric_header_get, metric_header_put},
    object::{ObjectHeader, object_header_put, objects_between},
    rows,
    series::{Removal, RunRef, StepRange},
};

/// Outcome of an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum SeriesEditOutcome {
    #[n(0)]
    Done,
    /// The run has no such series.
    #[n(1)]
    NoSeries,
    /// The run has a series with the new name.
    #[n(2)]
    NameTaken,
    /// The run is a branch, and shares the steps with its parent.
    #[n(3)]
    SharedSteps,
}

/// Name and context of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesName {
    pub kind: SeriesKind,
    pub name: String,
    pub context: Context,
}

/// Objects removed in one transaction.
const OBJECTS: Scan = Scan { rows: 5_000, bytes: 4 << 20, ..Scan::DEFAULT };

pub async fn series_edit_outcome(
    snapshot: &dyn Snapshot,
    run: RunRef,
    id: &[u8; 16],
) -> Result<Option<SeriesEditOutcome>> {
    rows::get(snapshot, &keys::series_edit(run.project, run.number, id)).await
}

pub fn series_edit_outcome_put(batch: &mut Batch, run: RunRef, id: &[u8; 16], outcome: SeriesEditOutcome) {
    batch.set(keys::series_edit(run.project, run.number, id), rows::encode(&outcome));
}

pub async fn series_find(
    snapshot: &dyn Snapshot,
    run: RunRef,
    name: &SeriesName,
) -> Result<Option<SeriesNumber>> {
    Ok(rows::get(snapshot, &name.key(run)).await?.map(SeriesNumber))
}

impl SeriesName {
    fn key(&self, run: RunRef) -> matyan_store::Key {
        keys::series_by_name(run.project, run.number, self.kind, &self.name, &self.context.digest())
    }
}

/// Renames a series. The new name must be free, and of the same kind.
pub async fn series_rename(
    snapshot: &dyn Snapshot,
    batch: &mut Batch,
    run: RunRef,
    series: SeriesNumber,
    (old, new): (&SeriesName, &SeriesName),
) -> Result<()> {
    let project = run.project;
    let number = run.number;
    let name = new.name.clone();
    let context = new.context.stored().to_owned();
    match old.kind {
        SeriesKind::Metric => {
            let header = metric_header_get(snapshot, project, number, series).await?;
            let mut header = header.ok_or_else(|| no_header(old.key(run)))?;
            header.name = name;
            header.context = context;
            metric_header_put(batch, project, number, series, &header);
            uncollected_put(snapshot, batch, project, number).await?;
        }
        SeriesKind::Object => {
            let mut header = object_header(snapshot, run, series).await?;
            header.name = name;
            header.context = context;
            object_header_put(batch, project, number, series, &header);
        }
    }
    unlink(snapshot, batch, run, old).await?;
    batch.set(new.key(run), rows::encode(&series.0));
    batch.set(keys::index_series_name(project, new.kind, &new.name, number), Vec::new());
    Ok(())
}

/// Deletes the rows that name a series. Its points or objects must be removed as well.
pub async fn series_drop(
    snapshot: &dyn Snapshot,
    batch: &mut Batch,
    run: RunRef,
    series: SeriesNumber,
    name: &SeriesName,
) -> Result<()> {
    if name.kind == SeriesKind::Metric {
        uncollected_put(snapshot, batch, run.project, run.number).await?;
    }
    batch.clear(match name.kind {
        SeriesKind::Metric => keys::series_header(run.project, run.number, series),
        SeriesKind::Object => keys::object_header(run.project, run.number, series),
    });
    unlink(snapshot, batch, run, name).await
}

/// Removes a name from the run, and from the index if no other context has it.
async fn unlink(snapshot: &dyn Snapshot, batch: &mut Batch, run: RunRef, name: &SeriesName) -> Result<()> {
    let project = run.project;
    let number = run.number;
    batch.clear(name.key(run));
    let named = keys::series_of_name(project, number, name.kind, &name.name);
    let named = snapshot.scan(&named, Scan { rows: 2, ..Scan::default() }).await?;
    if named.rows.iter().all(|(key, _)| *key == name.key(run)) {
        batch.clear(keys::index_series_name(project, name.kind, &name.name, number));
    }
    Ok(())
}

/// Removes objects of a series, as many as fit in a transaction.
pub async fn remove_objects(
    snapshot: &dyn Snapshot,
    batch: &mut Batch,
    run: RunRef,
    series: SeriesNumber,
    steps: StepRange,
) -> Result<Removal> {
    let mut header = object_header(snapshot, run, series).await?;
    let all = keys::objects(run.project, run.number, series);
    if steps.covers(&StepRange::new(header.first_step, header.last_step)) {
        batch.clear_range(all);
        return Ok(Removal::Emptied);
    }
    let range = objects_between(run.project, run.number, series, steps.first, steps.last);
    let page = snapshot.scan(&range, OBJECTS).await?;
    let Some((last, _)) = page.rows.last() else { return Ok(Removal::Done) };
    let rest = Range::new(range.after(last).start, all.end.clone());
    batch.clear_range(Range::new(range.start.clone(), rest.start.clone()));
    header.count = header.count.saturating_sub(page.rows.len() as u64);
    let before = Range::new(all.start.clone(), range.start.clone());
    if steps.first <= header.first_step
        && let Some(first) = end_step(snapshot, run, series, &rest, false).await?
    {
        header.first_step = first;
    }
    if steps.last >= header.last_step
        && !page.more
        && let Some(last) = end_step(snapshot, run, series, &before, true).await?
    {
        header.last_step = last;
    }
    object_header_put(batch, run.project, run.number, series, &header);
    Ok(if page.more { Removal::InProgress } else { Removal::Done })
}

/// The first or the last step in a range of objects.
async fn end_step(
    snapshot: &dyn Snapshot,
    run: RunRef,
    series: SeriesNumber,
    range: &Range,
    reverse: bool,
) -> Result<Option<i64>> {
    let page = snapshot.scan(range, Scan { rows: 1, reverse, ..Scan::default() }).await?;
    let Some((key, _)) = page.rows.first() else { return Ok(None) };
    let (step,) = keys::tail(&keys::objects(run.project, run.number, series).start, key)?;
    Ok(Some(step))
}

async fn object_header(snapshot: &dyn Snapshot, run: RunRef, series: SeriesNumber) -> Result<ObjectHeader> {
    let key = keys::object_header(run.project, run.number, series);
    rows::get(snapshot, &key).await?.ok_or_else(|| no_header(key))
}

fn no_header(key: matyan_store::Key) -> matyan_store::Error {
    rows::corrupt(&key, &"a named series has no header")
}
