//! Tombstones are kept until nothing can bring the run back: the log has passed the delete, the
//! blobs are deleted, and the longest client spool has expired. If blobs remain long after the
//! delete, they are deleted again, because the control event may have been lost together with
//! its topic.

use matyan_blob::{BlobKey, Blobs};
use matyan_log::LogWriter;
use matyan_model::{
    ids::{NamedProject, RunId, RunNumber},
    run::{Clearing, Tombstone, blobs_gone_put, tombstone_clear},
};
use matyan_store::{Store, Transaction};

use crate::{Error, Folder, Job, Partition, partitions};

/// Longest time that a client spools data.
pub const SPOOL_US: i64 = 30 * 24 * 3_600_000_000;
/// Time after which the control event of a delete counts as lost.
const BLOBS_EXPECTED_US: i64 = 3_600_000_000;

/// A sweep over tombstones, one at a time.
pub struct Tombstones<'s> {
    store: &'s dyn Store,
    blobs: &'s dyn Blobs,
    partitions: Vec<Partition>,
    now_us: i64,
    kept_us: i64,
}

/// Result of sweeping one tombstone.
#[derive(Default)]
pub struct Swept {
    pub is_gone: bool,
    /// Number of blobs deleted from the run's directory.
    pub deleted: u64,
    /// Blobs that could not be deleted, each with the reason. The tombstone is then kept as
    /// well.
    pub left: Vec<(BlobKey, matyan_blob::Error)>,
}

impl<'s> Tombstones<'s> {
    /// Prepares a sweep of tombstones that are older than `kept_us`.
    pub async fn new(
        store: &'s dyn Store,
        log: &dyn LogWriter,
        blobs: &'s dyn Blobs,
        now_us: i64,
        kept_us: i64,
    ) -> Result<Self, Error> {
        let partitions = partitions(store, log).await?;
        Ok(Self { store, blobs, partitions, now_us, kept_us })
    }

    /// Whether the tombstone may be removed once the run's directory is empty.
    pub fn may_go(&self, tombstone: &Tombstone) -> bool {
        tombstone.blobs_gone && self.is_older(tombstone, self.kept_us) && self.is_passed(tombstone)
    }

    /// Deletes the remaining blobs if the tombstone may be removed, or if the blobs should
    /// be deleted by now. Then removes the tombstone itself, if it may be removed.
    pub async fn sweep(
        &self,
        job: &mut Job<'_>,
        project: &NamedProject,
        id: &RunId,
        tombstone: &Tombstone,
    ) -> Result<Swept, Error> {
        let mut swept = Swept::default();
        let may_go = self.may_go(tombstone);
        if !may_go && (tombstone.blobs_gone || !self.is_older(tombstone, BLOBS_EXPECTED_US)) {
            return Ok(swept);
        }
        let number = RunNumber(tombstone.number.unwrap_or_default());
        // Even if the blobs were deleted before: an upload URL issued before the delete
        // may have been used after it. By now all of those URLs have expired.
        let mut folder = Folder::new(self.store, self.blobs, project, id, number)?;
        loop {
            job.renew().await?;
            let Some(page) = folder.delete_page().await? else { break };
            swept.deleted += page.count;
            swept.left.extend(page.left);
        }
        if swept.left.is_empty() {
            swept.is_gone = job
                .write(async |mut transaction: Transaction| {
                    let is_gone = match may_go {
                        true => {
                            tombstone_clear(&mut transaction, project.number, id).await? == Clearing::Free
                        }
                        false => {
                            blobs_gone_put(&mut transaction, project.number, id, number).await?;
                            false
                        }
                    };
                    Ok::<_, Error>((transaction, is_gone))
                })
                .await?;
        }
        Ok(swept)
    }

    fn is_older(&self, tombstone: &Tombstone, age_us: i64) -> bool {
        tombstone.deleted_us < self.now_us.saturating_sub(age_us)
    }

    /// Whether nothing written before the delete is left in the log.
    fn is_passed(&self, Tombstone { at, .. }: &Tombstone) -> bool {
        match self.partitions.get(at.partition as usize) {
            Some(Partition { log, bounds, .. }) => {
                at.log < *log || (at.log == *log && at.offset < bounds.first)
            }
            // The current topic has fewer partitions, so it must be a newer one than
            // the delete's.
            None => self.partitions.iter().any(|partition| at.log < partition.log),
        }
    }
}
