//! The ways a store can fail, each with the caller's next step.

use std::sync::Arc;

use bytes::Bytes;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cause of an error. Shared, because one failed sync answers many callers.
pub(crate) type Source = Arc<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be reached or is recovering. Wait and retry, with back-off and
    /// without limit.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        reason: String,
        #[source]
        source: Option<Source>,
    },
    /// Take a new snapshot and continue from the last key.
    #[error("the snapshot is older than 5 seconds")]
    SnapshotTooOld,
    /// Fix the input: no retry helps.
    #[error("{what} of {size} bytes exceeds the store's limit of {max}")]
    TooLarge { what: &'static str, size: usize, max: usize },
    /// Fix the input: no retry helps.
    #[error("the key {reason}")]
    BadKey { reason: &'static str },
    /// Abandon this attempt: `transact` met conflicts for too long.
    #[error("gave up after {attempts} conflicting attempts")]
    Contended { attempts: u32 },
    /// Call a human: the data read is not the data written.
    #[error("the store holds unreadable data: {reason}")]
    Corrupt {
        reason: String,
        /// The row that cannot be decoded, if it is known.
        key: Option<Bytes>,
        #[source]
        source: Option<Source>,
    },
    /// Fix the settings, or whatever they refer to on this machine: no retry helps.
    #[error("{reason}")]
    Settings { reason: String },
    /// Restart with another directory, or stop the process that uses this one.
    #[error("{reason}")]
    InUse { reason: String },
}

impl Error {
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), source: None }
    }

    pub fn corrupt(reason: impl Into<String>) -> Self {
        Self::Corrupt { reason: reason.into(), key: None, source: None }
    }

    /// An error of a row whose value cannot be decoded.
    pub fn corrupt_row(key: &Bytes, reason: impl Into<String>) -> Self {
        Self::Corrupt { reason: reason.into(), key: Some(key.clone()), source: None }
    }

    /// True if the disk, the quota, or the file is full.
    pub fn is_out_of_space(&self) -> bool {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let causes = std::iter::successors(Some(self as &dyn std::error::Error), |error| error.source());
        causes
            .filter_map(|error| error.downcast_ref::<std::io::Error>())
            .any(|error| matches!(error.kind(), FileTooLarge | QuotaExceeded | StorageFull))
    }

    /// True when the same call may succeed later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::SnapshotTooOld | Self::Contended { .. })
    }
}
