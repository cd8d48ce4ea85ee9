//! Errors of the backend's calls, and their conversion into a gRPC status.

use std::collections::HashMap;

use matyan_model::{
    entity::EntityError,
    study::{MAX_NUMBER, StudyError},
};
use matyan_proto::{ERROR_DOMAIN, common::v1::Code};
use matyan_value::datetime::UtcTime;
use matyan_wire::{headers::NEXT, project_quota::QuotaExceeded};
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

/// Maximum length of a caller's text repeated in an error: errors travel in headers, which are
/// small.
const MAX_REPEATED_BYTES: usize = 1_024;

/// Metadata of the error of a batch that ended early: how many of its runs are done.
pub(crate) const DONE: &str = "done";

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("`{field}` {reason}")]
    InvalidField { field: &'static str, reason: String },
    #[error("{0}")]
    InvalidRequest(String),
    #[error("`{field}` has {size} bytes or entries, and the limit is {limit}: send less in one request")]
    TooLarge { field: &'static str, size: usize, limit: usize },
    #[error("there are {limit} {what} already, and there is no room for more: {remedy}")]
    Full { what: &'static str, limit: usize, remedy: &'static str },
    #[error(
        "run `{run_id}` has {limit} tags or more, which is the limit: remove some before you add another"
    )]
    TooManyTags { field: &'static str, run_id: String, limit: usize },
    #[error("there is no {resource} `{id}`")]
    NotFound { resource: &'static str, id: String },
    #[error("there is no {resource} `{id}`, as given in `{field}`: create it first, or correct the field")]
    NoSuchReference { field: &'static str, resource: &'static str, id: String },
    #[error(
        "{resource} `{id}` was changed at {} since it was read: read it again, and repeat the change",
        text_of_time(*updated_us)
    )]
    Changed { resource: &'static str, id: String, updated_us: i64 },
    /// `primary` is empty if the project has no primary metric.
    #[error(
        "the primary metric of the project was changed since it was read, and is now `{primary}`: read the goals again, \
         and repeat the change"
    )]
    PrimaryChanged { primary: String },
    #[error(
        "there are no numbers left: a project has at most {} studies, and a study as many trials; continue in another \
         project or another study",
        MAX_NUMBER
    )]
    NoMoreNumbers,
    #[error(
        "the project has {limit} goals of metrics or more, which is the limit: forget what was set for metrics that are \
         not used, before you add another goal"
    )]
    TooManyGoals { limit: usize },
    #[error(
        "trial {number} of study {study} has finished, and a finished trial never changes: start another one"
    )]
    FinishedTrial { study: u32, number: u32 },
    #[error("{0}: retry")]
    NotYetApplied(String),
    #[error("{0}: retry")]
    Waiting(&'static str),
    #[error(
        "the watches of this server remember too many runs: close some of them, or watch fewer runs, by `run_ids` or \
         `WatchRuns`"
    )]
    TooManyWatched,
    #[error("the client has stopped reading: start again")]
    ClientStalled,
    #[error("the store is unavailable: retry")]
    Store(#[source] matyan_store::Error),
    #[error("the log is unavailable: retry")]
    Log(#[source] matyan_log::Error),
    #[error("the blob store is unavailable: retry")]
    Blobs(#[source] matyan_blob::Error),
    #[error("{} (<query>, line {})", error.message, error.line)]
    InvalidQuery { error: Box<matyan_ql::QueryError>, position: super::text_position::TextPosition },
    #[error("{0}")]
    QueryTooExpensive(#[from] matyan_ql::BudgetError),
    #[error(
        "sorting this many runs takes more than {limit} bytes: narrow the query, omit the order, or set MATYAN_RUN_TABLE_BYTES to more"
    )]
    SortTooLarge { limit: usize },
    #[error("internal error: please report it")]
    Internal(#[source] matyan_store::Error),
    #[error("stored data is damaged ({0}): restore it from a backup")]
    Damaged(matyan_store::Error),
    #[error("run `{run_id}` is damaged ({reason}): restore it from a backup; other runs are not affected")]
    DamagedRun { run_id: String, reason: String },
    #[error("the server is shutting down: retry")]
    Stopping,
    #[error("an internal error ended the stream: please report it")]
    Broken,
    #[error("{0}: please report it")]
    Unwritable(String),
    #[error("the {resource} name `{name}` is already taken: choose another")]
    AlreadyExists { resource: &'static str, name: String },
    #[error("the job {job} is already running: try again later")]
    Busy { job: &'static str, holder: String },
    /// A batch ended early.
    #[error("{source}; the first {done} runs are done, continue after them")]
    Partial { done: usize, source: Box<Error> },
    #[error("{0}: start the run again")]
    OutOfSequence(&'static str),
    #[error("{0}: nothing was stored, send it again")]
    UploadIncomplete(String),
    #[error(transparent)]
    UploadLimit(matyan_blob::LimitReached),
    #[error(transparent)]
    QuotaExceeded(QuotaExceeded),
    #[error("the resume position has expired: start again without one")]
    PositionExpired,
    #[error(
        "only processes of this deployment get an answer: give this process and the backend the same BLOB_URI_SECRET"
    )]
    WrongSignature,
    #[error("{0}")]
    SignInFailed(String),
    #[error("{reason}")]
    SignInRefused { principal: String, reason: String },
    /// A sign-in with a provider that the browser began on its way to a page.
    #[error("{source}")]
    UnfinishedSignIn { next: String, source: Box<Error> },
    /// A program gets no token by this code, in this session.
    #[error("{0}")]
    LoginRefused(String),
    #[error(
        "too many programs in your network are waiting for someone to type their code: try again in two minutes, or use \
         `matyan login --paste`"
    )]
    TooManyLogins,
    #[error("the provider with which you sign in does not answer: try again, or sign in with a token")]
    ProviderAway,
    #[error(
        "records of projects that do not exist are not shown to owners of one project: ask an operator, or an owner of \
         all projects"
    )]
    ManagesOneProject,
    #[error(
        "{what} needs the role {role}, which `{caller}` does not have in this project: ask an owner or an operator"
    )]
    MissingRole { what: &'static str, role: &'static str, caller: String },
    #[error("access rights cannot be looked up at the moment: try again")]
    RightsAway,
}

impl Error {
    pub(crate) fn field(field: &'static str, reason: impl Into<String>) -> Self {
        Self::InvalidField { field, reason: reason.into() }
    }

    pub(crate) fn sign_in_refused(principal: &str, reason: String) -> Self {
        Self::SignInRefused { principal: principal.to_owned(), reason }
    }

    pub(crate) fn not_found(resource: &'static str, id: impl Into<String>) -> Self {
        Self::NotFound { resource, id: id.into() }
    }

    /// Names the run whose rows an error is about.
    pub(crate) fn of_run(self, run_id: &str) -> Self {
        match self {
            Self::Damaged(error) => Self::DamagedRun { run_id: run_id.to_owned(), reason: error.to_string() },
            other => other,
        }
    }

    /// The error of a batch whose first `done` entries have been handled.
    pub(crate) fn after(self, done: usize) -> Self {
        if done == 0 { self } else { Self::Partial { done, source: Box::new(self) } }
    }

    fn code(&self) -> Code {
        match self {
            Self::Partial { source, .. } | Self::UnfinishedSignIn { source, .. } => source.code(),
            Self::InvalidField { .. } => Code::InvalidField,
            Self::InvalidRequest(_) => Code::InvalidRequest,
            Self::TooLarge { .. }
            | Self::Full { .. }
            | Self::TooManyTags { .. }
            | Self::TooManyGoals { .. }
            | Self::TooManyLogins
            | Self::NoMoreNumbers => Code::TooLarge,
            Self::UploadLimit(limit) if limit.is_temporary() => Code::Unavailable,
            Self::UploadLimit(_) => Code::TooLarge,
            Self::NotFound { .. } | Self::NoSuchReference { .. } => Code::NotFound,
            Self::NotYetApplied(_) => Code::NotYetApplied,
            Self::Waiting(_)
            | Self::QuotaExceeded(_)
            | Self::TooManyWatched
            | Self::Store(_)
            | Self::Log(_)
            | Self::Blobs(_)
            | Self::Stopping
            | Self::ProviderAway
            | Self::RightsAway => Code::Unavailable,
            Self::InvalidQuery { .. } => Code::InvalidQuery,
            Self::QueryTooExpensive(_) | Self::SortTooLarge { .. } => Code::QueryTooExpensive,
            Self::Internal(_)
            | Self::Broken
            | Self::Unwritable(_)
            | Self::Damaged(_)
            | Self::DamagedRun { .. } => Code::Internal,
            Self::AlreadyExists { .. } => Code::AlreadyExists,
            Self::Busy { .. } => Code::Busy,
            Self::ClientStalled => Code::ClientStalled,
            Self::Changed { .. } | Self::PrimaryChanged { .. } => Code::Changed,
            Self::FinishedTrial { .. } => Code::Finished,
            Self::PositionExpired => Code::PositionExpired,
            Self::OutOfSequence(_) => Code::OutOfSequence,
            Self::UploadIncomplete(_) => Code::UploadIncomplete,
            Self::WrongSignature
            | Self::SignInRefused { .. }
            | Self::LoginRefused(_)
            | Self::ManagesOneProject
            | Self::MissingRole { .. } => Code::PermissionDenied,
            Self::SignInFailed(_) => Code::Unauthenticated,
        }
    }

    fn metadata(&self) -> HashMap<String, String> {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        match self {
            Self::InvalidField { field, .. } => pairs(&[("field", field)]),
            Self::TooLarge { field, limit, .. } | Self::TooManyTags { field, limit, .. } => {
                pairs(&[("field", field), ("limit", &limit.to_string())])
            }
            Self::Full { what, limit, remedy: _ } => pairs(&[("field", what), ("limit", &limit.to_string())]),
            Self::InvalidQuery { error, position } => {
                let mut metadata: HashMap<String, String> = pairs(&[
                    ("statement", &error.statement),
                    ("line", &position.line.to_string()),
                    ("column", &position.column.to_string()),
                    ("end_column", &position.end_column.to_string()),
                    ("offset", &error.wrapped_offset().to_string()),
                    ("end_offset", &error.wrapped_end_offset().to_string()),
                ]);
                metadata.extend(error.expected.clone().map(|expected| ("expected".to_owned(), expected)));
                metadata
            }
            Self::QueryTooExpensive(budget) => pairs(&[("limit", &format!("{budget:?}"))]),
            Self::SortTooLarge { limit } => pairs(&[("limit", &limit.to_string())]),
            Self::UploadLimit(limit) => {
                limit.limit().map(|limit| ("limit".to_owned(), limit.to_string())).into_iter().collect()
            }
            Self::QuotaExceeded(exceeded) => {
                exceeded.metadata().into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            }
            Self::NotFound { resource, id } => pairs(&[("resource", resource), ("id", id)]),
            Self::NoSuchReference { field, resource, id } => {
                pairs(&[("field", field), ("resource", resource), ("id", id)])
            }
            Self::AlreadyExists { resource, name } => pairs(&[("resource", resource), ("name", name)]),
            Self::Changed { resource, id, updated_us } => {
                pairs(&[("resource", resource), ("id", id), ("updated_us", &updated_us.to_string())])
            }
            Self::PrimaryChanged { primary } => pairs(&[("resource", "primary metric"), ("id", primary)]),
            Self::TooManyGoals { limit } => pairs(&[("field", "goals"), ("limit", &limit.to_string())]),
            Self::NoMoreNumbers => pairs(&[("field", "number"), ("limit", &MAX_NUMBER.to_string())]),
            Self::FinishedTrial { study, number } => {
                pairs(&[("study_id", &study.to_string()), ("number", &number.to_string())])
            }
            Self::Busy { holder, .. } => pairs(&[("holder", holder)]),
            Self::SignInRefused { principal, .. } => pairs(&[("principal", principal)]),
            Self::Partial { done, source } => {
                let mut metadata = source.metadata();
                metadata.insert(DONE.to_owned(), done.to_string());
                metadata
            }
            Self::UnfinishedSignIn { next, source } => {
                let mut metadata = source.metadata();
                metadata.insert(NEXT.to_owned(), next.clone());
                metadata
            }
            _ => HashMap::new(),
        }
    }
}

impl From<matyan_store::Error> for Error {
    fn from(error: matyan_store::Error) -> Self {
        match error {
            // The request caused this, so the caller can avoid it by sending less.
            matyan_store::Error::TooLarge { what, size, max } => {
                Self::TooLarge { field: what, size, limit: max }
            }
            error if error.is_temporary() => Self::Store(error),
            error @ matyan_store::Error::Corrupt { .. } => Self::Damaged(error),
            error => Self::Internal(error),
        }
    }
}

impl From<EntityError> for Error {
    fn from(error: EntityError) -> Self {
        match error {
            EntityError::Store(error) => error.into(),
            EntityError::NameTaken { kind, name, .. } => Self::AlreadyExists { resource: kind.name(), name },
            EntityError::NotFound { kind, id } => Self::not_found(kind.name(), id),
        }
    }
}

impl From<StudyError> for Error {
    fn from(error: StudyError) -> Self {
        match error {
            StudyError::Store(error) => error.into(),
            StudyError::NameTaken { name, .. } => Self::AlreadyExists { resource: "study", name },
            StudyError::NoStudy { study } => Self::not_found("study", study.to_string()),
            StudyError::NoTrial { study, number } => {
                Self::not_found("trial", format!("{number} of study {study}"))
            }
            StudyError::Finished { study, number } => Self::FinishedTrial { study, number },
            StudyError::NoMoreNumbers => Self::NoMoreNumbers,
        }
    }
}

impl From<matyan_log::Error> for Error {
    fn from(error: matyan_log::Error) -> Self {
        Self::Log(error)
    }
}

impl From<matyan_blob::Error> for Error {
    fn from(error: matyan_blob::Error) -> Self {
        match error {
            matyan_blob::Error::Limit(limit) => Self::UploadLimit(limit),
            matyan_blob::Error::Stalled { .. } => Self::UploadIncomplete(error.to_string()),
            other => Self::Blobs(other),
        }
    }
}

impl From<matyan_maintenance::Error> for Error {
    fn from(error: matyan_maintenance::Error) -> Self {
        match error {
            matyan_maintenance::Error::Store(error) => error.into(),
            matyan_maintenance::Error::Log(error) => error.into(),
            matyan_maintenance::Error::Blobs(error) => error.into(),
            matyan_maintenance::Error::Busy { job, holder } => {
                Self::Busy { job, holder: holder.map(hex::encode).unwrap_or_default() }
            }
        }
    }
}

impl From<matyan_export::Error> for Error {
    fn from(error: matyan_export::Error) -> Self {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        Self::Unwritable(format!("{error} ({cause})"))
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = error.code();
        // All other errors are expected, and would only clutter the log.
        if matches!(code, Code::Unavailable | Code::Internal) {
            tracing::warn!(error = &error as &dyn std::error::Error, "call failed");
        }
        let reason = code.as_str_name().trim_start_matches("CODE_");
        let metadata =
            error.metadata().into_iter().map(|(key, value)| (key, truncated(value, MAX_REPEATED_BYTES)));
        let details =
            ErrorDetails::with_error_info(reason, ERROR_DOMAIN, metadata.collect::<HashMap<_, _>>());
        let message = truncated(error.to_string(), MAX_REPEATED_BYTES);
        Self::with_error_details(tonic::Code::from_i32(code.grpc()), message, details)
    }
}

/// The text of a time in microseconds. A client may have set it.
fn text_of_time(us: i64) -> String {
    UtcTime::from_us(us).map_or_else(|| format!("{us} µs"), UtcTime::micros)
}

/// The beginning of a text, of at most this many bytes, and `…` if that is not all of it.
pub(super) fn truncated(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_truncated_between_characters() {
        assert_eq!(truncated("ä".repeat(10), 4), "ää…");
        assert_eq!(truncated("ä".repeat(10), 5), "ää…");
        assert_eq!(truncated("short".to_owned(), 5), "short");
    }

    /// A request may respect every limit and still exceed the size of a transaction.
    #[test]
    fn a_batch_too_large_for_the_store_is_reported_as_such() {
        let refused = matyan_store::Error::TooLarge { what: "batch", size: 12, max: 10 };
        let status = Status::from(Error::from(refused));
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        assert!(status.message().starts_with("`batch` has 12 bytes"), "{status:?}");
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.metadata["field"].as_str(), info.metadata["limit"].as_str()), ("batch", "10"));
    }

    /// A client's text may be as long as a message, but errors repeat it in headers.
    #[test]
    fn an_error_fits_into_response_headers() {
        let status = Status::from(Error::not_found("run", "ä".repeat(1_000_000)));
        assert_eq!(status.code(), tonic::Code::NotFound);
        let mut headers = http::HeaderMap::new();
        status.add_header(&mut headers).expect("the message is percent-encoded to ASCII");
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        assert!(bytes < 12_000, "{bytes} bytes");
        assert!(status.get_error_details().error_info().unwrap().metadata["id"].ends_with('…'));
    }
}
