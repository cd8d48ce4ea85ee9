//! Tombstones are kept until nothing can bring the run back: the log has passed the delete, the
//! blobs are deleted, and the longest client spool has expired. If blobs remain long after the
//! delete, they are deleted again, because the control event may have been lost together with
//! its topic.

use matyan_model::{
    ids::{NamedProject, Project, RunId},
    keys,
    position::{Cursor, LogPosition},
    run::{ClearOutcome, Tombstone, TombstonesPage, blobs_deleted_put, tombstone_clear, tombstones_list},
};
use matyan_store::Transaction;

use crate::{
    BlobEvent, BlobObserver, DeletedRunBlobs, Deps, Error, JobLock, PartitionProgress, partition_progress,
    project_pages::ProjectPages, run_blobs::number,
};

/// Longest time that a client spools data.
pub const LONGEST_SPOOL_US: i64 = 30 * 24 * 3_600_000_000;
/// Time after which the control event of a delete is considered lost.
const BLOBS_EXPECTED_US: i64 = 3_600_000_000;

/// A sweep over the tombstones of several projects.
pub struct TombstoneSweep<'d> {
    deps: Deps<'d>,
    partitions: Vec<PartitionProgress>,
    now_us: i64,
    kept_us: i64,
    pages: ProjectPages,
}

/// Result of sweeping one page of tombstones.
pub struct TombstonePage {
    /// Number of tombstones examined.
    pub checked: u64,
    /// Runs whose tombstones were removed, or may be removed.
    pub run_ids: Vec<RunId>,
}

impl<'d> TombstoneSweep<'d> {
    /// Prepares a sweep of tombstones that are older than `kept_us`.
    pub async fn new(deps: Deps<'d>, projects: Vec<NamedProject>, kept_us: i64) -> Result<Self, Error> {
        let now_us = deps.now_us();
        let partitions = partition_progress(deps.store, deps.log).await?;
        Ok(Self { deps, partitions, now_us, kept_us, pages: ProjectPages::new(projects, keys::tombstones) })
    }

    /// Finds the tombstones of the next page that may be removed, without changing them;
    /// `None` after the last page.
    pub async fn find_page(&mut self) -> Result<Option<TombstonePage>, Error> {
        let Some((_, page)) = self.list_page().await? else { return Ok(None) };
        let checked = page.tombstones.len() as u64;
        let removable = page.tombstones.into_iter().filter(|(_, tombstone)| self.is_removable(tombstone));
        Ok(Some(TombstonePage { checked, run_ids: removable.map(|(id, _)| id).collect() }))
    }

    /// Sweeps the next page; `None` after the last page.
    pub async fn sweep_page(
        &mut self,
        lock: &mut JobLock<'_>,
        observe: &mut BlobObserver<'_>,
    ) -> Result<Option<TombstonePage>, Error> {
        let Some((project, listed)) = self.list_page().await? else { return Ok(None) };
        let mut page = TombstonePage { checked: listed.tombstones.len() as u64, run_ids: Vec::new() };
        for (id, _) in listed.freed.into_iter().filter(|(_, tombstone)| self.is_removable(tombstone)) {
            match self.remove(lock, project.number, &id).await {
                Err(Error::Store(error @ matyan_store::Error::Corrupt { .. })) => {
                    tracing::warn!(run = id.as_str(), %error, "failed to clear what is left of a deleted run; keeping it");
                }
                removed => _ = removed?,
            }
        }
        for (id, tombstone) in listed.tombstones {
            match self.sweep(lock, &project, &id, &tombstone, observe).await {
                Ok(true) => page.run_ids.push(id),
                Ok(false) => {}
                // A failure for one run does not stop the cleanup of the others.
                Err(error @ (Error::Blobs(_) | Error::Store(matyan_store::Error::Corrupt { .. }))) => {
                    tracing::warn!(run = id.as_str(), %error, "failed to clean up after a deleted run; keeping its tombstone");
                    observe(BlobEvent::RunFailed);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Some(page))
    }

    async fn list_page(&mut self) -> Result<Option<(NamedProject, TombstonesPage)>, Error> {
        let Some((project, range)) = self.pages.next() else { return Ok(None) };
        let snapshot = self.deps.store.snapshot().await?;
        let mut page = tombstones_list(&*snapshot, project.number, &range).await?;
        self.pages.give_back(&project, page.rest.take());
        Ok(Some((project, page)))
    }

    /// Whether the tombstone may be removed once the run's folder is empty.
    fn is_removable(&self, tombstone: &Tombstone) -> bool {
        tombstone.blobs_deleted && self.is_older(tombstone, self.kept_us) && self.is_passed(tombstone)
    }

    /// Deletes the remaining blobs if the tombstone may be removed, or if the blobs should
    /// be deleted by now. Then removes the tombstone itself, if it may be removed, and
    /// returns whether it did.
    async fn sweep(
        &self,
        lock: &mut JobLock<'_>,
        project: &NamedProject,
        id: &RunId,
        tombstone: &Tombstone,
        observe: &mut BlobObserver<'_>,
    ) -> Result<bool, Error> {
        let is_removable = self.is_removable(tombstone);
        if !is_removable && (tombstone.blobs_deleted || !self.is_older(tombstone, BLOBS_EXPECTED_US)) {
            return Ok(false);
        }
        let number = number(tombstone);
        // Even if the blobs were deleted before: an upload URL issued before the delete may have
        // been used after it. By now all such URLs have expired.
        let mut blobs = DeletedRunBlobs::new(self.deps, project, id, number)?;
        let mut is_empty = true;
        loop {
            lock.renew().await?;
            let Some(page) = blobs.next_page().await? else { break };
            for (key, blob) in page.deleted() {
                observe(BlobEvent::Deleted { key, bytes: blob.size });
            }
            for _ in &page.failed {
                observe(BlobEvent::BlobFailed);
            }
            is_empty &= page.failed.is_empty();
        }
        if !is_empty {
            return Ok(false);
        }
        if is_removable {
            return self.remove(lock, project.number, id).await;
        }
        lock.write(async |mut transaction: Transaction| {
            blobs_deleted_put(&mut transaction, project.number, id, number).await?;
            Ok::<_, Error>((transaction, false))
        })
        .await
    }

    /// Removes a tombstone, if it is not cleared yet, with the other remains of the run id: its cursor, and
    /// the marks and dictionaries of its producers. Returns false if the id is in use again, or if a worker
    /// may still see a record that the cursor has passed.
    async fn remove(&self, lock: &mut JobLock<'_>, project: Project, id: &RunId) -> Result<bool, Error> {
        lock.write(async |mut transaction: Transaction| {
            let key = keys::cursor(project, id);
            let cursor = transaction.get(&key).await?.map(|row| Cursor::decode(&key, &row)).transpose()?;
            if cursor.is_some_and(|cursor| !self.is_applied(&cursor)) {
                return Ok((transaction, false));
            }
            let clearing = tombstone_clear(&mut transaction, project, id).await?;
            let batch = transaction.batch();
            match clearing {
                ClearOutcome::Free => {
                    batch.clear_range(keys::run_id_rows(project, id));
                }
                ClearOutcome::Live => {}
                ClearOutcome::Waiting => return Ok((transaction, false)),
            }
            batch.clear(keys::tombstone(project, id));
            Ok::<_, Error>((transaction, clearing == ClearOutcome::Free))
        })
        .await
    }

    /// Whether everything before a cursor is reported as applied, so that no worker rereads it.
    fn is_applied(&self, cursor: &Cursor) -> bool {
        let LogPosition { log, partition, offset } = cursor.position;
        let Some(progress) = self.partitions.get(partition as usize) else { return true };
        let applied = progress.applied.map_or(0, |applied| applied.next);
        log < progress.log || offset <= applied.max(progress.bounds.first)
    }

    fn is_older(&self, tombstone: &Tombstone, age_us: i64) -> bool {
        tombstone.deleted_us < self.now_us.saturating_sub(age_us)
    }

    /// Whether the log no longer contains anything written before the delete.
    fn is_passed(&self, Tombstone { at, .. }: &Tombstone) -> bool {
        match self.partitions.get(at.partition as usize) {
            Some(PartitionProgress { log, bounds, .. }) => {
                at.log < *log || (at.log == *log && at.offset < bounds.first)
            }
            // The current topic has fewer partitions, so it must be a newer one than
            // the delete's.
            None => self.partitions.iter().any(|partition| at.log < partition.log),
        }
    }
}
