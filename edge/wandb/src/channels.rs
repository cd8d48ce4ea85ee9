//! Clients of the services, over the channels of one request.

use http::{Request, Response};
use matyan_proto::artifacts::v1::artifact_service_client::ArtifactServiceClient;
use matyan_proto::documents::v1::document_service_client::DocumentServiceClient;
use matyan_proto::experiments::v1::experiment_service_client::ExperimentServiceClient;
use matyan_proto::ingest::v1::ingest_service_client::IngestServiceClient;
use matyan_proto::logs::v1::log_service_client::LogServiceClient;
use matyan_proto::runs::v1::run_service_client::RunServiceClient;
use matyan_proto::search::v1::search_service_client::SearchServiceClient;
use matyan_proto::series::v1::series_service_client::SeriesServiceClient;
use tonic::body::Body;
use tower::BoxError;
use tower::util::BoxCloneSyncService;

/// A connection to a service, in the project and with the rights of one request.
pub type Channel = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

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

impl Channels {
    pub(crate) fn artifacts(&self) -> ArtifactServiceClient<Channel> {
        client!(ArtifactServiceClient<Channel>, self.backend)
    }

    pub(crate) fn documents(&self) -> DocumentServiceClient<Channel> {
        client!(DocumentServiceClient<Channel>, self.backend)
    }

    pub(crate) fn experiments(&self) -> ExperimentServiceClient<Channel> {
        client!(ExperimentServiceClient<Channel>, self.backend)
    }

    pub(crate) fn ingest(&self) -> IngestServiceClient<Channel> {
        client!(IngestServiceClient<Channel>, self.frontier)
    }

    pub(crate) fn logs(&self) -> LogServiceClient<Channel> {
        client!(LogServiceClient<Channel>, self.backend)
    }

    pub(crate) fn runs(&self) -> RunServiceClient<Channel> {
        client!(RunServiceClient<Channel>, self.backend)
    }

    pub(crate) fn search(&self) -> SearchServiceClient<Channel> {
        client!(SearchServiceClient<Channel>, self.backend)
    }

    pub(crate) fn series(&self) -> SeriesServiceClient<Channel> {
        client!(SeriesServiceClient<Channel>, self.backend)
    }
}
