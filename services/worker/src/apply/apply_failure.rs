//! The reasons for not applying an item, and for not committing a transaction.

/// Result of an item; `Err` holds the reason for parking it.
pub(crate) type Verdict = Result<(), String>;

/// Reason why a transaction was not committed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyFailure {
    /// Wait, then retry.
    #[error(transparent)]
    Store(matyan_store::Error),
    /// Retry with fewer items: the items take longer than a snapshot lasts.
    #[error("the snapshot became too old")]
    Slow,
    /// Reload the stored state and retry: another process wrote the run.
    #[error("the run was written by another process")]
    Conflict,
    /// Retry with fewer items; park the item that fails alone.
    #[error("{0}")]
    Poison(String),
}

impl From<matyan_store::Error> for ApplyFailure {
    fn from(error: matyan_store::Error) -> Self {
        match error {
            matyan_store::Error::TooLarge { .. } | matyan_store::Error::BadKey { .. } => {
                Self::Poison(error.to_string())
            }
            matyan_store::Error::SnapshotTooOld => Self::Slow,
            other => Self::Store(other),
        }
    }
}

/// The run has no valid keys. An answer of the blob store is not a failure: payloads can wait.
impl From<matyan_blob::Error> for ApplyFailure {
    fn from(error: matyan_blob::Error) -> Self {
        Self::Poison(error.to_string())
    }
}
