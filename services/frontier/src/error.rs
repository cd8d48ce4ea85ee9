//! Errors of calls to the frontier, and their conversion to a status, which is done only here.
//! Bad items of a batch are not errors: they are reported as rejections, and the rest of the
//! batch is published.

use std::{collections::HashMap, sync::Arc};

use matyan_proto::{ERROR_DOMAIN, common::v1::Code};
use matyan_wire::project_quota::QuotaExceeded;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("`{field}` {reason}")]
    InvalidField { field: &'static str, reason: String },
    #[error("`{field}` has {size} bytes, but the limit is {limit}: send less in one message")]
    TooLarge { field: &'static str, size: usize, limit: usize },
    #[error("`batch` takes more than {limit} bytes as JSON envelopes: send smaller batches")]
    TooLargeAsJson { limit: usize },
    #[error(
        "the names of the series of this stream take more than {limit} bytes: open a stream under a new producer id, \
         and define only the series that it needs"
    )]
    DictionaryTooLarge { limit: usize },
    #[error("there is no memory for the names of the series of this stream, because others take it: retry")]
    DictionariesFull,
    #[error("{0}: open a new stream under a new producer id")]
    OutOfSequence(String),
    #[error("{0}")]
    PermissionDenied(String),
    #[error("{0}: upload again")]
    UploadIncomplete(String),
    #[error(transparent)]
    UploadLimit(matyan_blob::LimitReached),
    #[error("this server accepts no uploads for its blob store: PUT to the URL that `Presign` returned")]
    NoUploads,
    #[error("the upload does not exist any more: begin a new one")]
    NoUpload,
    #[error(
        "the project `{0}` does not exist: create it with `matyan projects create {0}`, or correct the name after \
         `/p/` in the URL or in the header `matyan-project`"
    )]
    NoProject(String),
    #[error("failed to look up the project: retry")]
    Projects(#[source] Arc<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    QuotaExceeded(QuotaExceeded),
    #[error("the server is stopping: reconnect")]
    Stopping,
    #[error(
        "the responses were not read for a minute: reconnect with the same producer id, resend all unacknowledged \
         batches, and read responses while sending"
    )]
    ClientStalled,
    #[error("failed to write to the log: retry")]
    Log(#[source] matyan_log::Error),
    #[error("the log did not respond in time: retry")]
    LogSilent,
    #[error("the blob store is unavailable: retry")]
    Blobs(#[source] matyan_blob::Error),
    #[error("internal error: please report it")]
    Internal(#[source] matyan_blob::Error),
}

impl Error {
    pub(crate) fn field(field: &'static str, reason: impl Into<String>) -> Self {
        Self::InvalidField { field, reason: reason.into() }
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Self::InvalidField { .. } => Code::InvalidField,
            Self::TooLarge { .. } | Self::TooLargeAsJson { .. } | Self::DictionaryTooLarge { .. } => {
                Code::TooLarge
            }
            Self::UploadLimit(limit) if limit.is_temporary() => Code::Unavailable,
            Self::UploadLimit(_) => Code::TooLarge,
            Self::OutOfSequence(_) => Code::OutOfSequence,
            Self::PermissionDenied(_) => Code::PermissionDenied,
            Self::UploadIncomplete(_) => Code::UploadIncomplete,
            Self::ClientStalled => Code::ClientStalled,
            Self::NoUploads => Code::Unimplemented,
            Self::NoUpload | Self::NoProject(_) => Code::NotFound,
            Self::Stopping
            | Self::QuotaExceeded(_)
            | Self::DictionariesFull
            | Self::Projects(_)
            | Self::Log(_)
            | Self::LogSilent
            | Self::Blobs(_) => Code::Unavailable,
            Self::Internal(_) => Code::Internal,
        }
    }

    fn metadata(&self) -> HashMap<String, String> {
        match self {
            Self::InvalidField { field, .. } => HashMap::from([("field".into(), (*field).into())]),
            Self::TooLarge { field, limit, .. } => {
                HashMap::from([("field".into(), (*field).into()), ("limit".into(), limit.to_string())])
            }
            Self::TooLargeAsJson { limit } => {
                HashMap::from([("field".into(), "batch".into()), ("limit".into(), limit.to_string())])
            }
            Self::DictionaryTooLarge { limit } => {
                HashMap::from([("field".into(), "series".into()), ("limit".into(), limit.to_string())])
            }
            Self::NoProject(name) => {
                HashMap::from([("resource".into(), "project".into()), ("id".into(), name.clone())])
            }
            Self::QuotaExceeded(exceeded) => {
                exceeded.metadata().into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            }
            Self::UploadLimit(limit) => {
                limit.limit().map(|limit| ("limit".into(), limit.to_string())).into_iter().collect()
            }
            _ => HashMap::new(),
        }
    }
}

impl From<matyan_blob::Error> for Error {
    fn from(error: matyan_blob::Error) -> Self {
        use matyan_blob::Error as Blob;
        match error {
            Blob::Unavailable { .. } => Self::Blobs(error),
            Blob::BadKey { reason, .. } => Self::field("key", format!("is not valid: {reason}")),
            Blob::BadContentType { reason } => Self::field("content_type", format!("is not valid: {reason}")),
            Blob::Rejected { reason } => Self::field("key", format!("was rejected: {reason}")),
            Blob::BadToken { .. } => Self::PermissionDenied(error.to_string()),
            Blob::WrongLength { .. } | Blob::PartsMissing { .. } | Blob::Stalled { .. } => {
                Self::UploadIncomplete(error.to_string())
            }
            Blob::Limit(limit) => Self::UploadLimit(limit),
            Blob::NoUpload => Self::NoUpload,
            Blob::NoBucket { .. } => Self::Blobs(error),
            Blob::Setup { .. } => Self::Internal(error),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = error.code();
        if std::error::Error::source(&error).is_some() {
            tracing::warn!(error = &error as &dyn std::error::Error, "call failed");
        }
        let reason = code.as_str_name().trim_start_matches("CODE_");
        let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, error.metadata());
        Self::with_error_details(tonic::Code::from_i32(code.grpc()), error.to_string(), details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: Error, code: tonic::Code, reason: &str, field: Option<&str>) {
        let status = Status::from(error);
        assert_eq!(status.code(), code);
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.domain.as_str(), info.reason.as_str()), ("matyan", reason));
        assert_eq!(info.metadata.get("field").map(String::as_str), field);
    }

    #[test]
    fn a_status_has_a_code_and_a_field() {
        let silent = || matyan_blob::Error::unavailable("away");
        check(
            Error::field("run_id", "is empty"),
            tonic::Code::InvalidArgument,
            "INVALID_FIELD",
            Some("run_id"),
        );
        check(
            Error::TooLarge { field: "batch", size: 2, limit: 1 },
            tonic::Code::ResourceExhausted,
            "TOO_LARGE",
            Some("batch"),
        );
        check(Error::OutOfSequence("x".into()), tonic::Code::FailedPrecondition, "OUT_OF_SEQUENCE", None);
        check(Error::LogSilent, tonic::Code::Unavailable, "UNAVAILABLE", None);
        check(silent().into(), tonic::Code::Unavailable, "UNAVAILABLE", None);
        check(
            matyan_blob::Error::BadToken { reason: "x" }.into(),
            tonic::Code::PermissionDenied,
            "PERMISSION_DENIED",
            None,
        );
        check(
            matyan_blob::Error::WrongLength { announced: 2, received: 1 }.into(),
            tonic::Code::Aborted,
            "UPLOAD_INCOMPLETE",
            None,
        );
    }
}
