//! The few ways a log can fail, each with what the caller does next.

use std::sync::Arc;

pub(crate) type Source = Arc<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Wait and try again, with back-off: the log cannot be reached, is full or is recovering.
    #[error("the log is not available: {reason}")]
    Unavailable {
        reason: String,
        #[source]
        source: Option<Source>,
    },
    /// Fix the input: no retry helps.
    #[error("a record of {size} bytes is over the log's limit of {max}")]
    TooLarge { size: usize, max: usize },
    /// Stop this partition and call a human: records that were never applied are gone.
    #[error("partition {partition} begins at offset {first}, and {asked} was asked for")]
    Trimmed { partition: u32, asked: u64, first: u64 },
    /// Find out which log this is, and start the partition again: a place in it that was read has never been.
    #[error("partition {partition} ends at offset {end}, and {asked} was asked for: this is another log")]
    Replaced { partition: u32, asked: u64, end: u64 },
    /// Fix the set-up: the topic is missing, or is not what it was.
    #[error("{reason}")]
    Topic { reason: String },
    /// Call a human: what was read is not what was written.
    #[error("the log holds something unreadable: {reason}")]
    Corrupt {
        reason: String,
        #[source]
        source: Option<Source>,
    },
    /// Start again with another directory, or stop the process that holds this one.
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
