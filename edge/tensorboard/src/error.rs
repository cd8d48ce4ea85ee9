//! The reasons why following a directory cannot continue.

use tonic::{Code, Status};

#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The server may answer later. Nothing is lost: the files are still there.
    #[error("the server cannot take data now ({})", .0.message())]
    Temporary(Status),
    /// The server refuses every call, or does not know the call.
    #[error("the server refuses the data ({})", .0.message())]
    Refused(Status),
}

impl FollowError {
    pub fn status(&self) -> &Status {
        match self {
            Self::Temporary(status) | Self::Refused(status) => status,
        }
    }
}

impl From<Status> for FollowError {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::InvalidArgument
            | Code::Unauthenticated
            | Code::PermissionDenied
            | Code::NotFound
            | Code::FailedPrecondition
            | Code::Unimplemented => Self::Refused(status),
            _ => Self::Temporary(status),
        }
    }
}
