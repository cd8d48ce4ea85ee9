//! Orphaned blobs: blobs of live runs that nothing refers to, such as uploads that were never
//! reported, and content that a later upload replaced.
//!
//! A reference may still be in flight, in the log or in the spool of a client, which may keep it for
//! weeks. So a blob is deleted only if it was written a month before the oldest record that is not yet
//! applied. Folders of unknown runs are left alone, because the bucket may be shared (where it is not:
//! `stray_blobs`); folders of deleted runs belong to the control worker.
//!
//! A listing of a folder in a bucket costs money, and most runs of a large project have ended long ago. Daily
//! searches therefore take turns with these: each lists a part of their folders. In a project with many
//! runs, a folder is listed only if a listing of the project has shown that it may have old blobs.

mod old_folders;
mod references;

use matyan_blob::{BlobKey, Blobs, ListedBlob, RunFolder};
use matyan_model::{
    ids::{Job, NamedProject, Project, RunId, RunNumber},
    keys,
    lock::{job_cursor_get, job_cursor_put},
    run::{Document, head_live, runs_list},
};
use matyan_store::{Batch, Scan, Store};

use self::{
    old_folders::OldFolders,
    references::{Candidates, ReferenceSearch},
};
use crate::{
    BlobEvent, BlobObserver, CLEANUP_ORPHAN_BLOBS, Deps, Error, JobLock, LONGEST_SPOOL_US,
    oldest_unapplied_us, pace::Pace, project_pages::ProjectPages,
};

/// Longest time between an upload and the arrival of a reference to it, with a day for the upload.
pub(crate) const KEPT_US: i64 = LONGEST_SPOOL_US + 24 * 3_600_000_000;

/// Daily searches after which each run that has ended long ago was listed.
const TURNS: u64 = 16;
/// Bits of a hash that choose one of them.
const TURN_BITS: u32 = TURNS.ilog2();

const DAY_US: i64 = 24 * 3_600_000_000;

/// The time before which a blob must have been written to be deleted.
pub(crate) async fn kept_since_us(deps: Deps<'_>) -> Result<i64, Error> {
    let oldest_us = oldest_unapplied_us(deps.store, deps.log).await?;
    Ok(deps.now_us().min(oldest_us).saturating_sub(KEPT_US))
}

/// Runs examined in one page.
const PAGE: Scan = Scan { rows: 100, bytes: 1 << 20, ..Scan::DEFAULT };

/// A search for the orphaned blobs of several projects.
pub struct OrphanedBlobs<'d> {
    store: &'d dyn Store,
    blobs: &'d dyn Blobs,
    /// Only blobs written before this time are considered.
    before_us: i64,
    pages: ProjectPages,
    /// The folders of a project with more runs than a page.
    old_folders: Option<(Project, OldFolders)>,
    is_dry: bool,
    /// The runs that have ended long ago and are listed; `None` for all of them.
    turn: Option<u64>,
    max_failures: Option<u32>,
    /// Number of consecutive runs with failures of the bucket.
    failures: u32,
    pace: Pace,
    /// Whether the store has the place up to which the search has come.
    is_resumable: bool,
}

impl<'d> OrphanedBlobs<'d> {
    pub async fn new(deps: Deps<'d>, projects: Vec<NamedProject>) -> Result<Self, Error> {
        Ok(Self {
            store: deps.store,
            blobs: deps.blobs,
            before_us: kept_since_us(deps).await?,
            pages: ProjectPages::new(projects, keys::documents),
            old_folders: None,
            is_dry: false,
            turn: None,
            max_failures: None,
            failures: 0,
            pace: Pace::default(),
            is_resumable: false,
        })
    }

    /// Only reports the blobs.
    #[must_use]
    pub fn dry(self, is_dry: bool) -> Self {
        Self { is_dry, ..self }
    }

    /// Lists runs that have ended long ago on one of several days only: on this day, a part of them.
    #[must_use]
    pub fn in_turns(self, now_us: i64) -> Self {
        let day = now_us.div_euclid(DAY_US).cast_unsigned();
        Self { turn: Some(day % TURNS), ..self }
    }

    /// Fails after bucket errors in this many consecutive runs; the bucket is then
    /// considered unavailable.
    #[must_use]
    pub fn max_failures(self, runs: u32) -> Self {
        Self { max_failures: Some(runs), ..self }
    }

    /// Continues where an interrupted search has stopped.
    pub async fn resume(mut self) -> Result<Self, Error> {
        let cursor = job_cursor_get(&*self.store.snapshot().await?, job()).await?;
        if let Some((project, number)) = cursor {
            self.pages.skip_to(project, &keys::document(project, number));
        }
        Ok(Self { is_resumable: true, ..self })
    }

    /// Deletes the orphaned blobs of the next page of runs, and returns the number of runs;
    /// `None` after the last page. Renews the lock, if there is one, for each run.
    pub async fn next_page(
        &mut self,
        mut lock: Option<&mut JobLock<'_>>,
        observe: &mut BlobObserver<'_>,
    ) -> Result<Option<u64>, Error> {
        let Some((project, range)) = self.pages.next() else {
            self.note(None).await?;
            return Ok(None);
        };
        let snapshot = self.store.snapshot().await?;
        let page = runs_list(&*snapshot, project.number, &range, PAGE).await?;
        // Dropped first, because deleting may take longer than a snapshot lives.
        drop(snapshot);
        if page.rest.is_some() {
            self.find_old_folders(&project, lock.as_deref_mut()).await?;
        }
        self.pages.give_back(&project, page.rest);
        let count = page.runs.len() as u64;
        let last = page.runs.last().map(|(number, _)| (project.number, *number));
        for (number, document) in page.runs {
            if !self.is_listed(number, &document) {
                continue;
            }
            let id = RunId::new(document.props.run_id);
            if !self.may_have_old_blobs(&project, &id) {
                continue;
            }
            if let Some(lock) = &mut lock {
                lock.renew().await?;
            }
            match self.delete_in_run(&project, &id, number, observe).await {
                Ok(()) => self.failures = 0,
                // The failure of one folder says nothing about the next, unless the
                // bucket itself is unavailable.
                Err(Error::Blobs(error)) => {
                    tracing::warn!(run = id.as_str(), %error, "failed to search for orphaned blobs; keeping all blobs of the run");
                    observe(BlobEvent::RunFailed);
                    self.failures = if is_of_bucket(&error) { self.failures + 1 } else { 0 };
                    if Some(self.failures) == self.max_failures {
                        return Err(error.into());
                    }
                }
                // A damaged row of one run must not end the sweep of all others.
                Err(Error::Store(error @ matyan_store::Error::Corrupt { .. })) => {
                    tracing::warn!(run = id.as_str(), %error, "stored data is damaged; keeping all blobs of the run");
                    observe(BlobEvent::RunFailed);
                }
                Err(error) => return Err(error),
            }
        }
        if last.is_some() {
            self.note(last).await?;
        }
        Ok(Some(count))
    }

    /// Lists the folders of a project, unless that is done.
    async fn find_old_folders(
        &mut self,
        project: &NamedProject,
        lock: Option<&mut JobLock<'_>>,
    ) -> Result<(), Error> {
        if self.old_folders.as_ref().is_none_or(|(of, _)| *of != project.number) {
            let found = OldFolders::find(self.blobs, project, self.before_us, &mut self.pace, lock).await?;
            self.old_folders = Some((project.number, found));
        }
        Ok(())
    }

    fn may_have_old_blobs(&self, project: &NamedProject, id: &RunId) -> bool {
        let Some((_, old_folders)) = self.old_folders.as_ref().filter(|(of, _)| *of == project.number) else {
            return true;
        };
        // Its search reports a folder that cannot be.
        let Ok(folder) = RunFolder::new(&project.name, id.as_str()) else { return true };
        old_folders.may_have(&folder, id.as_str())
    }

    /// Whether the folder of a run is listed. A client that is away may still send files to a run that has ended,
    /// but rarely does so later than its blobs are kept.
    fn is_listed(&self, number: RunNumber, document: &Document) -> bool {
        let Some(turn) = self.turn else { return true };
        let long_ago_us = self.before_us.saturating_sub(KEPT_US);
        let has_ended = !document.props.active;
        let is_old = has_ended && document.props.finalized_us.is_some_and(|ended_us| ended_us < long_ago_us);
        // Numbers are times, which are often multiples of a second.
        let hash = number.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        !is_old || hash >> (u64::BITS - TURN_BITS) == turn
    }

    /// Notes the last run that is examined, or that all are.
    async fn note(&self, last: Option<(Project, RunNumber)>) -> Result<(), Error> {
        if self.is_resumable {
            let mut batch = Batch::buffered();
            job_cursor_put(&mut batch, job(), last);
            self.store.commit(batch).await?;
        }
        Ok(())
    }

    async fn delete_in_run(
        &mut self,
        project: &NamedProject,
        id: &RunId,
        number: RunNumber,
        observe: &mut BlobObserver<'_>,
    ) -> Result<(), Error> {
        let folder = RunFolder::new(&project.name, id.as_str())?;
        let mut next = None;
        loop {
            let mut candidates = self.old_blobs(&folder, &mut next).await?;
            if candidates.is_empty() {
                return Ok(());
            }
            // Read after the blobs were listed, so that every blob referenced by then is kept.
            let mut search = ReferenceSearch {
                store: self.store,
                blobs: self.blobs,
                project,
                id,
                number,
                pace: &mut self.pace,
            };
            if !search.keep_referenced(&mut candidates).await? {
                return Ok(());
            }
            for orphan in candidates.into_blobs() {
                self.delete_or_report(project.number, id, number, &orphan, observe).await?;
            }
            if next.is_none() {
                return Ok(());
            }
        }
    }

    async fn delete_or_report(
        &self,
        project: Project,
        id: &RunId,
        number: RunNumber,
        orphan: &(BlobKey, ListedBlob),
        observe: &mut BlobObserver<'_>,
    ) -> Result<(), Error> {
        let (key, ListedBlob { size, .. }) = orphan;
        if self.is_dry {
            observe(BlobEvent::Found { key });
            return Ok(());
        }
        match self.delete(project, id, number, orphan).await? {
            Ok(true) => observe(BlobEvent::Deleted { key, bytes: *size }),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%key, %error, "failed to delete orphaned blob");
                observe(BlobEvent::BlobFailed);
            }
        }
        Ok(())
    }

    /// Deletes one blob, unless it was replaced or its run was deleted since the search. A blob that a
    /// worker rewrites between the check and the deletion is lost (docs/operating/blobs.md). Returns whether it was
    /// deleted; an inner error says why it could not be.
    async fn delete(
        &self,
        project: Project,
        id: &RunId,
        number: RunNumber,
        (key, meta): &(BlobKey, ListedBlob),
    ) -> Result<Result<bool, matyan_blob::Error>, Error> {
        let is_same = self.blobs.describe(key).await?.is_some_and(|now| now.modified_us == meta.modified_us);
        let is_live = head_live(&*self.store.snapshot().await?, project, id).await? == Some(number);
        if !is_same || !is_live {
            return Ok(Ok(false));
        }
        let mut failed = self.blobs.delete(std::slice::from_ref(key)).await?;
        Ok(failed.pop().map_or(Ok(true), |(_, error)| Err(error)))
    }

    /// The next old blobs of a run, and where the listing continues.
    async fn old_blobs(
        &mut self,
        folder: &RunFolder,
        next: &mut Option<BlobKey>,
    ) -> Result<Candidates, Error> {
        let mut old = Candidates::default();
        loop {
            let listing = self.blobs.list(folder.prefix(), next.as_ref()).await?;
            for (key, blob) in listing.blobs {
                if blob.modified_us < self.before_us {
                    old.add(folder, key, blob);
                }
            }
            self.pace.rest().await;
            *next = listing.next;
            if next.is_none() || old.is_full() {
                return Ok(old);
            }
        }
    }
}

/// The search of all projects.
fn job() -> Job {
    Job::new(CLEANUP_ORPHAN_BLOBS, Project::default())
}

/// Whether the error concerns the whole bucket rather than one run.
fn is_of_bucket(error: &matyan_blob::Error) -> bool {
    error.is_temporary()
        || matches!(error, matyan_blob::Error::NoBucket { .. } | matyan_blob::Error::Setup { .. })
}
