//! What a worker does by itself every day and the backend when an operator asks: one piece of code for both, as neither may
//! know the other. It decides what may go; who calls it decides when, and tells of it.

mod folder;
mod job;
mod orphans;
mod stale;
mod tombstones;

pub use folder::{Deleted, Folder, tombstone_number};
pub use job::Job;
pub use orphans::Orphans;
pub use stale::{Stale, StalePage};
pub use tombstones::{SPOOL_US, Swept, Tombstones};

use matyan_log::{LogWriter, Topic};
use matyan_model::{
    keys::LogTopic,
    position::{applied_all, log_get, partition_log},
};
use matyan_store::Store;

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

/// Before this everything in the log is applied. What comes behind the last applied record is younger than it. Of a partition
/// that no worker has looked at since it was made anew nothing is known.
pub async fn oldest_unapplied_us(store: &dyn Store, log: &dyn LogWriter) -> Result<i64, Error> {
    // First: what is applied meanwhile must not seem to lie behind the ends.
    let snapshot = store.snapshot().await?;
    let info = log.describe(Topic::Ingestion).await?;
    let known = log_get(&*snapshot, LogTopic::Ingestion).await?;
    let applied = applied_all(&*snapshot, LogTopic::Ingestion).await?;
    let mut oldest_us = i64::MAX;
    for (bounds, partition) in info.partitions.iter().zip(0..) {
        let applied = applied.get(&partition).copied();
        let number = partition_log(known, applied, info.identity, bounds.end);
        let applied = applied.filter(|applied| applied.log == number);
        let next = applied.map_or(0, |applied| applied.next);
        if bounds.end > next.max(bounds.first) {
            let last = applied.and_then(|applied| applied.last);
            oldest_us = oldest_us.min(last.map_or(i64::MIN, |last| last.appended_us));
        }
    }
    Ok(oldest_us)
}
