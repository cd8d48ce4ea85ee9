//! Cleanup jobs that run both periodically in the workers and on request of an operator through
//! the backend. They are shared here because neither service may depend on the other. This
//! crate decides what may be deleted; the caller decides when, and reports the progress.

mod folder;
mod job;
mod orphans;
mod partitions;
mod stale;
mod tombstones;

pub use folder::{Deleted, Folder, tombstone_number};
pub use job::Job;
pub use orphans::Orphans;
pub use partitions::{Partition, oldest_unapplied_us, partitions};
pub use stale::{Stale, StalePage};
pub use tombstones::{SPOOL_US, Swept, Tombstones};

/// Names of jobs, which are also the names of their locks.
pub const FINISH_STALE: &str = "finish-stale";
pub const CLEANUP_TOMBSTONES: &str = "cleanup-tombstones";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] matyan_store::Error),
    #[error(transparent)]
    Log(#[from] matyan_log::Error),
    #[error(transparent)]
    Blobs(#[from] matyan_blob::Error),
    #[error("job {job} is already running elsewhere: retry later")]
    Busy { job: &'static str, holder: Option<[u8; 16]> },
}
