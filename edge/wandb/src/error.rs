//! Errors as W&B's clients expect them: a message, and a status that says whether to try again.

use std::fmt;

use http::StatusCode;
use matyan_channels::documents::DocumentError;
use matyan_channels::product_code;
use matyan_proto::common::v1::Code as ProductCode;
use serde_json::json;
use tonic::{Code, Status};

pub(crate) type Result<T, E = WandbError> = std::result::Result<T, E>;

/// An unsuccessful answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WandbError {
    pub status: StatusCode,
    pub message: String,
}

impl WandbError {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// The request is wrong, and stays wrong if it is repeated.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// A message of a service that contradicts its contract.
    pub(crate) fn broken(what: &'static str) -> Self {
        tracing::error!(what, "a service has sent an answer without an essential part");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error: please report it with the server's log")
    }

    /// Whether the status of a GraphQL answer must report the error, so that the client tries again or asks for
    /// another key. All other errors are in the list of a successful answer.
    pub(crate) fn concerns_transport(&self) -> bool {
        self.status.is_server_error()
            || matches!(
                self.status,
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
            )
    }

    /// The JSON of the answer. W&B's clients look for either member.
    pub fn body(&self) -> String {
        json!({"error": self.message, "errors": [{"message": self.message}]}).to_string()
    }
}

impl fmt::Display for WandbError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl From<DocumentError> for WandbError {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::Call(status) => status.into(),
            DocumentError::Damaged => Self::broken("content"),
            DocumentError::NoAnswer => Self::broken("document"),
            DocumentError::TooLarge { name, message } => Self::invalid(format!(
                "`{}` would become too large: {message}; delete versions or aliases that are not needed",
                name.escape_debug()
            )),
            // Clients repeat a request with this answer, and with no other answer.
            DocumentError::Conflict { name } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("`{}` was changed by others at the same time: try again", name.escape_debug()),
            ),
        }
    }
}

impl From<Status> for WandbError {
    fn from(status: Status) -> Self {
        let code = match status.code() {
            Code::InvalidArgument
            | Code::OutOfRange
            | Code::Aborted
            | Code::FailedPrecondition
            | Code::AlreadyExists => StatusCode::BAD_REQUEST,
            Code::ResourceExhausted => match product_code(&status) {
                Some(ProductCode::TooLarge | ProductCode::QueryTooExpensive) => StatusCode::BAD_REQUEST,
                _ => StatusCode::TOO_MANY_REQUESTS,
            },
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Code::Unavailable | Code::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
            Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => {
                tracing::error!(code = ?status.code(), message = status.message(), "a call for W&B failed");
                return Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error: see the server's log");
            }
        };
        Self::new(code, status.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_user_is_no_failure_of_the_server() {
        for code in [Code::InvalidArgument, Code::NotFound, Code::AlreadyExists, Code::FailedPrecondition] {
            let error = WandbError::from(Status::new(code, "x"));
            assert!(error.status.is_client_error() && !error.concerns_transport(), "{code:?}: {error:?}");
        }
        assert!(WandbError::from(Status::unavailable("x")).concerns_transport());
        assert_eq!(WandbError::from(Status::internal("secret")).message.find("secret"), None);
    }
}
