//! Payloads that are too large for a row. They are uploaded to the blob store before the
//! transaction that refers to them, several concurrently, and outside its snapshot, which
//! expires after five seconds no matter how slow the blob store is. Uploads survive a failed
//! attempt: the next one uploads only what is missing.

use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture, stream};

use super::{
    ApplyFailure,
    decode_queue::{DecodedRecord, LargePayload, large_payload},
    mode::AttemptMode,
    payload_store::PayloadStore,
    run_state::RunState,
    transaction::TRANSACTION_BYTES,
};

/// Concurrent uploads per run: enough to hide the latency of a remote blob store.
const UPLOADS: usize = 8;

/// Uploads the payloads that the next transaction may refer to.
pub(super) async fn payloads_move(
    store: PayloadStore<'_>,
    state: &RunState,
    records: &mut [DecodedRecord],
    mode: &AttemptMode,
) -> Result<(), ApplyFailure> {
    let AttemptMode::Apply { items } = *mode else { return Ok(()) };
    if state.is_deleted() || records.iter().all(|record| record.payloads.is_empty()) {
        return Ok(());
    }
    let mut moves: Vec<BoxFuture<'_, Result<(), ApplyFailure>>> = Vec::new();
    for (payload, content) in pending_uploads(state, records, items) {
        moves.push(Box::pin(async move {
            payload.blob = Some(store.put(content, "application/cbor").await?);
            Ok(())
        }));
    }
    // Wait for all uploads even if one fails, so that the others need not be repeated.
    let moved: Vec<_> = stream::iter(moves).buffer_unordered(UPLOADS).collect().await;
    moved.into_iter().collect()
}

/// Payloads among the next items that are not uploaded yet, up to the size of a transaction.
fn pending_uploads<'a>(
    state: &RunState,
    records: &'a mut [DecodedRecord],
    items: u32,
) -> Vec<(&'a mut LargePayload, Bytes)> {
    let (mut pending, mut bytes, mut seen) = (Vec::new(), 0, 0);
    for record in records {
        let Some(first) = state.cursor.next_item(record.entry.position) else { continue };
        let own_items = record.items();
        let Ok(batch) = &record.batch else { continue };
        for payload in record.payloads.iter_mut().filter(|payload| payload.item >= first) {
            if bytes >= TRANSACTION_BYTES || seen + (payload.item - first) >= items {
                return pending;
            }
            if payload.blob.is_none()
                && let Some(value) = large_payload(&batch.items.events[payload.item as usize])
            {
                bytes += value.len();
                pending.push((payload, value.clone()));
            }
        }
        seen = seen.saturating_add(own_items.saturating_sub(first));
    }
    pending
}
