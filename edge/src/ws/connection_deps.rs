//! The dependencies of a WebSocket connection, in either protocol.

use std::time::Duration;

use matyan_channels::LargeWork;
use tokio_util::sync::CancellationToken;

use super::budget::SocketBudget;
use super::dictionary_budget::DictionaryBudget;
use crate::metrics::Metrics;
use crate::transport::LocalStreams;

/// Dependencies of a connection.
pub(super) struct ConnectionDeps {
    pub(super) run_id: String,
    pub(super) streams: LocalStreams,
    pub(super) metrics: Metrics,
    pub(super) budget: SocketBudget,
    pub(super) dictionaries: DictionaryBudget,
    /// Shared by all connections.
    pub(super) large_work: LargeWork,
    pub(super) hold: Duration,
    pub(super) stop: CancellationToken,
}
