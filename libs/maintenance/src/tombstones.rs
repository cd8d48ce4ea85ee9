//! Tombstones: kept until nothing can bring the run back. The log has passed the delete, the blobs are gone, and the longest
//! client spool is over. Where blobs are still there long after the delete, they are deleted again: the event may be lost
//! with a control topic.

use matyan_blob::{BlobKey, Blobs};
use matyan_log::LogWriter;
use matyan_model::{
    ids::{NamedProject, RunId, RunNumber},
    run::{Clearing, Tombstone, blobs_gone_put, tombstone_clear},
};
use matyan_store::{Store, Transaction};

use crate::{Error, Folder, Job, Partition, partitions};

/// The longest client spool.
pub const SPOOL_US: i64 = 30 * 24 * 3_600_000_000;
/// After this the control event about a delete counts as lost.
const BLOBS_EXPECTED_US: i64 = 3_600_000_000;

/// A sweep of tombstones. Each is looked at by itself.
pub struct Tombstones<'s> {
    store: &'s dyn Store,
    blobs: &'s dyn Blobs,
    partitions: Vec<Partition>,
    now_us: i64,
    kept_us: i64,
}

/// What came of one.
#[derive(Default)]
pub struct Swept {
    pub is_gone: bool,
    /// Blobs in its folder that were deleted.
    pub deleted: u64,
    /// Those that stay, each with the reason: the tombstone stays as well.
    pub left: Vec<(BlobKey, matyan_blob::Error)>,
}

impl<'s> Tombstones<'s> {
    /// Of deletes that are older than `kept_us`.
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

    /// Whether it may go once its folder is found empty.
    pub fn may_go(&self, tombstone: &Tombstone) -> bool {
        tombstone.blobs_gone && self.is_older(tombstone, self.kept_us) && self.is_passed(tombstone)
    }

    /// Deletes what is in the folder of one that may go, or whose blobs should be gone, and then the tombstone itself, if it may.
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
        // Of one that may go: an upload that was allowed before the delete may have come after it. No such URL is good any more.
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

    /// Nothing that was written before the delete is left in the log.
    fn is_passed(&self, Tombstone { at, .. }: &Tombstone) -> bool {
        match self.partitions.get(at.partition as usize) {
            Some(Partition { log, bounds, .. }) => {
                at.log < *log || (at.log == *log && at.offset < bounds.first)
            }
            // There is one with fewer partitions now.
            None => self.partitions.iter().any(|partition| at.log < partition.log),
        }
    }
}
