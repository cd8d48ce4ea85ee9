//! Errors that end a worker. Temporary failures are retried instead.

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] matyan_store::Error),
    #[error(transparent)]
    Log(#[from] matyan_log::Error),
    #[error(transparent)]
    Blob(#[from] matyan_blob::Error),
    /// Retried if the reason is temporary; otherwise an operator must fix the cause, after
    /// which the tombstone sweep deletes the blobs.
    #[error("failed to delete {count} blobs, including `{key}`: {reason}")]
    BlobsLeft { count: usize, key: String, reason: matyan_blob::Error },
    /// Restore the topic name with the old number of partitions, or use a new topic.
    #[error(
        "the ingestion topic had {known} partitions and now has {found}: a topic's number of partitions never changes; \
         use the topic that belongs to this store, or move to a new topic (docs/operating/kafka.md)"
    )]
    Partitions { known: u32, found: u32 },
    /// `matyan partitions skip` continues after the records that the log still has.
    #[error(
        "partition {partition} ends at offset {end}, but its records up to offset {applied} were applied: the log has lost its \
         tail. The partition is not read until `matyan partitions skip {partition}` decides to continue there \
         (docs/operating/kafka.md)"
    )]
    Shortened { partition: u32, applied: u64, end: u64 },
    /// `matyan restore` or `matyan partitions skip` continues.
    #[error(
        "partition {partition} begins at offset {first}, and nothing of it was applied to this store: its earlier records are \
         gone, and runs that need them would be incomplete. If they were applied to another store, stop, and use that one or \
         restore a backup of it; otherwise `matyan partitions skip {partition}` gives them up and reads the rest \
         (docs/operating/disaster-recovery.md)"
    )]
    Headless { partition: u32, first: u64 },
    /// Records of the log were applied, but their positions are no longer known.
    #[error(
        "this log was read before, and was then replaced by another: its records would be applied a second time. Use the log that \
         the store belongs to now, or a new one: another topic name, or an empty directory"
    )]
    Replaced,
    #[error("job {0} is already running elsewhere: retry later")]
    Busy(&'static str),
    /// A bug. Restart the worker: it continues from the last applied position.
    #[error("a writer task failed: {0}")]
    Writer(String),
    /// A bug. Restart the worker: it continues from the last applied position.
    #[error("the task that writes progress has panicked, see the log: restart the worker")]
    Progress,
}

impl From<matyan_maintenance::Error> for Error {
    fn from(error: matyan_maintenance::Error) -> Self {
        match error {
            matyan_maintenance::Error::Store(error) => Self::Store(error),
            matyan_maintenance::Error::Log(error) => Self::Log(error),
            matyan_maintenance::Error::Blobs(error) => Self::Blob(error),
            matyan_maintenance::Error::Busy { job, .. } => Self::Busy(job),
        }
    }
}

impl Error {
    /// Whether the log was replaced by a different one since it was last described.
    pub(crate) fn is_replaced(&self) -> bool {
        matches!(self, Self::Log(matyan_log::Error::Replaced { .. }))
    }

    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Store(error) => error.is_temporary(),
            Self::Log(error) => error.is_temporary(),
            Self::Blob(error) => error.is_temporary(),
            Self::BlobsLeft { reason, .. } => reason.is_temporary(),
            Self::Busy(_) => true,
            Self::Partitions { .. }
            | Self::Shortened { .. }
            | Self::Headless { .. }
            | Self::Replaced
            | Self::Writer(_)
            | Self::Progress => false,
        }
    }
}
