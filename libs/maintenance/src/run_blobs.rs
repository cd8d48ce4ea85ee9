//! Deletion of the blobs of deleted runs. A blob that cannot be deleted does not stop the
//! others.

use std::collections::VecDeque;

use matyan_blob::{BlobKey, ListedBlob, RunFolder};
use matyan_model::{
    ids::{NamedProject, Project, RunId, RunNumber},
    keys,
    run::{Head, Tombstone, blobs_deleted_put, head_get, tombstones_list},
};
use matyan_store::{Range, Store, Transaction};

use crate::{Deps, Error, JobLock};

/// A page of blobs, and the result of deleting them.
pub struct BlobPage {
    /// All blobs of the page.
    pub blobs: Vec<(BlobKey, ListedBlob)>,
    /// Blobs that could not be deleted, each with the reason.
    pub failed: Vec<(BlobKey, matyan_blob::Error)>,
}

impl BlobPage {
    pub fn deleted(&self) -> impl Iterator<Item = &(BlobKey, ListedBlob)> {
        self.blobs.iter().filter(|(key, _)| self.failed.iter().all(|(failed, _)| failed != key))
    }
}

/// Deletes the blob folder of one deleted run, page by page. After listing each page it checks that
/// the run id still carries the tombstone of that same delete, because the id may have been reused.
/// Listed blobs were written before the check, unless a later run replaces them in between.
pub struct DeletedRunBlobs<'d> {
    deps: Deps<'d>,
    project: Project,
    id: RunId,
    number: RunNumber,
    folder: RunFolder,
    is_dry: bool,
    next: Option<BlobKey>,
    is_finished: bool,
}

impl<'d> DeletedRunBlobs<'d> {
    pub fn new(deps: Deps<'d>, project: &NamedProject, id: &RunId, number: RunNumber) -> Result<Self, Error> {
        let folder = RunFolder::new(&project.name, id.as_str())?;
        Ok(Self {
            deps,
            project: project.number,
            id: id.clone(),
            number,
            folder,
            is_dry: false,
            next: None,
            is_finished: false,
        })
    }

    /// Only lists the blobs.
    #[must_use]
    pub fn dry(self, is_dry: bool) -> Self {
        Self { is_dry, ..self }
    }

    /// Deletes the next page. Returns `None` after the last page, and if the run was recreated or
    /// has been deleted a second time.
    pub async fn next_page(&mut self) -> Result<Option<BlobPage>, Error> {
        if self.is_finished {
            return Ok(None);
        }
        let listing = self.deps.blobs.list(self.folder.prefix(), self.next.as_ref()).await?;
        let deleted = deleted_run_number(self.deps.store, self.project, &self.id).await?;
        if deleted != Some(self.number) {
            return Ok(None);
        }
        self.next = listing.next;
        self.is_finished = self.next.is_none();
        let keys: Vec<_> = listing.blobs.iter().map(|(key, _)| key.clone()).collect();
        let is_kept = keys.is_empty() || self.is_dry;
        let failed = if is_kept { Vec::new() } else { self.deps.blobs.delete(&keys).await? };
        for (key, error) in &failed {
            tracing::warn!(%key, %error, "failed to delete blob of a deleted run");
        }
        Ok(Some(BlobPage { blobs: listing.blobs, failed }))
    }
}

/// The number of the deleted run; 0 if nothing but its delete was ever recorded.
pub async fn deleted_run_number(
    store: &dyn Store,
    project: Project,
    id: &RunId,
) -> Result<Option<RunNumber>, matyan_store::Error> {
    Ok(match head_get(&*store.snapshot().await?, project, id).await? {
        Some(Head::Tombstone(tombstone)) => Some(number(&tombstone)),
        Some(Head::Live(_)) | None => None,
    })
}

pub(crate) fn number(tombstone: &Tombstone) -> RunNumber {
    RunNumber(tombstone.number.unwrap_or_default())
}

/// Deletes the blobs of all deleted runs of a project that the control worker has not deleted
/// yet.
pub struct LeftoverBlobs<'d> {
    deps: Deps<'d>,
    project: NamedProject,
    is_dry: bool,
    /// Tombstones still to be read.
    rest: Option<Range>,
    tombstones: VecDeque<(RunId, Tombstone)>,
    current: Option<CurrentRun<'d>>,
    runs: u64,
    max_runs: u64,
}

struct CurrentRun<'d> {
    blobs: DeletedRunBlobs<'d>,
    tombstone: Tombstone,
    has_failures: bool,
}

impl<'d> LeftoverBlobs<'d> {
    pub fn new(deps: Deps<'d>, project: NamedProject, is_dry: bool, max_runs: u64) -> Self {
        Self {
            deps,
            is_dry,
            rest: Some(keys::tombstones(project.number)),
            project,
            tombstones: VecDeque::new(),
            current: None,
            runs: 0,
            max_runs,
        }
    }

    /// Number of runs examined so far.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// Deletes the next page of blobs; `None` after the last one.
    pub async fn next_page(&mut self, lock: &mut JobLock<'_>) -> Result<Option<BlobPage>, Error> {
        loop {
            let Some(current) = &mut self.current else {
                let Some((id, tombstone)) = self.next_tombstone().await? else { return Ok(None) };
                self.runs += 1;
                let blobs = DeletedRunBlobs::new(self.deps, &self.project, &id, number(&tombstone))?;
                let blobs = blobs.dry(self.is_dry);
                self.current = Some(CurrentRun { blobs, tombstone, has_failures: false });
                continue;
            };
            lock.renew().await?;
            match current.blobs.next_page().await? {
                Some(page) => {
                    current.has_failures |= !page.failed.is_empty();
                    if !page.blobs.is_empty() {
                        return Ok(Some(page));
                    }
                }
                None => self.finish_run(lock).await?,
            }
        }
    }

    async fn next_tombstone(&mut self) -> Result<Option<(RunId, Tombstone)>, Error> {
        if self.runs >= self.max_runs {
            return Ok(None);
        }
        while self.tombstones.is_empty()
            && let Some(range) = self.rest.take()
        {
            let snapshot = self.deps.store.snapshot().await?;
            let page = tombstones_list(&*snapshot, self.project.number, &range).await?;
            self.tombstones = page.tombstones.into();
            self.rest = page.rest;
        }
        Ok(self.tombstones.pop_front())
    }

    /// Marks the tombstone if no blobs of the run remain.
    async fn finish_run(&mut self, lock: &mut JobLock<'_>) -> Result<(), Error> {
        let Some(CurrentRun { blobs, tombstone, has_failures }) = self.current.take() else { return Ok(()) };
        if has_failures || self.is_dry || tombstone.blobs_deleted {
            return Ok(());
        }
        lock.write(async |mut transaction: Transaction| {
            blobs_deleted_put(&mut transaction, blobs.project, &blobs.id, blobs.number).await?;
            Ok::<_, Error>((transaction, ()))
        })
        .await
    }
}
