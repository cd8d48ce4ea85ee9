//! Errors as W&B's clients expect them: a message, and a status that says whether to try again.

use std::fmt;

use http::StatusCode;
use matyan_proto::common::v1::Code as ProductCode;
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The domain of `google.rpc.ErrorInfo` in Matyan.
const DOMAIN: &str = "matyan";

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

    /// The request is wrong, and wrong again if it is repeated.
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

    /// Whether the status of an answer to GraphQL must tell of the error, so that the client tries again or asks for
    /// another key. All other errors are in the list of a successful answer.
    pub(crate) fn concerns_transport(&self) -> bool {
        self.status.is_server_error()
            || matches!(
                self.status,
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
            )
    }

    /// The JSON of the answer: W&B's clients look for either member.
    pub fn body(&self) -> String {
        json!({"error": self.message, "errors": [{"message": self.message}]}).to_string()
    }
}

impl fmt::Display for WandbError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

/// The product's code of a failed call, if one of the product's services has failed it.
pub(crate) fn product_code(status: &Status) -> Option<ProductCode> {
    let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN)?;
    ProductCode::from_str_name(&format!("CODE_{}", info.reason))
}

/// Returns whether a call has failed because what it is about does not exist. A missing project is another
/// failure: it is not what the client has asked for.
pub(crate) fn is_missing(status: &Status) -> bool {
    let resource = status.get_details_error_info().and_then(|info| info.metadata.get("resource").cloned());
    status.code() == Code::NotFound && resource.as_deref() != Some("project")
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
