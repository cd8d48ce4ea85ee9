//! The few ways a blob store can fail, each with what the caller does next.

use std::sync::Arc;

pub(crate) type Source = Arc<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Wait and try again, with back-off: the store cannot be reached, is full or is recovering.
    #[error("the blob store is not available: {reason}")]
    Unavailable {
        reason: String,
        #[source]
        source: Option<Source>,
    },
    /// Fix the input: this is no key of a blob.
    #[error("`{key}` is not a blob key: {reason}")]
    BadKey { key: String, reason: &'static str },
    /// Fix the input: this cannot be kept as a content type.
    #[error("the content type is not valid: {reason}")]
    BadContentType { reason: &'static str },
    /// Ask for a new URL.
    #[error("the upload URL is not valid: {reason}")]
    BadToken { reason: &'static str },
    /// Send it again: fewer or more bytes came than were announced, and nothing was kept.
    #[error("{announced} bytes were announced and {received} came")]
    Length { announced: u64, received: u64 },
    /// Make it: `matyan bucket create`.
    #[error("{what} not found: make `{name}` with `matyan bucket create`")]
    NoBucket { what: &'static str, name: String },
    /// Fix the set-up: addresses, credentials, what they may do.
    #[error("{reason}")]
    Setup { reason: String },
}

impl Error {
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), source: None }
    }

    /// True when the same call may succeed later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
