//! The storage service that Optuna's `GrpcStorageProxy` speaks, translated to the service of studies. It keeps no
//! state: a trial id contains the id of its study and its number, and every answer comes from the backend.
//!
//! Each operation becomes calls of `StudyService`, which are made in the scope of the request. So an operation needs
//! the right of the rpc that it calls.

mod codec;
mod dates;
mod errors;
mod ids;
mod large_answers;
mod optuna;
mod parts;
mod storage;
mod trials;

use matyan_channels::Channel;
use matyan_proto::limits;

use optuna::storage_service_server::StorageServiceServer;
use parts::ANSWER_BYTES;

pub use large_answers::KeepTurns;
pub use storage::Storage;

/// Start of the paths of the service.
pub const PREFIX: &str = "/optuna.StorageService/";

/// The operations of the service, as metrics name them.
pub static METHODS: [&str; 19] = [
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

/// The service. It makes its calls over connections that `connect` makes.
pub fn service(
    connect: impl Fn() -> Channel + Send + Sync + 'static,
) -> KeepTurns<StorageServiceServer<Storage>> {
    let service = StorageServiceServer::new(Storage::new(connect))
        .max_decoding_message_size(limits::MESSAGE_BYTES)
        .max_encoding_message_size(ANSWER_BYTES);
    KeepTurns::new(service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_name_every_operation() {
        let description = include_str!("../proto/storage.proto");
        let operations = description.lines().filter_map(|line| line.trim().strip_prefix("rpc "));
        let mut names: Vec<_> = operations
            .filter_map(|line| line.split_once('('))
            .map(|(name, _)| format!("{PREFIX}{name}"))
            .collect();
        names.sort_unstable();
        assert_eq!(names, METHODS.map(|name| format!("/{name}")));
    }
}
