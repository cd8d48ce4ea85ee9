//! Connections of one request to the services. The translators of other protocols get the connections from the edge:
//! each call is made in the project and with the rights of the request. Code that the translators share is here as
//! well: it reads failures, waits until writes are applied, names clients, keeps named documents, lists and stores
//! files, makes several calls at the same time, and works over large messages.

mod artifact_list;
mod calls;
mod client_name;
pub mod documents;
mod large_work;
mod parted_file;
mod position;
mod status;
mod stored_file;

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use matyan_proto::{
    artifacts::v1::artifact_service_client::ArtifactServiceClient,
    documents::v1::document_service_client::DocumentServiceClient,
    experiments::v1::experiment_service_client::ExperimentServiceClient,
    ingest::v1::ingest_service_client::IngestServiceClient, logs::v1::log_service_client::LogServiceClient,
    runs::v1::run_service_client::RunServiceClient, search::v1::search_service_client::SearchServiceClient,
    series::v1::series_service_client::SeriesServiceClient,
    studies::v1::study_service_client::StudyServiceClient,
};
use tonic::body::Body;
use tower::{BoxError, Service, ServiceExt as _, util::BoxCloneSyncService};

pub use artifact_list::{ArtifactPieces, list_artifacts};
pub use calls::{call_all, in_order};
pub use client_name::client_name;
pub use large_work::{LargeWork, json_bytes, run_apart};
pub use parted_file::{MAX_PARTS, PartedFile, misnumbered_part};
pub use position::{after, wait_applied};
pub use status::{is_missing, missing_resource, product_code};
pub use stored_file::store_file;

/// Maximum number of calls of services that a step of a request makes at the same time. With more, other requests would
/// have to wait.
pub const CALLS_AT_A_TIME: usize = 16;

/// Maximum number of values in a request in JSON to a translator, where an object counts as ten: in memory, a value
/// takes many times the size of its text.
pub const MAX_REQUEST_VALUES: usize = 200_000;

/// A connection to a service. It is a separate type because the compiler cannot tell that a future with a client over
/// a boxed service is `Send`.
#[derive(Clone, Debug)]
pub struct Channel(BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>);

impl Channel {
    pub fn new<S>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError> + 'static,
        S::Future: Send + 'static,
    {
        Self(BoxCloneSyncService::new(service.map_err(Into::into)))
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.call(request)
    }
}

/// The connections of one request.
#[derive(Clone, Debug)]
pub struct Channels {
    pub backend: Channel,
    pub frontier: Channel,
}

/// Creates a generated client over a channel, with the system's message size limit in both directions.
macro_rules! client {
    ($client:ty, $channel:expr) => {
        <$client>::new($channel.clone())
            .max_decoding_message_size(matyan_proto::limits::MESSAGE_BYTES)
            .max_encoding_message_size(matyan_proto::limits::MESSAGE_BYTES)
    };
}

impl Channel {
    pub fn studies(&self) -> StudyServiceClient<Channel> {
        client!(StudyServiceClient<Channel>, self)
    }
}

impl Channels {
    pub fn artifacts(&self) -> ArtifactServiceClient<Channel> {
        client!(ArtifactServiceClient<Channel>, self.backend)
    }

    pub fn documents(&self) -> DocumentServiceClient<Channel> {
        client!(DocumentServiceClient<Channel>, self.backend)
    }

    pub fn experiments(&self) -> ExperimentServiceClient<Channel> {
        client!(ExperimentServiceClient<Channel>, self.backend)
    }

    pub fn ingest(&self) -> IngestServiceClient<Channel> {
        client!(IngestServiceClient<Channel>, self.frontier)
    }

    pub fn logs(&self) -> LogServiceClient<Channel> {
        client!(LogServiceClient<Channel>, self.backend)
    }

    pub fn runs(&self) -> RunServiceClient<Channel> {
        client!(RunServiceClient<Channel>, self.backend)
    }

    pub fn search(&self) -> SearchServiceClient<Channel> {
        client!(SearchServiceClient<Channel>, self.backend)
    }

    pub fn series(&self) -> SeriesServiceClient<Channel> {
        client!(SeriesServiceClient<Channel>, self.backend)
    }
}
