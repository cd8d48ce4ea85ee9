//! Payloads that wait for the blob store. An object refers to its payload by the reference that it
//! will have there, so uploading it later changes no object: a reader looks here first, and
//! then in the blob store.
//!
//! A payload has a row with its size, and its content in pieces. The content is written first,
//! in its own transactions; without the row it has no effect.

use bytes::Bytes;
use matyan_store::{Batch, Range, Result, Scan, Snapshot, Transaction};
use minicbor::{Decode, Encode};

use crate::{
    ids::{Project, RunId},
    keys::{self, Counter, ItemPosition},
    object::BlobRef,
    rows,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingPayload {
    pub blob: BlobRef,
    pub run_id: RunId,
    /// The first item that has this payload.
    pub at: ItemPosition,
    /// Receive time of its record.
    pub received_us: i64,
    /// Why the blob store will never accept it. The payload then stays here.
    pub refusal: Option<String>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct PendingRow {
    #[n(0)]
    blob: BlobRef,
    #[n(1)]
    run_id: String,
    #[n(2)]
    at: ItemPosition,
    #[n(3)]
    received_us: i64,
    #[n(4)]
    refusal: Option<String>,
}

impl From<&PendingPayload> for PendingRow {
    fn from(payload: &PendingPayload) -> Self {
        Self {
            blob: payload.blob.clone(),
            run_id: payload.run_id.as_str().to_owned(),
            at: payload.at,
            received_us: payload.received_us,
            refusal: payload.refusal.clone(),
        }
    }
}

impl From<PendingRow> for PendingPayload {
    fn from(row: PendingRow) -> Self {
        let PendingRow { blob, run_id, at, received_us, refusal } = row;
        Self { blob, run_id: RunId::new(run_id), at, received_us, refusal }
    }
}

/// The content of a payload, in batches that each fit in a transaction.
pub fn pending_content(project: Project, reference: &str, content: &Bytes) -> Vec<Batch> {
    rows::piece_batches(content, |piece| keys::pending_payload_piece(project, reference, piece))
}

/// Adds a payload whose content is stored. The commit conflicts if it is already pending.
pub fn pending_put(batch: &mut Batch, project: Project, payload: &PendingPayload) {
    let key = keys::pending_payload(project, &payload.blob.key);
    batch.expect(key.clone(), None);
    batch.set(key, rows::encode(&PendingRow::from(payload)));
    batch.add(keys::project_counter(project, Counter::PendingBytes), payload.blob.size as i64);
}

/// Whether this payload waits for the blob store.
pub async fn is_pending(snapshot: &dyn Snapshot, project: Project, reference: &str) -> Result<bool> {
    Ok(snapshot.get(&keys::pending_payload(project, reference)).await?.is_some())
}

/// The content of a payload if it waits for the blob store; `None` if it does not.
pub async fn pending_get(snapshot: &dyn Snapshot, project: Project, blob: &BlobRef) -> Result<Option<Bytes>> {
    if !is_pending(snapshot, project, &blob.key).await? {
        return Ok(None);
    }
    let pieces = keys::pending_payload_pieces(project, &blob.key);
    let content = rows::get_pieces(snapshot, &pieces).await?.unwrap_or_default();
    if content.len() as u64 == blob.size {
        return Ok(Some(content));
    }
    let key = keys::pending_payload(project, &blob.key);
    let size = content.len();
    Err(rows::corrupt(&key, &format!("its content has {size} bytes instead of {}", blob.size)))
}

/// One page of the payloads of a project, and the range of the rest. Use `keys::pending_payloads`
/// for the first page.
pub async fn pending_list(
    snapshot: &dyn Snapshot,
    range: &Range,
    count: usize,
) -> Result<(Vec<PendingPayload>, Option<Range>)> {
    let page = snapshot.scan(range, Scan { rows: count, ..Scan::default() }).await?;
    let mut payloads = Vec::with_capacity(page.rows.len());
    for (key, value) in &page.rows {
        let row = rows::readable(rows::decode::<PendingRow>(key, value))?;
        payloads.extend(row.map(PendingPayload::from));
    }
    Ok((payloads, page.rows.last().filter(|_| page.more).map(|(last, _)| range.after(last))))
}

/// Removes a payload, because it is in the blob store or no longer needed. Returns `false` if it
/// was not pending.
pub async fn pending_clear(transaction: &mut Transaction, project: Project, blob: &BlobRef) -> Result<bool> {
    let key = keys::pending_payload(project, &blob.key);
    let Some(value) = transaction.get(&key).await? else { return Ok(false) };
    let row: PendingRow = rows::decode(&key, &value)?;
    let batch = transaction.batch();
    batch.clear(key);
    batch.clear_range(keys::pending_payload_pieces(project, &blob.key));
    let counter = if row.refusal.is_some() { Counter::RefusedBytes } else { Counter::PendingBytes };
    batch.add(keys::project_counter(project, counter), -(blob.size as i64));
    Ok(true)
}

/// Records that the blob store will never accept a payload. Returns `false` if it is not pending, or
/// was refused before.
pub async fn pending_refuse(
    transaction: &mut Transaction,
    project: Project,
    payload: &PendingPayload,
    reason: &str,
) -> Result<bool> {
    let key = keys::pending_payload(project, &payload.blob.key);
    let Some(value) = transaction.get(&key).await? else { return Ok(false) };
    let row: PendingRow = rows::decode(&key, &value)?;
    if row.refusal.is_some() {
        return Ok(false);
    }
    let size = row.blob.size as i64;
    let refused = PendingRow { refusal: Some(reason.to_owned()), ..row };
    let batch = transaction.batch();
    batch.set(key, rows::encode(&refused));
    // The payload no longer waits for the blob store, so it no longer counts as pending.
    batch.add(keys::project_counter(project, Counter::PendingBytes), -size);
    batch.add(keys::project_counter(project, Counter::RefusedBytes), size);
    Ok(true)
}

#[cfg(test)]
mod tests;
