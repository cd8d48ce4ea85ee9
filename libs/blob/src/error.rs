//! Errors of a blob store, one variant for each way a caller can react.

use std::sync::Arc;

use crate::upload_limits::LimitReached;

pub type Result<T, E = Error> = std::result::Result<T, E>;

pub(crate) type Source = Arc<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Wait and retry with back-off: the store is unreachable, full or recovering.
    #[error("the blob store is not available: {reason}")]
    Unavailable {
        reason: String,
        /// The response may be about this blob only: if other blobs are stored, this blob will
        /// never be accepted.
        is_doubtful: bool,
        #[source]
        source: Option<Source>,
    },
    /// Fix the input: this is not a valid blob key.
    #[error("`{key}` is not a blob key: {reason}")]
    BadKey { key: String, reason: &'static str },
    /// Fix the input: this cannot be stored as a content type.
    #[error("the content type is not valid: {reason}")]
    BadContentType { reason: &'static str },
    /// Request a new URL.
    #[error("the upload URL is not valid: {reason}")]
    BadToken { reason: &'static str },
    /// Resend the content: it was shorter or longer than announced, and nothing was stored.
    #[error("content has the wrong length: {announced} bytes were announced and {received} received")]
    WrongLength { announced: u64, received: u64 },
    /// Resend the content, without a pause: nothing of it arrived for so long that it was given up.
    #[error("no data of the upload arrived for {seconds} s")]
    Stalled { seconds: u64 },
    /// Make room, or ask the operator for more.
    #[error(transparent)]
    Limit(#[from] LimitReached),
    /// Start a new upload: this one was completed, aborted or discarded by the store.
    #[error("the upload does not exist any more: begin a new one")]
    NoUpload,
    /// Send the missing parts.
    #[error("the upload is not complete: {reason}")]
    PartsMissing { reason: String },
    /// Fix the input: the blob store will never accept this blob, although it accepts others.
    #[error("the blob store rejected the blob: {reason}")]
    Rejected { reason: String },
    /// Create the bucket with `matyan bucket create`.
    #[error("{what} not found: create `{name}` with `matyan bucket create`")]
    NoBucket { what: &'static str, name: String },
    /// Fix the configuration: endpoints, credentials or permissions.
    #[error("{reason}")]
    Setup { reason: String },
}

impl Error {
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), is_doubtful: false, source: None }
    }

    /// An error response that is either about the blob or about all requests.
    pub fn doubtful(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), is_doubtful: true, source: None }
    }

    /// Whether the same call may succeed later.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::Limit(limit) => limit.is_temporary(),
            _ => false,
        }
    }

    /// Whether this blob can never be stored, although others can.
    pub fn is_of_blob(&self) -> bool {
        matches!(self, Self::BadKey { .. } | Self::BadContentType { .. } | Self::Rejected { .. })
    }

    /// Whether this blob can never be stored if others can.
    pub fn is_doubtful(&self) -> bool {
        matches!(self, Self::Unavailable { is_doubtful: true, .. })
    }
}
