//! Parked items: log items that could not be applied, with the reason. Each item is stored as a
//! batch that holds nothing else, so that it can be inspected, and resent when the cause is fixed.

use bytes::Bytes;
use matyan_store::{Batch, Range, Result, Scan, Snapshot, Transaction};
use minicbor::{Decode, Encode};

mod restored;

pub use restored::*;

use crate::{
    ids::{Project, RunId},
    keys::{self, Counter, ItemPosition},
    producer::BatchOrigin,
    rows,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedItem {
    pub run_id: RunId,
    pub at: ItemPosition,
    pub reason: String,
    /// Receive time of the record.
    pub received_us: i64,
    /// An encoded `IngestionBatch` with only this item, or the content of a record: a batch, an
    /// envelope, or what could not be decoded.
    pub item: Bytes,
    /// Set if a whole record was parked because its run is in quarantine.
    pub record: Option<ParkedRecord>,
}

/// Properties of a parked record that are needed to apply it later, apart from its content.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ParkedRecord {
    #[n(0)]
    pub caller: String,
    #[n(1)]
    pub origin: Option<BatchOrigin>,
    /// Whether its content is a JSON envelope, and not a batch.
    #[n(2)]
    pub is_envelope: bool,
    /// The first item that was not applied before the quarantine started.
    #[n(3)]
    #[cbor(default)]
    pub first_item: u32,
}

/// Number in place of an item if a whole record is parked. No record has that many items.
pub const WHOLE_RECORD: u32 = u32::MAX;

/// Bytes of content after which a page of parked items ends.
pub const PAGE_BYTES: usize = 4 << 20;

#[derive(Encode, Decode)]
#[cbor(array)]
struct ParkedRow {
    #[n(0)]
    reason: String,
    #[n(1)]
    received_us: i64,
    #[n(3)]
    record: Option<ParkedRecord>,
}

/// Parks an item whose content is stored, or is stored in the same batch. Returns the number of
/// bytes written.
pub fn parked_put(batch: &mut Batch, project: Project, parked: &ParkedItem) -> usize {
    let ParkedItem { run_id, at, reason, received_us, record, .. } = parked;
    let row = ParkedRow { reason: reason.clone(), received_us: *received_us, record: record.clone() };
    batch.set(keys::parked_piece(project, run_id, *at, 0), rows::encode(&row));
    batch.set(keys::parked_by_time(project, *received_us, run_id, *at), Vec::new());
    batch.add(keys::project_counter(project, Counter::Parked), 1);
    reason.len()
}

/// The content of an item, in batches that each fit in a transaction. Until `parked_put`, it has
/// no effect.
pub fn parked_content(project: Project, parked: &ParkedItem) -> Vec<Batch> {
    // Piece 0 is the row of `parked_put`.
    rows::piece_batches(&parked.item, |piece| {
        keys::parked_piece(project, &parked.run_id, parked.at, piece + 1)
    })
}

/// Up to `count` parked items of a project or a run, fewer if they are large, and the range of the
/// rest.
pub async fn parked_list(
    snapshot: &dyn Snapshot,
    project: Project,
    range: &Range,
    count: usize,
) -> Result<(Vec<ParkedItem>, Option<Range>)> {
    let prefix = keys::parked(project).start;
    let mut rest = range.clone();
    let mut list: Vec<(ParkedItem, Vec<u8>)> = Vec::new();
    let mut bytes = 0;
    loop {
        let page = snapshot.scan(&rest, Scan { rows: count.max(1), ..Scan::default() }).await?;
        for (key, value) in &page.rows {
            let (run_id, at, piece) = keys::decode_parked(&prefix, key)?;
            // The pieces of an item may start on an earlier page than they end.
            if piece > 0 {
                // Without a first piece, the item was never parked.
                if let Some((_, item)) =
                    list.last_mut().filter(|(parked, _)| (&parked.run_id, parked.at) == (&run_id, at))
                {
                    item.extend_from_slice(value);
                    bytes += value.len();
                }
                continue;
            }
            if list.len() == count || bytes >= PAGE_BYTES {
                return Ok((finish(list), Some(Range::new(key.clone(), range.end.clone()))));
            }
            let ParkedRow { reason, received_us, record } = rows::decode(key, value)?;
            list.push((
                ParkedItem { run_id, at, reason, received_us, item: Bytes::new(), record },
                Vec::new(),
            ));
        }
        match page.rows.last() {
            Some((last, _)) if page.more => rest = rest.after(last),
            _ => return Ok((finish(list), None)),
        }
    }
}

fn finish(list: Vec<(ParkedItem, Vec<u8>)>) -> Vec<ParkedItem> {
    list.into_iter().map(|(parked, item)| ParkedItem { item: item.into(), ..parked }).collect()
}

/// The first record in a range that was parked whole.
pub async fn parked_record_first(
    snapshot: &dyn Snapshot,
    project: Project,
    range: Range,
) -> Result<Option<ParkedItem>> {
    let mut rest = Some(range);
    while let Some(range) = rest {
        let (page, next) = parked_list(snapshot, project, &range, 16).await?;
        if let Some(first) = page.into_iter().find(|item| item.record.is_some()) {
            return Ok(Some(first));
        }
        rest = next;
    }
    Ok(None)
}

/// Reads one parked item.
pub async fn parked_get(
    snapshot: &dyn Snapshot,
    project: Project,
    run_id: &RunId,
    at: ItemPosition,
) -> Result<Option<ParkedItem>> {
    let range = keys::parked_item(project, run_id, at);
    Ok(parked_list(snapshot, project, &range, 1).await?.0.pop())
}

/// The keys of parked items, newest record first, and the range of the rest.
pub async fn parked_newest(
    snapshot: &dyn Snapshot,
    project: Project,
    range: &Range,
    count: usize,
) -> Result<(Vec<(RunId, ItemPosition)>, Option<Range>)> {
    let prefix = keys::parked_by_time_all(project).start;
    let page = snapshot.scan(range, Scan { rows: count, reverse: true, ..Scan::default() }).await?;
    let named = page.rows.iter().map(|(key, _)| {
        let (_, run_id, at) = keys::decode_parked_by_time(&prefix, key)?;
        Ok((run_id, at))
    });
    let rest = page.rows.last().filter(|_| page.more).map(|(key, _)| range.before(key));
    Ok((named.collect::<Result<_>>()?, rest))
}

/// Deletes a parked item. Returns `false` if it does not exist.
pub async fn parked_clear(
    transaction: &mut Transaction,
    project: Project,
    run_id: &RunId,
    at: ItemPosition,
) -> Result<bool> {
    let key = keys::parked_piece(project, run_id, at, 0);
    let Some(value) = transaction.get(&key).await? else { return Ok(false) };
    let ParkedRow { received_us, .. } = rows::decode(&key, &value)?;
    let batch = transaction.batch();
    batch.clear_range(keys::parked_item(project, run_id, at));
    batch.clear(keys::parked_by_time(project, received_us, run_id, at));
    batch.add(keys::project_counter(project, Counter::Parked), -1);
    Ok(true)
}

/// Deletes up to `count` records of a run that were parked whole, from `range` on, and returns the
/// range of the rest. Items that were parked alone are kept.
pub async fn parked_records_clear(
    transaction: &mut Transaction,
    project: Project,
    range: &Range,
    count: usize,
) -> Result<Option<Range>> {
    let prefix = keys::parked(project).start;
    let mut rest = range.clone();
    for _ in 0..count {
        let page = transaction.scan(&rest, Scan { rows: 1, ..Scan::default() }).await?;
        let Some((key, value)) = page.rows.first() else { return Ok(None) };
        let (run_id, at, _) = keys::decode_parked(&prefix, key)?;
        let item = keys::parked_item(project, &run_id, at);
        rest = Range::new(item.end.clone(), rest.end.clone());
        if at.item != WHOLE_RECORD {
            continue;
        }
        let batch = transaction.batch();
        batch.clear_range(item);
        // Without a readable first piece, it is not counted, or its time is unknown; a row by time
        // without an item is ignored.
        if let Ok(ParkedRow { received_us, .. }) = rows::decode(key, value) {
            batch.clear(keys::parked_by_time(project, received_us, &run_id, at));
            batch.add(keys::project_counter(project, Counter::Parked), -1);
        }
    }
    Ok(Some(rest))
}

#[cfg(test)]
mod tests;
