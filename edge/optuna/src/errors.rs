//! Errors of the backend in the form that clients expect. The codes are the same; details that only other clients read
//! are left out.

use tonic::Status;

/// Converts an error of the backend for the client.
pub(crate) fn forwarded(status: Status) -> Status {
    Status::new(status.code(), status.message())
}

/// The error for a part that is missing in an answer of the backend.
pub(crate) fn missing(part: &str) -> Status {
    Status::internal(format!("the backend answered without a {part}: please report it"))
}

/// The error for an id that belongs to no trial.
pub(crate) fn no_trial(id: i64) -> Status {
    Status::not_found(format!(
        "there is no trial with the id {id}: its study may have been deleted, load it again"
    ))
}
