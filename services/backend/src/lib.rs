//! gRPC queries and control operations: reads the store, writes control changes to it, and appends deletions to the log.
//! It never reads the log: it holds the writing half alone.

mod call;
mod context;
mod convert;
mod error;

mod artifacts;
mod experiments;
mod logs;
mod objects;
mod runs;
mod search;
mod series;
mod stream;
mod system;
mod token;
mod view;

pub use context::{Clock, Context};
pub use token::UriKey;

use std::sync::Arc;

use matyan_proto::{
    artifacts::v1::artifact_service_server::ArtifactServiceServer,
    experiments::v1::experiment_service_server::ExperimentServiceServer, limits,
    logs::v1::log_service_server::LogServiceServer, objects::v1::object_service_server::ObjectServiceServer,
    runs::v1::run_service_server::RunServiceServer, search::v1::search_service_server::SearchServiceServer,
    series::v1::series_service_server::SeriesServiceServer,
    system::v1::system_service_server::SystemServiceServer,
};
use tonic::service::Routes;

/// The services of the query side. Cheap to clone.
#[derive(Clone)]
pub struct Backend {
    context: Arc<Context>,
}

impl Backend {
    pub fn new(context: Context) -> Self {
        Self { context: Arc::new(context) }
    }

    /// Every service, as one tower service.
    pub fn into_routes(self) -> Routes {
        macro_rules! server {
            ($server:ident) => {
                $server::new(self.clone())
                    .max_decoding_message_size(limits::MESSAGE_BYTES)
                    .max_encoding_message_size(limits::MESSAGE_BYTES)
            };
        }
        Routes::new(server!(RunServiceServer))
            .add_service(server!(SystemServiceServer))
            .add_service(server!(ExperimentServiceServer))
            .add_service(server!(SeriesServiceServer))
            .add_service(server!(LogServiceServer))
            .add_service(server!(ObjectServiceServer))
            .add_service(server!(ArtifactServiceServer))
            .add_service(server!(SearchServiceServer))
    }
}
