//! Quarantine: the records of a run are parked instead of applied, because one of its rows is damaged,
//! or because an operator requested it. Other runs are not affected.
//!
//! Parked records keep their positions. When the quarantine ends, the cursor returns to its position at
//! the start, and the worker applies the parked records before the records that follow them. Records
//! that were restored together with the run come first: the cursor passes their positions before all
//! others.

use matyan_store::{Batch, Error, Range, Result, Scan, Snapshot, Transaction};
use minicbor::{Decode, Encode};

use crate::{
    entity,
    ids::{Project, RunId, RunNumber},
    keys::{self, ItemPosition, RowOwner, row_owner},
    parked::{ParkedItem, parked_record_first, restored_start},
    position::{Cursor, LogPosition},
    rows,
};

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Quarantine {
    #[n(0)]
    pub reason: String,
    #[n(1)]
    pub since_us: i64,
    /// The cursor when the quarantine started.
    #[n(2)]
    pub cursor: Cursor,
    /// The worker is to apply the parked records.
    #[n(3)]
    pub is_ending: bool,
    /// Size of the parked records.
    #[n(4)]
    #[cbor(default)]
    pub parked_bytes: u64,
    /// The delete of the run is in the log: the records before it are not needed any more.
    #[n(5)]
    #[cbor(default)]
    pub is_deleting: bool,
    /// The run was restored with parked records, and the records before this cursor are applied.
    /// While the quarantine is ending, the run's cursor says which records are applied.
    #[n(6)]
    #[cbor(default)]
    pub restored: Option<Cursor>,
}

impl Quarantine {
    /// The cursor with which the worker starts to apply the parked records.
    fn first_cursor(&self) -> Cursor {
        self.restored.unwrap_or(self.cursor)
    }
}

pub async fn quarantine_get(
    snapshot: &dyn Snapshot,
    project: Project,
    id: &RunId,
) -> Result<Option<Quarantine>> {
    rows::get(snapshot, &keys::quarantine(project, id)).await
}

/// Starts a quarantine with the run's next record. An existing quarantine keeps its cursor, because its
/// records are still parked; if its row is damaged, it started with the first parked record. A damaged
/// cursor counts as none.
pub async fn quarantine_begin(
    transaction: &mut Transaction,
    project: Project,
    id: &RunId,
    reason: &str,
    now_us: i64,
) -> Result<()> {
    let key = keys::cursor(project, id);
    let stored = transaction.get(&key).await?;
    let cursor = match stored.map(|row| Cursor::decode(&key, &row)).transpose() {
        Err(Error::Corrupt { .. }) => Cursor::default(),
        cursor => cursor?.unwrap_or_default(),
    };
    let row = keys::quarantine(project, id);
    let before = transaction.get(&row).await?;
    let before = before.map(|value| rows::decode::<Quarantine>(&row, &value)).transpose();
    let new = Quarantine {
        reason: reason.to_owned(),
        since_us: now_us,
        cursor,
        is_ending: false,
        parked_bytes: 0,
        is_deleting: false,
        restored: None,
    };
    let mut next = cursor;
    let quarantine = match before {
        Ok(Some(before)) => {
            // A quarantine that is ending has applied the parked records up to the cursor.
            let (from, restored) = match before.restored {
                Some(_) if before.is_ending => {
                    next = before.cursor;
                    let Cursor { position, item, .. } = cursor;
                    (before.cursor, Some(Cursor { position, item, ..Cursor::default() }))
                }
                restored => (if before.is_ending { cursor } else { before.cursor }, restored),
            };
            let Quarantine { parked_bytes, is_deleting, .. } = before;
            Quarantine { parked_bytes, is_deleting, restored, cursor: from, ..new }
        }
        Err(Error::Corrupt { .. }) if cursor.is_quarantined && !cursor.is_replaying => {
            let snapshot = transaction.unchecked();
            let logged = keys::parked_logged(project, id);
            let first = parked_record_first(snapshot, project, logged).await?;
            let restored = keys::parked_restored(project, id);
            let restored = parked_record_first(snapshot, project, restored).await?;
            let restored = restored.map(|first| cursor_at(&first));
            let cursor = first.map_or(cursor, |first| cursor_at(&first));
            Quarantine { restored, cursor, ..new }
        }
        Ok(None) | Err(Error::Corrupt { .. }) => new,
        Err(error) => return Err(error),
    };
    let batch = transaction.batch();
    batch.set(row, rows::encode(&quarantine));
    let Cursor { position, item, .. } = next;
    let next = Cursor { position, item, is_quarantined: true, is_replaying: false, ..cursor };
    batch.set(key, next.encode());
    Ok(())
}

/// The cursor before a parked record.
fn cursor_at(parked: &ParkedItem) -> Cursor {
    let ItemPosition { log, partition, offset, .. } = parked.at;
    let item = parked.record.as_ref().map_or(0, |record| record.first_item);
    Cursor { position: LogPosition { log, partition, offset }, item, ..Cursor::default() }
}

/// Writes the row of a quarantine that has changed.
pub fn quarantine_put(batch: &mut Batch, project: Project, id: &RunId, quarantine: &Quarantine) {
    batch.set(keys::quarantine(project, id), rows::encode(quarantine));
}

/// Lets the worker apply the parked records of a run. Returns `false` if it is not in quarantine.
pub async fn quarantine_resume(transaction: &mut Transaction, project: Project, id: &RunId) -> Result<bool> {
    let key = keys::quarantine(project, id);
    let Some(row) = transaction.get(&key).await? else { return Ok(false) };
    let quarantine: Quarantine = rows::decode(&key, &row)?;
    // Also if it is ending already: repeating it does no harm.
    if !quarantine.is_ending {
        // Read so that this commit conflicts with a worker that is parking records.
        let key_of_cursor = keys::cursor(project, id);
        let current = transaction.get(&key_of_cursor).await?;
        let current = current.and_then(|row| Cursor::decode(&key_of_cursor, &row).ok()).unwrap_or_default();
        // The run may have been ended during the quarantine because it seemed silent.
        let cursor = Cursor {
            is_quarantined: true,
            is_replaying: true,
            is_given_up: current.is_given_up,
            ..quarantine.first_cursor()
        };
        let batch = transaction.batch();
        batch.set(keys::cursor(project, id), cursor.encode());
        batch.set(key, rows::encode(&Quarantine { is_ending: true, ..quarantine }));
        batch.add(keys::quarantine_resumes(), 1);
    }
    Ok(true)
}

/// Number of quarantines that were to end, so that workers need not look for them all the time.
pub async fn quarantine_resumes(snapshot: &dyn Snapshot) -> Result<i64> {
    let key = keys::quarantine_resumes();
    let value = snapshot.get(&key).await?;
    Ok(value.map(|value| entity::decode_counter(&key, &value)).transpose()?.unwrap_or_default())
}

/// One page of at most this many quarantines of a project, by run id, and the range of the rest. Use
/// `keys::quarantines` for the first page. A damaged row is an error of its run.
pub async fn quarantines_list(
    snapshot: &dyn Snapshot,
    range: &Range,
    most: usize,
) -> Result<(Vec<(RunId, Result<Quarantine>)>, Option<Range>)> {
    let page = snapshot.scan(range, Scan { rows: most, ..Scan::default() }).await?;
    let mut found = Vec::new();
    for (key, value) in &page.rows {
        if let RowOwner::RunId(id) = row_owner(key) {
            found.push((id, rows::decode(key, value)));
        }
    }
    Ok((found, page.rows.last().filter(|_| page.more).map(|(last, _)| range.after(last))))
}

/// Notes that the delete of a run is in the log, so that records before it need not be kept. Returns
/// `false` if the run is in no quarantine or leaves it, or if this is noted already.
pub async fn quarantine_delete(transaction: &mut Transaction, project: Project, id: &RunId) -> Result<bool> {
    let key = keys::quarantine(project, id);
    let row = transaction.get(&key).await?.and_then(|row| rows::decode::<Quarantine>(&key, &row).ok());
    let Some(quarantine) = row.filter(|row| !row.is_ending && !row.is_deleting) else { return Ok(false) };
    quarantine_put(transaction.batch(), project, id, &Quarantine { is_deleting: true, ..quarantine });
    Ok(true)
}

/// Continues with the parked records from the log after the restored records.
pub fn quarantine_end_restored(
    batch: &mut Batch,
    project: Project,
    id: &RunId,
    quarantine: &Quarantine,
    cursor: Cursor,
) {
    let Cursor { position, item, .. } = quarantine.cursor;
    batch.set(keys::cursor(project, id), Cursor { position, item, ..cursor }.encode());
    quarantine_put(batch, project, id, &Quarantine { restored: None, ..quarantine.clone() });
}

/// Puts a run that becomes live in the quarantine that it was in when it was archived. `next` is the run's
/// cursor from now on, `archived` the one in the archive. Records of the id that are parked here already
/// stay parked, unless the archive has them.
pub async fn quarantine_restore(
    transaction: &mut Transaction,
    project: Project,
    id: &RunId,
    number: RunNumber,
    (reason, since_us): (String, i64),
    (next, archived): (Cursor, Option<Cursor>),
) -> Result<()> {
    let key = keys::quarantine(project, id);
    let own = transaction.get(&key).await?;
    let own = own.map(|row| rows::decode::<Quarantine>(&key, &row)).transpose()?;
    let cursor = match own.as_ref().filter(|own| !own.is_ending).map(|own| own.cursor) {
        Some(own) => archived.filter(|archived| own.is_before(archived)).unwrap_or(own),
        None => next,
    };
    let (parked_bytes, is_deleting) = own.map_or((0, false), |own| (own.parked_bytes, own.is_deleting));
    let restored = Some(restored_start(number));
    let quarantine =
        Quarantine { reason, since_us, cursor, is_ending: false, parked_bytes, is_deleting, restored };
    let batch = transaction.batch();
    quarantine_put(batch, project, id, &quarantine);
    batch.set(
        keys::cursor(project, id),
        Cursor { is_quarantined: true, is_replaying: false, ..next }.encode(),
    );
    Ok(())
}

/// Ends a quarantine whose parked records are applied.
pub fn quarantine_end(batch: &mut Batch, project: Project, id: &RunId, cursor: Cursor) {
    batch.clear(keys::quarantine(project, id));
    batch.set(
        keys::cursor(project, id),
        Cursor { is_quarantined: false, is_replaying: false, ..cursor }.encode(),
    );
}
