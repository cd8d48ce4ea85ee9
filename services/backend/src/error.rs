//! What a call to the backend can fail with, and the one place that turns it into a status.

use std::collections::HashMap;

use matyan_proto::common::v1::Code;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every `google.rpc.ErrorInfo` of the product.
const DOMAIN: &str = "matyan";

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("`{field}` {reason}")]
    InvalidField { field: &'static str, reason: String },
    #[error("{0}")]
    InvalidRequest(String),
    #[error("`{field}` has {size} bytes or entries, and the limit is {limit}: send less at once")]
    TooLarge { field: &'static str, size: usize, limit: usize },
    #[error("there is no {resource} `{id}`")]
    NotFound { resource: &'static str, id: String },
    #[error("{0}: send it again")]
    NotYetApplied(String),
    #[error("{0}: send it again")]
    Waiting(&'static str),
    #[error("the store cannot be reached: send it again")]
    Store(#[source] matyan_store::Error),
    #[error("the log cannot be reached: send it again")]
    Log(#[source] matyan_log::Error),
    #[error("the blob store cannot be reached: send it again")]
    Blobs(#[source] matyan_blob::Error),
    #[error("{0} is not built yet")]
    Unimplemented(&'static str),
    #[error("{} (<query>, line {})", error.message, error.line)]
    InvalidQuery { error: Box<matyan_ql::QueryError>, place: crate::search::Place },
    #[error("{0}")]
    QueryTooExpensive(#[from] matyan_ql::BudgetError),
    #[error("sorting so many runs takes more than {limit} bytes: narrow the query, or leave out the order")]
    SortTooLarge { limit: usize },
    #[error("an internal error: report it")]
    Internal(#[source] matyan_store::Error),
    #[error("the server is stopping: send it again")]
    Stopping,
    #[error("an internal error ended the answer: report it")]
    Broken,
    #[error("the {resource} name `{name}` is taken: choose another")]
    AlreadyExists { resource: &'static str, name: String },
    #[error("the job {job} runs elsewhere: try later")]
    Busy { job: &'static str, holder: String },
    #[error("{0}: begin the run again")]
    OutOfSequence(&'static str),
    #[error("{0}: nothing was kept, send it again")]
    UploadIncomplete(String),
    #[error("the position to go on from is older than what is kept: begin again without one")]
    PositionExpired,
}

impl Error {
    pub(crate) fn field(field: &'static str, reason: impl Into<String>) -> Self {
        Self::InvalidField { field, reason: reason.into() }
    }

    pub(crate) fn not_found(resource: &'static str, id: impl Into<String>) -> Self {
        Self::NotFound { resource, id: id.into() }
    }

    fn code(&self) -> Code {
        match self {
            Self::InvalidField { .. } => Code::InvalidField,
            Self::InvalidRequest(_) => Code::InvalidRequest,
            Self::TooLarge { .. } => Code::TooLarge,
            Self::NotFound { .. } => Code::NotFound,
            Self::NotYetApplied(_) => Code::NotYetApplied,
            Self::Waiting(_) | Self::Store(_) | Self::Log(_) | Self::Blobs(_) | Self::Stopping => {
                Code::Unavailable
            }
            Self::Unimplemented(_) => Code::Unimplemented,
            Self::InvalidQuery { .. } => Code::InvalidQuery,
            Self::QueryTooExpensive(_) | Self::SortTooLarge { .. } => Code::QueryTooExpensive,
            Self::Internal(_) | Self::Broken => Code::Internal,
            Self::AlreadyExists { .. } => Code::AlreadyExists,
            Self::Busy { .. } => Code::Busy,
            Self::PositionExpired => Code::PositionExpired,
            Self::OutOfSequence(_) => Code::OutOfSequence,
            Self::UploadIncomplete(_) => Code::UploadIncomplete,
        }
    }

    fn metadata(&self) -> HashMap<String, String> {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        match self {
            Self::InvalidField { field, .. } => pairs(&[("field", field)]),
            Self::TooLarge { field, limit, .. } => pairs(&[("field", field), ("limit", &limit.to_string())]),
            Self::InvalidQuery { error, place } => pairs(&[
                ("statement", &error.statement),
                ("line", &place.line.to_string()),
                ("column", &place.column.to_string()),
                ("end_column", &place.end_column.to_string()),
                ("offset", &error.wrapped_offset().to_string()),
                ("end_offset", &error.wrapped_end_offset().to_string()),
            ]),
            Self::QueryTooExpensive(budget) => pairs(&[("limit", &format!("{budget:?}"))]),
            Self::SortTooLarge { limit } => pairs(&[("limit", &limit.to_string())]),
            Self::NotFound { resource, id } => pairs(&[("resource", resource), ("id", id)]),
            Self::AlreadyExists { resource, name } => pairs(&[("resource", resource), ("name", name)]),
            Self::Busy { holder, .. } => pairs(&[("holder", holder)]),
            _ => HashMap::new(),
        }
    }
}

impl From<matyan_store::Error> for Error {
    fn from(error: matyan_store::Error) -> Self {
        if error.is_temporary() { Self::Store(error) } else { Self::Internal(error) }
    }
}

impl From<matyan_log::Error> for Error {
    fn from(error: matyan_log::Error) -> Self {
        Self::Log(error)
    }
}

impl From<matyan_blob::Error> for Error {
    fn from(error: matyan_blob::Error) -> Self {
        Self::Blobs(error)
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = error.code();
        if matches!(code, Code::Unavailable | Code::Internal) {
            tracing::warn!(error = &error as &dyn std::error::Error, "a call failed");
        }
        let reason = code.as_str_name().trim_start_matches("CODE_");
        let details = ErrorDetails::with_error_info(reason, DOMAIN, error.metadata());
        Self::with_error_details(tonic::Code::from_i32(code.grpc()), error.to_string(), details)
    }
}
