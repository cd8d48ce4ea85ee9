//! Changes: every transaction that touches a run leaves a row, ordered as the commits are, so that a watch has a source.
//! A row is kept for an hour; one reader per process tails them.

use matyan_store::{Batch, Range, Result, Scan, Snapshot, Stamp, Store};
use minicbor::{Decode, Encode};

use crate::{
    ids::{Project, RunNumber},
    keys, rows,
};

/// How long a change is kept, in microseconds.
pub const KEPT_US: i64 = 3_600_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub stamp: Stamp,
    pub number: RunNumber,
    /// Receive time of what was applied.
    pub time_us: i64,
    /// Whose call it was; empty until access control exists.
    pub caller: String,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct ChangeRow {
    #[n(0)]
    time_us: i64,
    #[n(1)]
    caller: String,
}

/// Tells that this batch touches a run. At most once for each run of a batch.
pub fn change_put(batch: &mut Batch, project: Project, number: RunNumber, time_us: i64, caller: &str) {
    let row = ChangeRow { time_us, caller: caller.to_owned() };
    batch.set_stamped(keys::change_prefix(project), keys::change_suffix(number), rows::encode(&row));
    batch.add(keys::change_count(project), 1);
}

/// The changes of a project behind `after`, oldest first; `true` if there are more. A page does not end inside of a commit
/// unless that alone is larger.
pub async fn changes_list(
    snapshot: &dyn Snapshot,
    project: Project,
    after: Option<Stamp>,
    rows: usize,
) -> Result<(Vec<Change>, bool)> {
    let all = keys::changes(project);
    let range = match after {
        Some(stamp) => Range::new(keys::change_behind(project, stamp), all.end),
        None => all,
    };
    let page = snapshot.scan(&range, Scan { rows, ..Scan::default() }).await?;
    let mut changes = Vec::with_capacity(page.rows.len());
    for (key, value) in &page.rows {
        let (stamp, number) = keys::change_of(project, key)?;
        let ChangeRow { time_us, caller } = rows::decode(key, value)?;
        changes.push(Change { stamp, number, time_us, caller });
    }
    if page.more
        && let Some((first, last)) = changes.first().zip(changes.last())
        && first.stamp != last.stamp
    {
        let last = last.stamp;
        changes.retain(|change| change.stamp != last);
    }
    Ok((changes, page.more))
}

/// Returns once there is a change behind `after`. The caller bounds the wait by dropping the future.
pub async fn changes_wait(store: &dyn Store, project: Project, after: Stamp) -> Result<()> {
    let key = keys::change_count(project);
    loop {
        let snapshot = store.snapshot().await?;
        let seen = snapshot.get(&key).await?;
        let (found, _) = changes_list(snapshot.as_ref(), project, Some(after), 1).await?;
        drop(snapshot);
        if !found.is_empty() {
            return Ok(());
        }
        store.changed(&key, seen.as_ref()).await?;
    }
}

/// The stamp up to which changes have been dropped: whoever has seen less has missed some.
pub async fn changes_trimmed(snapshot: &dyn Snapshot, project: Project) -> Result<Option<Stamp>> {
    let key = keys::changes_trimmed(project);
    let Some(value) = snapshot.get(&key).await? else { return Ok(None) };
    match rows::body(&key, &value)?.try_into() {
        Ok(stamp) => Ok(Some(Stamp(stamp))),
        Err(_) => Err(rows::corrupt(&key, &"a stamp has ten bytes")),
    }
}

/// Clears a page of the changes that are older than what is kept, or dated behind it by a clock that was wrong; `false` if there
/// was none.
pub async fn changes_trim(
    snapshot: &dyn Snapshot,
    project: Project,
    kept: std::ops::Range<i64>,
    batch: &mut Batch,
) -> Result<bool> {
    let (changes, _) = changes_list(snapshot, project, None, 2_000).await?;
    // Receive times of different runs are not quite in commit order: what is cut off is a prefix all the same.
    let old = changes.iter().take_while(|change| !kept.contains(&change.time_us)).last();
    let Some(last) = old else { return Ok(false) };
    let start = keys::changes(project).start;
    batch.clear_range(Range::new(start, keys::change_behind(project, last.stamp)));
    batch.set(keys::changes_trimmed(project), rows::with_format(&last.stamp.0));
    Ok(true)
}

#[cfg(test)]
mod tests;
