//! Publishes the outbox: copies events to the control topic, oldest first, and clears them once
//! the topic has them. An event may be published twice, but is never lost.

use std::time::Duration;

use bytes::Bytes;
use matyan_log::{NewRecord, Topic};
use matyan_model::events::events_list;
use matyan_store::Batch;
use matyan_wire::control;
use tokio_util::sync::CancellationToken;

use crate::{deps::Deps, error::Error, heartbeat::Heartbeat};

/// Number of events published in one append.
const PAGE: usize = 100;
/// Interval between polls of the outbox.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Wait after a failure.
const FAILURE_WAIT: Duration = Duration::from_secs(2);

pub(super) async fn run(deps: &Deps, heartbeat: &Heartbeat, stop: &CancellationToken) {
    loop {
        heartbeat.beat();
        let wait = match stop.run_until_cancelled(publish(deps)).await {
            None => return,
            Some(Ok(PAGE..)) => Duration::ZERO,
            Some(Ok(_)) => POLL_INTERVAL,
            Some(Err(error)) => {
                tracing::warn!(%error, "failed to publish control events; will retry");
                FAILURE_WAIT
            }
        };
        if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
    }
}

/// Publishes a page of events and returns their number.
pub(crate) async fn publish(deps: &Deps) -> Result<usize, Error> {
    let events = events_list(&*deps.store.snapshot().await?, PAGE).await?;
    if events.is_empty() {
        return Ok(0);
    }
    let mut records = Vec::new();
    for event in events.iter().filter_map(|(_, event)| event.as_ref()) {
        if let Some((value, headers)) = control::encode(event) {
            records.push(NewRecord { key: Bytes::new(), value, headers });
        }
    }
    deps.log_writer.append(Topic::Control, records).await?;
    // Damaged events are cleared as well: sweeps find the runs that they were about. Not synced: if
    // the clear is lost, the events are published twice, which is tolerated.
    let mut batch = Batch::buffered();
    for (key, _) in &events {
        batch.clear(key.clone());
    }
    deps.store.commit(batch).await?;
    Ok(events.len())
}
