//! Change feed: every transaction that touches a run adds a row, in commit order, from which
//! watches are served. Rows are kept for an hour, and one reader per process tails them.

use matyan_store::{Batch, Range, Result, Scan, Snapshot, Stamp, Store};
use minicbor::{Decode, Encode};

use crate::{
    ids::{Project, RunNumber},
    keys, rows,
};

/// Retention of changes, in microseconds.
pub const RETENTION_US: i64 = 3_600_000_000;

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

/// Clears one page of the changes whose time is outside `kept`: expired ones, and ones dated in
/// the future by a wrong clock. Returns `false` if there were none.
pub async fn changes_trim(
    snapshot: &dyn Snapshot,
    project: Project,
    kept: std::ops::Range<i64>,
    batch: &mut Batch,
) -> Result<bool> {
    let (changes, _) = changes_list(snapshot, project, None, 2_000).await?;
    // Clocks of writers differ, so times are not strictly in commit order. Only a prefix of the feed
    // is removed.
    let old = changes.iter().take_while(|change| !kept.contains(&change.time_us)).last();
    let Some(last) = old else { return Ok(false) };
    let start = keys::changes(project).start;
    batch.clear_range(Range::new(start, keys::change_end(project, last.stamp)));
    batch.set(keys::changes_trimmed(project), rows::with_format(&last.stamp.0));
    Ok(true)
}

#[cfg(test)]
mod tests;
