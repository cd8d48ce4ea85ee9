//! Errors of the backend as clients expect them. The codes are the same; details that only other clients read are left
//! out.

use tonic::Status;

/// An error of the backend, for the client.
pub(crate) fn forwarded(status: Status) -> Status {
    Status::new(status.code(), status.message())
}

/// The error for a part of an answer that the backend must give.
pub(crate) fn missing(part: &str) -> Status {
    Status::internal(format!("the backend answered without a {part}: please report it"))
}

/// The error for an id that no trial has.
pub(crate) fn no_trial(id: i64) -> Status {
    Status::not_found(format!(
        "there is no trial with the id {id}: its study may have been deleted, load it again"
    ))
}
