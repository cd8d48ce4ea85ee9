//! Quarantine: the records of a run are parked instead of applied, because one of its rows is damaged,
//! or because an operator said so. Other runs are not affected.
//!
//! Parked records keep their positions. When the quarantine ends, the cursor returns to where it was at
//! the beginning, and the worker applies the parked records before those that follow them.

use matyan_store::{Batch, Error, Result, Snapshot, Transaction};
use minicbor::{Decode, Encode};

use crate::{
    ids::{Project, RunId},
    keys,
    position::Cursor,
    rows,
};

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Quarantine {
    #[n(0)]
    pub reason: String,
    #[n(1)]
    pub since_us: i64,
    /// The cursor when the quarantine began.
    #[n(2)]
    pub cursor: Cursor,
    /// The worker is to apply what was parked.
    #[n(3)]
    pub is_ending: bool,
}

pub async fn quarantine_get(
    snapshot: &dyn Snapshot,
    project: Project,
    id: &RunId,
) -> Result<Option<Quarantine>> {
    rows::get(snapshot, &keys::quarantine(project, id)).await
}

/// Begins a quarantine with the run's next record. One that exists keeps its cursor, as its records are
/// still parked. A damaged cursor counts as none.
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
    let before = before.and_then(|value| rows::decode::<Quarantine>(&row, &value).ok());
    // One that is ending has applied the parked records up to the cursor.
    let from = before.filter(|before| !before.is_ending).map_or(cursor, |before| before.cursor);
    let quarantine =
        Quarantine { reason: reason.to_owned(), since_us: now_us, cursor: from, is_ending: false };
    let batch = transaction.batch();
    batch.set(keys::quarantine(project, id), rows::encode(&quarantine));
    batch.set(key, Cursor { is_quarantined: true, ..cursor }.encode());
    Ok(())
}

/// Lets the worker apply the parked records of a run. Returns `false` if it is not in quarantine.
pub async fn quarantine_resume(transaction: &mut Transaction, project: Project, id: &RunId) -> Result<bool> {
    let key = keys::quarantine(project, id);
    let Some(row) = transaction.get(&key).await? else { return Ok(false) };
    let quarantine: Quarantine = rows::decode(&key, &row)?;
    // Also if it is ending already: repeating it does no harm.
    if !quarantine.is_ending {
        // Read, so that a worker that is parking conflicts.
        let key_of_cursor = keys::cursor(project, id);
        let current = transaction.get(&key_of_cursor).await?;
        let current = current.and_then(|row| Cursor::decode(&key_of_cursor, &row).ok()).unwrap_or_default();
        // The run may have been ended meanwhile because it seemed silent.
        let cursor = Cursor { is_quarantined: true, is_given_up: current.is_given_up, ..quarantine.cursor };
        let batch = transaction.batch();
        batch.set(keys::cursor(project, id), cursor.encode());
        batch.set(key, rows::encode(&Quarantine { is_ending: true, ..quarantine }));
    }
    Ok(true)
}

/// Ends a quarantine whose parked records are applied.
pub fn quarantine_end(batch: &mut Batch, project: Project, id: &RunId, cursor: Cursor) {
    batch.clear(keys::quarantine(project, id));
    batch.set(keys::cursor(project, id), Cursor { is_quarantined: false, ..cursor }.encode());
}
