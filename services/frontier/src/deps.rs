//! The dependencies of the frontier.

use std::sync::Arc;

use matyan_blob::{LimitedBlobs, UrlSigner};
use matyan_log::LogWriter;

use crate::{metrics::Metrics, project_lookup::ProjectLookup};

/// Microseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Sixteen bytes, unique for each call.
pub type NewId = Arc<dyn Fn() -> [u8; 16] + Send + Sync>;

/// Dependencies of the frontier.
pub struct Deps {
    pub log: Arc<dyn LogWriter>,
    /// `None` if this process cannot look up projects; then it accepts data of the default
    /// one only, without quotas.
    pub projects: Option<Arc<dyn ProjectLookup>>,
    pub blobs: Arc<LimitedBlobs>,
    /// Signer of upload URLs, if uploads go through this server because the blob store has no network
    /// address.
    pub upload_signer: Option<UrlSigner>,
    pub clock: Clock,
    pub new_id: NewId,
    pub metrics: Metrics,
}
