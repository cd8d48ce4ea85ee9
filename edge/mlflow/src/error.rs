//! Errors as MLflow's clients expect them: a code by name, a message, and a status.

use http::StatusCode;
use matyan_channels::documents::DocumentError;
use matyan_channels::product_code;
use matyan_proto::common::v1::Code as ProductCode;
use serde_json::json;
use tonic::{Code, Status};

pub(crate) type Result<T, E = MlflowError> = std::result::Result<T, E>;

/// The codes of MLflow that this server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The request, or one of its parameters, is wrong.
    InvalidParameterValue,
    ResourceDoesNotExist,
    ResourceAlreadyExists,
    /// The body cannot be read.
    BadRequest,
    Unauthenticated,
    PermissionDenied,
    /// There is no such operation.
    EndpointNotFound,
    /// The operation exists in MLflow, but not in this server.
    NotImplemented,
    RequestLimitExceeded,
    TemporarilyUnavailable,
    DeadlineExceeded,
    InternalError,
}

impl ErrorCode {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidParameterValue => "INVALID_PARAMETER_VALUE",
            Self::ResourceDoesNotExist => "RESOURCE_DOES_NOT_EXIST",
            Self::ResourceAlreadyExists => "RESOURCE_ALREADY_EXISTS",
            Self::BadRequest => "BAD_REQUEST",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::EndpointNotFound => "ENDPOINT_NOT_FOUND",
            Self::NotImplemented => "NOT_IMPLEMENTED",
            Self::RequestLimitExceeded => "REQUEST_LIMIT_EXCEEDED",
            Self::TemporarilyUnavailable => "TEMPORARILY_UNAVAILABLE",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }

    /// The status that MLflow sends with the code.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::InvalidParameterValue | Self::ResourceAlreadyExists | Self::BadRequest => {
                StatusCode::BAD_REQUEST
            }
            Self::ResourceDoesNotExist | Self::EndpointNotFound => StatusCode::NOT_FOUND,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::RequestLimitExceeded => StatusCode::TOO_MANY_REQUESTS,
            Self::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Self::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The code for an answer of the edge, which refuses some requests before they reach this crate.
    pub fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthenticated,
            StatusCode::FORBIDDEN => Self::PermissionDenied,
            StatusCode::NOT_FOUND => Self::ResourceDoesNotExist,
            StatusCode::TOO_MANY_REQUESTS => Self::RequestLimitExceeded,
            StatusCode::SERVICE_UNAVAILABLE => Self::TemporarilyUnavailable,
            StatusCode::GATEWAY_TIMEOUT => Self::DeadlineExceeded,
            status if status.is_client_error() => Self::BadRequest,
            _ => Self::InternalError,
        }
    }
}

/// An unsuccessful answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MlflowError {
    pub code: ErrorCode,
    pub message: String,
}

impl MlflowError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidParameterValue, message)
    }

    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::ResourceDoesNotExist, message)
    }

    pub(crate) fn exists(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::ResourceAlreadyExists, message)
    }

    /// A message of a service that contradicts its contract.
    pub(crate) fn broken(what: &'static str) -> Self {
        tracing::error!(what, "a service has sent an answer without an essential part");
        Self::new(ErrorCode::InternalError, "internal error: please report it with the server's log")
    }

    /// The JSON of the answer.
    pub fn body(&self) -> String {
        json!({"error_code": self.code.name(), "message": self.message}).to_string()
    }
}

impl From<DocumentError> for MlflowError {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::Call(status) => status.into(),
            DocumentError::Damaged => {
                Self::new(ErrorCode::InternalError, "a stored document is damaged: see the server's log")
            }
            DocumentError::NoAnswer => Self::broken("document"),
            DocumentError::TooLarge { name, message } => Self::invalid(format!(
                "'{name}' would become too large: {message}; delete versions, tags or descriptions that are not needed"
            )),
            // Clients repeat a request with this answer.
            DocumentError::Conflict { name } => Self::new(
                ErrorCode::TemporarilyUnavailable,
                format!("'{name}' was changed by others at the same time: try again"),
            ),
        }
    }
}

impl From<Status> for MlflowError {
    fn from(status: Status) -> Self {
        let code = match status.code() {
            Code::InvalidArgument | Code::OutOfRange | Code::Aborted | Code::FailedPrecondition => {
                ErrorCode::InvalidParameterValue
            }
            Code::ResourceExhausted => match product_code(&status) {
                Some(ProductCode::TooLarge | ProductCode::QueryTooExpensive) => {
                    ErrorCode::InvalidParameterValue
                }
                _ => ErrorCode::RequestLimitExceeded,
            },
            Code::NotFound => ErrorCode::ResourceDoesNotExist,
            Code::AlreadyExists => ErrorCode::ResourceAlreadyExists,
            Code::Unauthenticated => ErrorCode::Unauthenticated,
            Code::PermissionDenied => ErrorCode::PermissionDenied,
            Code::Unimplemented => ErrorCode::NotImplemented,
            Code::Unavailable | Code::Cancelled => ErrorCode::TemporarilyUnavailable,
            Code::DeadlineExceeded => ErrorCode::DeadlineExceeded,
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => {
                tracing::error!(code = ?status.code(), message = status.message(), "a call for MLflow failed");
                return Self::new(ErrorCode::InternalError, "internal error: see the server's log");
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
            let error = MlflowError::from(Status::new(code, "x"));
            assert!(error.code.status().is_client_error(), "{code:?}: {error:?}");
        }
        assert_eq!(MlflowError::from(Status::internal("secret")).message.find("secret"), None);
        let error = MlflowError::invalid("no \"x\"");
        assert_eq!(error.body(), r#"{"error_code":"INVALID_PARAMETER_VALUE","message":"no \"x\""}"#);
    }
}
