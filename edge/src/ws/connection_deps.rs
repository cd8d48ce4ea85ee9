//! The dependencies of a WebSocket connection, in either protocol.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::budget::MemoryBudget;
use super::session::IngestClient;
use crate::metrics::Metrics;

/// Dependencies of a connection.
pub(super) struct ConnectionDeps {
    pub(super) run_id: String,
    pub(super) ingest: IngestClient,
    pub(super) metrics: Metrics,
    pub(super) budget: MemoryBudget,
    /// Limits the number of large frames decoded at the same time, over all connections.
    pub(super) large_decodes: Arc<Semaphore>,
    pub(super) hold: Duration,
    pub(super) stop: CancellationToken,
}
