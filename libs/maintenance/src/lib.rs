//! What a worker does by itself every day and the backend when an operator asks: one piece of code for both, as neither may
//! know the other. It decides what may go; who calls it decides when, and tells of it.

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

/// Jobs by their names, which their locks have as well.
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
    #[error("the job {job} runs elsewhere")]
    Busy { job: &'static str, holder: Option<[u8; 16]> },
}
