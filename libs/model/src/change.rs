//! Change feed: every transaction that touches a run adds a row, in commit order, from which
//! watches are served. Rows are kept for an hour, and at most about `MAX_CHANGES` in a project; one reader
//! per process tails them. A reader whose position was dropped starts again.
//!
//! The rows are never counted. Instead, marks record the counter of all changes from time to time, and the
//! rows before a mark are dropped once enough changes have followed it.

use std::ops;

use matyan_store::{Batch, Range, Result, Scan, Snapshot, Stamp, Store};
use minicbor::{Decode, Encode};

use crate::{
    entity,
    ids::{Project, RunNumber},
    keys, rows,
};

/// Retention of changes, in microseconds.
pub const RETENTION_US: i64 = 3_600_000_000;

/// Changes of a project that are kept, if there are more of them within the retention: some 200 MB.
pub const MAX_CHANGES: u64 = 2_000_000;

/// Marks of the counter for as many changes as are kept.
const MARKS: u64 = 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub stamp: Stamp,
    pub number: RunNumber,
    /// When it was written, by the clock of the writer: a record may have waited in the log.
    pub time_us: i64,
    /// The caller who made the change; empty until access control exists.
    pub caller: String,
    /// The lowest step of the points of metrics that were added, changed or removed; the largest number
    /// if there are none. Branches share points up to a step.
    pub first_step: i64,
}

/// The points that a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangedPoints {
    None,
    /// Points from a step on.
    From(i64),
    Any,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct ChangeRow {
    #[n(0)]
    time_us: i64,
    #[n(1)]
    caller: String,
    /// Absent in rows of earlier versions.
    #[n(2)]
    first_step: Option<i64>,
}

/// A mark of the counter of changes.
#[derive(Encode, Decode)]
#[cbor(array)]
struct CounterMarkRow {
    /// The number of all changes up to the mark, including those that have been dropped.
    #[n(0)]
    changes: u64,
}

struct CounterMark {
    /// The last stamp before the mark.
    stamp: Stamp,
    changes: u64,
}

/// The changes that a trim keeps.
#[derive(Clone, Debug)]
pub struct KeptChanges {
    pub times_us: ops::Range<i64>,
    /// At most about this many.
    pub count: u64,
}

impl ChangeRow {
    /// A change of anything, which is trimmed next.
    const UNKNOWN: Self = Self { time_us: i64::MIN, caller: String::new(), first_step: None };
}

/// Records that this batch touches a run, but no points of metrics. A batch may record one change of a
/// run.
pub fn change_put(batch: &mut Batch, project: Project, number: RunNumber, time_us: i64, caller: &str) {
    points_change_put(batch, project, number, (time_us, caller), ChangedPoints::None);
}

/// Records that this batch touches a run and some of its points.
pub fn points_change_put(
    batch: &mut Batch,
    project: Project,
    number: RunNumber,
    (time_us, caller): (i64, &str),
    points: ChangedPoints,
) {
    let first_step = match points {
        ChangedPoints::None => i64::MAX,
        ChangedPoints::From(step) => step,
        ChangedPoints::Any => i64::MIN,
    };
    let row = ChangeRow { time_us, caller: caller.to_owned(), first_step: Some(first_step) };
    batch.set_stamped(keys::change_prefix(project), keys::change_suffix(number), rows::encode(&row));
    // Watches wait for this counter, because a store can only wait for a single key to
    // change.
    batch.add(keys::change_count(project), 1);
}

/// The changes of a project after `after`, oldest first, and whether more follow. A page does
/// not end in the middle of a commit unless that commit alone is larger than a page.
pub async fn changes_list(
    snapshot: &dyn Snapshot,
    project: Project,
    after: Option<Stamp>,
    rows: usize,
) -> Result<(Vec<Change>, bool)> {
    let all = keys::changes(project);
    let range = match after {
        Some(stamp) => Range::new(keys::change_end(project, stamp), all.end),
        None => all,
    };
    let page = snapshot.scan(&range, Scan { rows, ..Scan::default() }).await?;
    let mut changes = Vec::with_capacity(page.rows.len());
    for (key, value) in &page.rows {
        let (stamp, number) = keys::decode_change(project, key)?;
        // The key of a damaged row still shows which run has changed.
        let row = rows::readable(rows::decode(key, value))?.unwrap_or(ChangeRow::UNKNOWN);
        let ChangeRow { time_us, caller, first_step } = row;
        let first_step = first_step.unwrap_or(i64::MIN);
        changes.push(Change { stamp, number, time_us, caller, first_step });
    }
    // The last commit may continue on the next page, so all of it is left to that page.
    if page.more
        && let Some((first, last)) = changes.first().zip(changes.last())
        && first.stamp != last.stamp
    {
        let last = last.stamp;
        changes.retain(|change| change.stamp != last);
    }
    Ok((changes, page.more))
}

/// Waits until there is a change after `after`. The caller limits the wait by dropping the
/// future.
pub async fn changes_wait(store: &dyn Store, project: Project, after: Stamp) -> Result<()> {
    let key = keys::change_count(project);
    loop {
        let snapshot = store.snapshot().await?;
        let seen = snapshot.get(&key).await?;
        let (found, _) = changes_list(snapshot.as_ref(), project, Some(after), 1).await?;
        // The wait may be long and must not hold a snapshot.
        drop(snapshot);
        if !found.is_empty() {
            return Ok(());
        }
        store.changed(&key, seen.as_ref()).await?;
    }
}

/// The stamp up to which changes have been trimmed. A reader whose last change is older has
/// missed some.
pub async fn changes_trimmed(snapshot: &dyn Snapshot, project: Project) -> Result<Option<Stamp>> {
    let key = keys::changes_trimmed(project);
    let Some(value) = snapshot.get(&key).await? else { return Ok(None) };
    match rows::body(&key, &value)?.try_into() {
        Ok(stamp) => Ok(Some(Stamp(stamp))),
        Err(_) => Err(rows::corrupt(&key, &"a stamp must have ten bytes")),
    }
}

/// Number of all changes of a project, including those that have been dropped.
async fn changes_counted(snapshot: &dyn Snapshot, project: Project) -> Result<u64> {
    let key = keys::change_count(project);
    let Some(value) = snapshot.get(&key).await? else { return Ok(0) };
    Ok(u64::try_from(entity::decode_counter(&key, &value)?).unwrap_or_default())
}

/// The marks of the counter, oldest first.
async fn marks_list(snapshot: &dyn Snapshot, project: Project) -> Result<Vec<CounterMark>> {
    let rows = rows::scan_all(snapshot, &keys::change_counter_marks(project)).await?;
    let mut marks = Vec::with_capacity(rows.len());
    for (key, value) in &rows {
        // Without a mark, some more changes are kept.
        let Some(CounterMarkRow { changes }) = rows::readable(rows::decode(key, value))? else { continue };
        let stamp = keys::decode_change_counter_mark(project, key)?.stamp(u16::MAX);
        marks.push(CounterMark { stamp, changes });
    }
    Ok(marks)
}

/// Marks the counter of changes if many have been added since the last mark. Returns whether it does.
pub async fn changes_mark(
    snapshot: &dyn Snapshot,
    project: Project,
    kept: &KeptChanges,
    batch: &mut Batch,
) -> Result<bool> {
    let changes = changes_counted(snapshot, project).await?;
    let changes_of_mark = kept.count / MARKS;
    if changes <= changes_of_mark {
        return Ok(false);
    }
    let marked = marks_list(snapshot, project).await?.pop().map_or(0, |last| last.changes);
    let is_due = changes.saturating_sub(marked) > changes_of_mark;
    if is_due {
        let key = keys::change_counter_mark(project, snapshot.version());
        batch.set(key, rows::encode(&CounterMarkRow { changes }));
    }
    Ok(is_due)
}

/// Clears one page of the changes that are not kept: expired changes, changes dated in the future by a
/// wrong clock, and changes that too many others follow. Returns `false` if there were none.
pub async fn changes_trim(
    snapshot: &dyn Snapshot,
    project: Project,
    kept: &KeptChanges,
    batch: &mut Batch,
) -> Result<bool> {
    let (changes, _) = changes_list(snapshot, project, None, 2_000).await?;
    if changes.is_empty() {
        return Ok(false);
    }
    let counted = changes_counted(snapshot, project).await?;
    let marks = marks_list(snapshot, project).await?;
    let is_too_far = |mark: &&CounterMark| mark.changes.saturating_add(kept.count) <= counted;
    let dropped_up_to = marks.iter().rev().find(is_too_far).map(|mark| mark.stamp);
    let is_dropped = |change: &&Change| {
        !kept.times_us.contains(&change.time_us) || dropped_up_to.is_some_and(|stamp| change.stamp <= stamp)
    };
    // Clocks of writers differ, so times are not strictly in commit order. Only a prefix of the feed
    // is removed.
    let Some(last) = changes.iter().take_while(is_dropped).last() else { return Ok(false) };
    let start = keys::changes(project).start;
    batch.clear_range(Range::new(start, keys::change_end(project, last.stamp)));
    let old_marks = keys::change_counter_marks(project).start;
    let next_mark = keys::change_counter_mark(project, last.stamp.version());
    batch.clear_range(Range::new(old_marks, next_mark));
    batch.set(keys::changes_trimmed(project), rows::with_format(&last.stamp.0));
    Ok(true)
}

#[cfg(test)]
mod tests;
