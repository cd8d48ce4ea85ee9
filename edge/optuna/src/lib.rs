//! The storage service that Optuna's `GrpcStorageProxy` speaks, translated to the service of studies. It keeps no state: a
//! trial id contains the id of its study and its number, and every answer is that of the backend.
//!
//! Each operation becomes calls of `StudyService`, which are made in the scope of the request, so the right that an
//! operation needs is that of the rpc which it calls.

mod dates;
mod errors;
mod ids;
mod parts;
mod storage;
mod trials;

/// Messages and service, as on the wire.
#[allow(
    dead_code,
    clippy::all,
    clippy::large_futures,
    clippy::too_many_lines,
    unreachable_pub,
    reason = "generated code"
)]
mod optuna {
    tonic::include_proto!("optuna");
}

use http::{Request, Response};
use matyan_proto::limits;
use tonic::body::Body;
use tower::{BoxError, util::BoxCloneService};

use optuna::storage_service_server::StorageServiceServer;

pub use storage::Storage;

/// Start of the paths of the service.
pub const PREFIX: &str = "/optuna.StorageService/";

/// The operations of the service, as metrics name them.
pub const METHODS: [&str; 19] = [
    "optuna.StorageService/CreateNewStudy",
    "optuna.StorageService/CreateNewTrial",
    "optuna.StorageService/DeleteStudy",
    "optuna.StorageService/GetAllStudies",
    "optuna.StorageService/GetStudyDirections",
    "optuna.StorageService/GetStudyIdFromName",
    "optuna.StorageService/GetStudyNameFromId",
    "optuna.StorageService/GetStudySystemAttributes",
    "optuna.StorageService/GetStudyUserAttributes",
    "optuna.StorageService/GetTrial",
    "optuna.StorageService/GetTrialIdFromStudyIdTrialNumber",
    "optuna.StorageService/GetTrials",
    "optuna.StorageService/SetStudySystemAttribute",
    "optuna.StorageService/SetStudyUserAttribute",
    "optuna.StorageService/SetTrialIntermediateValue",
    "optuna.StorageService/SetTrialParameter",
    "optuna.StorageService/SetTrialStateValues",
    "optuna.StorageService/SetTrialSystemAttribute",
    "optuna.StorageService/SetTrialUserAttribute",
];

/// A connection to the backend, in the scope of one request.
pub type BackendConnection = BoxCloneService<Request<Body>, Response<Body>, BoxError>;

/// Largest answer. Clients accept any size, and expect all trials that are new to them in one message.
const ANSWER_BYTES: usize = 256 << 20;

/// The service, which makes its calls over connections made by `connect`.
pub fn service(
    connect: impl Fn() -> BackendConnection + Send + Sync + 'static,
) -> StorageServiceServer<Storage> {
    StorageServiceServer::new(Storage::new(connect))
        .max_decoding_message_size(limits::MESSAGE_BYTES)
        .max_encoding_message_size(ANSWER_BYTES)
}
