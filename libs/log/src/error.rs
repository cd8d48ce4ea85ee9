//! The ways a log can fail, each with the caller's next step.

use std::sync::Arc;

pub(crate) type Source = Arc<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The log cannot be reached, is full, or is recovering. Wait and retry, with backoff.
    #[error("the log is unavailable: {reason}")]
    Unavailable {
        reason: String,
        #[source]
        source: Option<Source>,
    },
    /// Fix the input: no retry helps.
    #[error("a record of {size} bytes exceeds the log's limit of {max}")]
    TooLarge { size: usize, max: usize },
    /// Stop this partition and alert an operator: records were deleted before they were
    /// applied.
    #[error("partition {partition} begins at offset {first}, but offset {requested} was requested")]
    Trimmed { partition: u32, requested: u64, first: u64 },
    /// Find out which log this is, then restart the partition: an offset already read does not
    /// exist in this log.
    #[error(
        "partition {partition} ends at offset {end}, but offset {requested} was requested: this is a different log"
    )]
    Replaced { partition: u32, requested: u64, end: u64 },
    /// Fix the setup: a topic is missing or has changed.
    #[error("{reason}")]
    Topic { reason: String },
    /// Alert an operator: the data read is not the data written.
    #[error("the log holds unreadable data: {reason}")]
    Corrupt {
        reason: String,
        #[source]
        source: Option<Source>,
    },
    /// Restart with another directory, or stop the process that uses this one.
    #[error("{reason}")]
    InUse { reason: String },
}

impl Error {
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), source: None }
    }

    pub fn corrupt(reason: impl Into<String>) -> Self {
        Self::Corrupt { reason: reason.into(), source: None }
    }

    /// True when the same call may succeed later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
