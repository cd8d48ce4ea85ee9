//! What a worker does by itself every day and the backend when an operator asks: one piece of code for both, as neither may
//! know the other. It decides what may go; who calls it decides when, and tells of it.

mod orphans;

pub use orphans::Orphans;

use matyan_log::{LogWriter, Topic};
use matyan_model::{keys::LogTopic, position::applied_get};
use matyan_store::Store;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] matyan_store::Error),
    #[error(transparent)]
    Log(#[from] matyan_log::Error),
    #[error(transparent)]
    Blobs(#[from] matyan_blob::Error),
}

/// Before this everything in the log is applied. What comes behind the last applied record is younger than it.
pub async fn oldest_unapplied_us(store: &dyn Store, log: &dyn LogWriter) -> Result<i64, Error> {
    let info = log.describe(Topic::Ingestion).await?;
    let mut oldest_us = i64::MAX;
    for (bounds, partition) in info.partitions.iter().zip(0..) {
        let applied = applied_get(&*store.snapshot().await?, LogTopic::Ingestion, partition).await?;
        let next = applied.map_or(0, |applied| applied.next);
        if bounds.end > next.max(bounds.first) {
            let last = applied.and_then(|applied| applied.last);
            oldest_us = oldest_us.min(last.map_or(i64::MIN, |last| last.appended_us));
        }
    }
    Ok(oldest_us)
}
