//! Why a worker ends by itself. Everything that time may mend is waited for instead.

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] matyan_store::Error),
    #[error(transparent)]
    Log(#[from] matyan_log::Error),
    #[error(transparent)]
    Blob(#[from] matyan_blob::Error),
    /// Once more if it is temporary; else what keeps them has to be taken away, and the sweep of tombstones does the rest.
    #[error("{count} blobs could not be deleted, `{key}` among them: {reason}")]
    BlobsLeft { count: usize, key: String, reason: matyan_blob::Error },
    /// Name the topic of the old number of partitions again, or take another one with another store.
    #[error(
        "the ingestion topic had {known} partitions and now has {found}: a topic's number of partitions never changes; \
         name the one that this store knows, or take another one with another store, filled from a backup (docs/kafka.md)"
    )]
    Partitions { known: u32, found: u32 },
    #[error("the job {0} runs elsewhere")]
    Busy(&'static str),
    /// A bug: start again, from the last position that was applied.
    #[error("a writer ended badly: {0}")]
    Writer(String),
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
    /// True where a log turned out to be another one than it was a moment before.
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
            Self::Partitions { .. } | Self::Writer(_) => false,
        }
    }
}
