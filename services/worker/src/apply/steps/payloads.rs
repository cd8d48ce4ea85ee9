//! Payloads that are too large for a row. They are stored before the transaction that refers to
//! them, several concurrently, and outside its snapshot, which expires after five seconds. They
//! survive a failed attempt: the next attempt stores only the missing payloads.

use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture, stream};
use matyan_model::keys::ItemPosition;

use super::payload_store::PayloadStore;
use crate::apply::{
    apply_failure::ApplyFailure,
    decoded_record::{DecodedRecord, LargePayload, item_position, large_payload},
    failure::isolate::AttemptMode,
    run_state::RunState,
    transaction::TRANSACTION_BYTES,
};

/// Concurrent uploads per run: enough to hide the latency of a remote blob store.
const UPLOADS: usize = 8;

/// Stores the payloads that the next transaction may refer to.
pub(crate) async fn payloads_move(
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
    for LargeItem { payload, content, at, received_us } in unstored(state, records, items) {
        moves.push(Box::pin(async move {
            payload.stored = Some(store.put(content, at, received_us).await?);
            Ok(())
        }));
    }
    // Wait for all uploads even if one fails, so that the others need not be repeated.
    let moved: Vec<_> = stream::iter(moves).buffer_unordered(UPLOADS).collect().await;
    moved.into_iter().collect()
}

/// An item whose payload is yet to be stored.
struct LargeItem<'a> {
    payload: &'a mut LargePayload,
    content: Bytes,
    at: ItemPosition,
    received_us: i64,
}

/// Payloads among the next items that are not stored yet, up to the size of a transaction.
fn unstored<'a>(state: &RunState, records: &'a mut [DecodedRecord], items: u32) -> Vec<LargeItem<'a>> {
    let mut unstored = Vec::new();
    let mut bytes = 0;
    let mut seen = 0;
    for record in records {
        let position = record.entry.position;
        let Some(first) = state.cursor.next_item(position) else { continue };
        let own_items = record.items();
        let received_us = record.entry.received_us;
        let Ok(batch) = &record.batch else { continue };
        for payload in record.payloads.iter_mut().filter(|payload| payload.item >= first) {
            if bytes >= TRANSACTION_BYTES || seen + (payload.item - first) >= items {
                return unstored;
            }
            if payload.stored.is_none()
                && let Some(content) = large_payload(&batch.items.events[payload.item as usize])
            {
                bytes += content.len();
                let at = item_position(position, payload.item);
                unstored.push(LargeItem { payload, content: content.clone(), at, received_us });
            }
        }
        seen = seen.saturating_add(own_items.saturating_sub(first));
    }
    unstored
}
