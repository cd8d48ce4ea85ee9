//! The way in: takes batches, uploads and wishes for upload URLs from clients, checks them, and publishes batches to the log.
//! It acknowledges what the log has durably accepted, in order. It never stores, and knows nothing about what is stored.
//!
//! Reading order: `rpc` (the API), `convert` and `batch` (what is checked), `compose` (what stands in the log), `pipeline` (how
//! it gets there), `stream` (one client).

mod rpc;

mod convert;

mod batch;
mod compose;
mod envelope;
mod record;

mod pipeline;
mod throttle;

mod publish;
mod stream;

mod presign;
mod upload;

mod system;

mod error;
mod metrics;
mod settings;

pub use metrics::Metrics;
pub use settings::Settings;

use std::sync::Arc;

use bytes::Bytes;
use matyan_blob::{Blobs, UrlSigner};
use matyan_log::LogWriter;
use matyan_proto::{
    ingest::v1::ingest_service_server::IngestServiceServer, limits,
    system::v1::system_service_server::SystemServiceServer,
};
use tokio::sync::Semaphore;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// Microseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Sixteen bytes that nobody else makes.
pub type NewId = Arc<dyn Fn() -> [u8; 16] + Send + Sync>;

/// Batches over `compose::HEAVY_BYTES` that are checked at the same time: each takes some ten times its size in memory.
const HEAVY_CHECKS: usize = 4;

/// What the frontier works with.
pub struct Components {
    pub log: Arc<dyn LogWriter>,
    pub blobs: Arc<dyn Blobs>,
    /// What made the upload URLs of a blob store that has no address of its own; `None` for all others.
    pub uploads: Option<UrlSigner>,
    pub clock: Clock,
    pub new_id: NewId,
    pub metrics: Metrics,
}

/// The services of one frontier. Clones are the same frontier.
#[derive(Clone)]
pub struct Frontier {
    shared: Arc<Shared>,
}

/// What all streams and calls have in common.
struct Shared {
    log: Arc<dyn LogWriter>,
    blobs: Arc<dyn Blobs>,
    uploads: Option<UrlSigner>,
    clock: Clock,
    new_id: NewId,
    metrics: Metrics,
    settings: Settings,
    throttle: throttle::Throttle,
    log_health: system::LogHealth,
    /// Bytes that unacknowledged batches may still take.
    budget: Arc<Semaphore>,
    heavy_checks: Semaphore,
    stopping: CancellationToken,
    /// Streams and calls that have not ended.
    calls: TaskTracker,
}

/// What the check leaves of a batch that opens a dictionary, or `None` if it would end the stream. For fuzzing: the
/// services do the same.
pub fn batch_check(run_id: &str, batch: Bytes) -> Option<Bytes> {
    let run = convert::RunId::parse(run_id.to_owned()).ok()?;
    let checked = batch::check(&run, &mut batch::Dictionary::default(), |_| Ok(()), batch);
    Some(checked.ok()?.bytes)
}

impl Frontier {
    pub fn new(components: Components, settings: Settings) -> Self {
        let Components { log, blobs, uploads, clock, new_id, metrics } = components;
        let shared = Shared {
            log,
            blobs,
            uploads,
            clock,
            new_id,
            metrics,
            throttle: throttle::Throttle::new(settings.run_bytes_per_second),
            log_health: system::LogHealth::default(),
            budget: Arc::new(Semaphore::new(settings.total_bytes)),
            heavy_checks: Semaphore::new(HEAVY_CHECKS),
            stopping: CancellationToken::new(),
            calls: TaskTracker::new(),
            settings,
        };
        Self { shared: Arc::new(shared) }
    }

    pub fn ingest_server(&self) -> IngestServiceServer<Self> {
        IngestServiceServer::new(self.clone())
            .max_decoding_message_size(limits::MESSAGE_BYTES)
            .max_encoding_message_size(limits::MESSAGE_BYTES)
    }

    pub fn system_server(&self) -> SystemServiceServer<Self> {
        SystemServiceServer::new(self.clone())
    }

    /// Refuses new streams and calls, reads no more from open streams, and returns when what was read is acknowledged and
    /// every stream has ended. A client that takes no answers holds it up: bound the wait, and close its connection.
    pub async fn drain(&self) {
        self.shared.stopping.cancel();
        self.shared.calls.close();
        self.shared.calls.wait().await;
    }
}

impl Shared {
    /// Lets something begin that is waited for when the frontier is drained, unless that has begun.
    fn begin(&self) -> error::Result<TaskTrackerToken> {
        // Counted first: whoever is not refused is waited for.
        let counted = self.calls.token();
        if self.stopping.is_cancelled() { Err(error::Error::Stopping) } else { Ok(counted) }
    }

    async fn call<T>(&self, call: impl Future<Output = error::Result<T>>) -> error::Result<T> {
        let _counted = self.begin()?;
        call.await
    }
}

#[cfg(test)]
mod tests;
