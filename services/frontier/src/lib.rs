//! The entry point of data: accepts batches, uploads, and requests for upload URLs from
//! clients, validates them, and publishes batches to the log. It acknowledges batches in order,
//! once the log has durably accepted them. It never stores anything, and knows nothing about
//! stored data.
//!
//! Reading order: `rpc` (the API), `convert` and `batch` (validation), `compose` (content of
//! the log), `pipeline` (writing to the log), `stream` (one client).

mod rpc;

mod convert;
mod field_checks;
mod run_id;

mod batch;
mod compose;
mod envelope;
mod record;

mod admitted_runs;
mod dictionary_memory;
mod ingestion;
mod log_health;
mod memory_budget;
mod pipeline;
mod project_lookup;
mod throttle;

mod local_stream;
mod publish;
mod stream;

mod multipart;
mod presign;
mod upload;

mod calls;
mod system;

mod deps;
mod error;
mod metrics;
mod settings;

pub use deps::{Clock, Deps, NewId};
pub use local_stream::StreamWork;
pub use metrics::Metrics;
pub use project_lookup::ProjectLookup;
pub use settings::Settings;

use std::sync::Arc;

use matyan_proto::{
    ingest::v1::ingest_service_server::IngestServiceServer, limits,
    system::v1::system_service_server::SystemServiceServer,
};

use calls::Calls;
use ingestion::Ingestion;
use metrics::QuotaMetrics;
use project_lookup::KnownProjects;
use upload::Uploads;

/// The services of one frontier. Clones share their state.
#[derive(Clone)]
pub struct Frontier {
    ingestion: Arc<Ingestion>,
    uploads: Arc<Uploads>,
    projects: KnownProjects,
    quota_metrics: QuotaMetrics,
    calls: Calls,
}

/// Returns the valid part of a batch with a new dictionary, or `None` if the batch would end
/// the stream. Runs the same check as the services.
#[cfg(feature = "fuzzing")]
pub fn batch_check(run_id: &str, batch: bytes::Bytes) -> Option<bytes::Bytes> {
    let run = run_id::RunId::parse(run_id.to_owned()).ok()?;
    let checked = batch::check(&run, &mut batch::Dictionary::default(), |_| Ok(()), batch);
    Some(checked.ok()?.bytes)
}

/// Returns the upload in parts that a client describes in the default project, if the services accept it.
#[cfg(feature = "fuzzing")]
pub fn upload_check(upload: matyan_proto::ingest::v1::PartedUpload) -> Option<matyan_blob::MultipartUpload> {
    match convert::parted_upload(&convert::Caller::default(), Some(upload)).ok()?.0 {
        convert::PartedUpload::Sized(upload) => Some(upload),
        convert::PartedUpload::Unsized(_) => None,
    }
}

impl Frontier {
    pub fn new(deps: Deps, settings: Settings) -> Self {
        let Deps { log, projects, blobs, upload_signer: signer, clock, new_id, metrics } = deps;
        let unsized_uploads = matyan_blob::UnsizedUploads::new(Arc::clone(&blobs));
        let uploads = Uploads { blobs, unsized_uploads, signer, metrics: metrics.uploads };
        let ingestion = Ingestion::new(log, clock, new_id, settings, metrics.batches);
        Self {
            ingestion: Arc::new(ingestion),
            uploads: Arc::new(uploads),
            projects: KnownProjects::new(projects, metrics.quotas.clone()),
            quota_metrics: metrics.quotas,
            calls: Calls::default(),
        }
    }

    pub fn ingest_server(&self) -> IngestServiceServer<Self> {
        IngestServiceServer::new(self.clone())
            .max_decoding_message_size(limits::MESSAGE_BYTES)
            .max_encoding_message_size(limits::MESSAGE_BYTES)
    }

    pub fn system_server(&self) -> SystemServiceServer<Self> {
        SystemServiceServer::new(self.clone())
    }

    /// Refuses new streams and calls, stops reading from open streams, and returns when
    /// everything that was read is acknowledged and every stream has ended. A client that
    /// does not read its responses delays it by up to a minute: limit the wait, then close its connection.
    pub async fn drain(&self) {
        self.calls.drain().await;
    }
}

#[cfg(test)]
mod tests;
