//! Parked items of restored runs. They have their own positions, above the positions of all logs,
//! because the store may have a different log than the source of the items: the run's number in place of
//! log and partition, and the number of the item in its archive.

use matyan_store::{Result, Scan, Transaction};

use super::{ParkedRow, WHOLE_RECORD};
use crate::{
    ids::{Project, RunId, RunNumber},
    keys::{self, Counter, ItemPosition},
    position::{Cursor, LogPosition},
    rows,
};

/// Rows that are read together: each has up to a piece of content.
const ROWS: usize = 64;

/// The position of an item with this number in the archive of a run.
pub fn restored_position(run: RunNumber, number: u32, is_record: bool) -> ItemPosition {
    let item = if is_record { WHOLE_RECORD } else { 0 };
    ItemPosition { offset: number.into(), item, ..keys::restored_first(run) }
}

/// The cursor before the restored records of a run.
pub fn restored_start(run: RunNumber) -> Cursor {
    let ItemPosition { log, partition, offset, .. } = keys::restored_first(run);
    Cursor { position: LogPosition { log, partition, offset }, ..Cursor::default() }
}

/// Deletes some of the items that were restored with a run. Returns `false` if there may be more.
pub async fn restored_items_clear(
    transaction: &mut Transaction,
    project: Project,
    id: &RunId,
    run: RunNumber,
) -> Result<bool> {
    let range = keys::parked_restored_with(project, id, run);
    let prefix = keys::parked(project).start;
    let page = transaction.unchecked().scan(&range, Scan { rows: ROWS, ..Scan::default() }).await?;
    for (key, value) in &page.rows {
        let (_, at, piece) = keys::decode_parked(&prefix, key)?;
        let batch = transaction.batch();
        batch.clear(key.clone());
        // Without its first piece, an item was never parked.
        if let (0, Ok(ParkedRow { received_us, .. })) = (piece, rows::decode(key, value)) {
            batch.clear(keys::parked_by_time(project, received_us, id, at));
            batch.add(keys::project_counter(project, Counter::Parked), -1);
        }
    }
    Ok(!page.more)
}
