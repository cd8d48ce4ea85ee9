//! Orphaned blobs: blobs of live runs that nothing refers to, such as uploads that were never
//! reported, and content that a later upload replaced.
//!
//! A reference may still be in flight, in the log or in the spool of a client. So a blob is
//! deleted only if it is more than a week old and older than the oldest record that is not yet
//! applied. Folders of unknown runs are left alone, because the bucket may be shared; those of
//! deleted runs belong to the control worker.

use std::collections::HashSet;

use futures::TryStreamExt as _;
use matyan_blob::{BlobKey, Blobs, ListedBlob, RunFolder};
use matyan_model::{
    artifact::artifacts_list,
    ids::{NamedProject, Project, RunId, RunNumber, SeriesNumber},
    keys,
    object::{Object, ObjectValue, object_series_list, objects_between, objects_list},
    parked::parked_list,
    pending_payload::pending_get,
    run::{head_live, runs_list},
};
use matyan_store::{Scan, Store};
use matyan_value::{Value, cbor};

use crate::{
    BlobEvent, BlobObserver, Deps, Error, JobLock, oldest_unapplied_us, project_pages::ProjectPages,
};

/// Minimum age of a blob. Before clients send a reference that is more than a day old, they
/// check its upload and repeat it if necessary.
const KEPT_US: i64 = 7 * 24 * 3_600_000_000;

/// Runs examined in one page.
const PAGE: Scan = Scan { rows: 100, bytes: 1 << 20, reverse: false };

/// A search for the orphaned blobs of several projects.
pub struct OrphanedBlobs<'d> {
    store: &'d dyn Store,
    blobs: &'d dyn Blobs,
    /// Only blobs written before this time are considered.
    before_us: i64,
    pages: ProjectPages,
    is_dry: bool,
    max_failures: Option<u32>,
    /// Number of consecutive runs with failures of the bucket.
    failures: u32,
}

impl<'d> OrphanedBlobs<'d> {
    pub async fn new(deps: Deps<'d>, projects: Vec<NamedProject>) -> Result<Self, Error> {
        let oldest_us = oldest_unapplied_us(deps.store, deps.log).await?;
        Ok(Self {
            store: deps.store,
            blobs: deps.blobs,
            before_us: deps.now_us().saturating_sub(KEPT_US).min(oldest_us),
            pages: ProjectPages::new(projects, keys::documents),
            is_dry: false,
            max_failures: None,
            failures: 0,
        })
    }

    /// Only reports the blobs.
    #[must_use]
    pub fn dry(self, is_dry: bool) -> Self {
        Self { is_dry, ..self }
    }

    /// Fails after bucket errors in this many consecutive runs; the bucket is then
    /// considered unavailable.
    #[must_use]
    pub fn max_failures(self, runs: u32) -> Self {
        Self { max_failures: Some(runs), ..self }
    }

    /// Deletes the orphaned blobs of the next page of runs, and returns the number of runs;
    /// `None` after the last page. Renews the lock, if there is one, for each run.
    pub async fn next_page(
        &mut self,
        mut lock: Option<&mut JobLock<'_>>,
        observe: &mut BlobObserver<'_>,
    ) -> Result<Option<u64>, Error> {
        let Some((project, range)) = self.pages.next() else { return Ok(None) };
        let snapshot = self.store.snapshot().await?;
        let page = runs_list(&*snapshot, project.number, &range, PAGE).await?;
        // Dropped first, because deleting may take longer than a snapshot lives.
        drop(snapshot);
        self.pages.give_back(&project, page.rest);
        let count = page.runs.len() as u64;
        for (number, document) in page.runs {
            if let Some(lock) = &mut lock {
                lock.renew().await?;
            }
            let id = RunId::new(document.props.run_id);
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
        Ok(Some(count))
    }

    async fn delete_in_run(
        &self,
        project: &NamedProject,
        id: &RunId,
        number: RunNumber,
        observe: &mut BlobObserver<'_>,
    ) -> Result<(), Error> {
        for orphan in self.find_in_run(project, id, number).await? {
            let (key, ListedBlob { size, .. }) = &orphan;
            if self.is_dry {
                observe(BlobEvent::Found { key });
                continue;
            }
            match self.delete(project.number, id, number, &orphan).await? {
                Ok(true) => observe(BlobEvent::Deleted { key, bytes: *size }),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%key, %error, "failed to delete orphaned blob");
                    observe(BlobEvent::BlobFailed);
                }
            }
        }
        Ok(())
    }

    async fn find_in_run(
        &self,
        project: &NamedProject,
        id: &RunId,
        number: RunNumber,
    ) -> Result<Vec<(BlobKey, ListedBlob)>, Error> {
        let folder = RunFolder::new(&project.name, id.as_str())?;
        let mut old = self.old_blobs(folder.prefix()).await?;
        if !old.is_empty() {
            // Read after the blobs were listed, so that every blob referenced by
            // then is kept.
            match self.references(project, id, number).await? {
                Some(referred) => old.retain(|(key, _)| {
                    !folder.reference_of(key).is_some_and(|reference| referred.contains(reference))
                }),
                None => old.clear(),
            }
        }
        Ok(old)
    }

    /// Deletes one blob, unless it was replaced or its run was deleted since the search.
    /// Returns whether it was deleted; an inner error says why it could not be.
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

    async fn old_blobs(&self, folder: &str) -> Result<Vec<(BlobKey, ListedBlob)>, Error> {
        let (mut old, mut from) = (Vec::new(), None);
        loop {
            let listing = self.blobs.list(folder, from.as_ref()).await?;
            old.extend(listing.blobs.into_iter().filter(|(_, meta)| meta.modified_us < self.before_us));
            from = listing.next;
            if from.is_none() {
                return Ok(old);
            }
        }
    }

    /// Every reference that the run may contain. `None` if they cannot all be determined,
    /// because the run has parked items, or one of its values is missing or unreadable and
    /// may have contained some.
    async fn references(
        &self,
        NamedProject { number: project, name }: &NamedProject,
        id: &RunId,
        number: RunNumber,
    ) -> Result<Option<HashSet<String>>, Error> {
        let project = *project;
        let snapshot = self.store.snapshot().await?;
        if !parked_list(&*snapshot, project, &keys::parked_run(project, id), 1).await?.0.is_empty() {
            return Ok(None);
        }
        let artifacts = artifacts_list(&*snapshot, project, number).await?;
        let series = object_series_list(&*snapshot, project, number).await?;
        drop(snapshot);
        let mut found: HashSet<String> =
            artifacts.into_iter().map(|(_, artifact)| artifact.blob_key).collect();
        for (series, _) in series {
            if !self.objects((project, name), number, series, &mut found).await? {
                return Ok(None);
            }
        }
        Ok(Some(found))
    }

    /// Returns false if one of the objects is missing or unreadable.
    async fn objects(
        &self,
        (project, name): (Project, &str),
        number: RunNumber,
        series: SeriesNumber,
        found: &mut HashSet<String>,
    ) -> Result<bool, Error> {
        let mut range = Some(objects_between(project, number, series, i64::MIN, i64::MAX));
        while let Some(own) = range {
            let snapshot = self.store.snapshot().await?;
            let (page, rest) =
                objects_list(&*snapshot, project, number, series, &own, Scan::default()).await?;
            drop(snapshot);
            for object in page {
                let Some(value) = self.value(project, name, object, found).await? else { return Ok(false) };
                texts(&value, found);
            }
            range = rest;
        }
        Ok(true)
    }

    /// The decoded value of an object, inline or from the blob store, or `None` if it
    /// cannot be read. Its own blob counts as referenced.
    async fn value(
        &self,
        project: Project,
        project_name: &str,
        object: Object,
        found: &mut HashSet<String>,
    ) -> Result<Option<Value>, Error> {
        let bytes = match object.value {
            ObjectValue::Inline(bytes) => bytes,
            ObjectValue::Blob(blob) => {
                let key = BlobKey::in_project(project_name, &blob.key)?;
                let pending = pending_get(&*self.store.snapshot().await?, project, &blob).await?;
                found.insert(blob.key);
                if let Some(bytes) = pending {
                    return Ok(cbor::decode(&bytes).ok());
                }
                match self.read(&key).await {
                    Ok(Some(bytes)) => bytes.into(),
                    Ok(None) => return Ok(None),
                    // Not a failure of the bucket, which has just returned
                    // the listing, so the search continues with other runs.
                    Err(error) => {
                        tracing::warn!(key = key.as_str(), %error, "failed to read a referenced blob; keeping all blobs of the run");
                        return Ok(None);
                    }
                }
            }
        };
        Ok(cbor::decode(&bytes).ok())
    }

    async fn read(&self, key: &BlobKey) -> matyan_blob::Result<Option<Vec<u8>>> {
        let Some((_, content)) = self.blobs.read(key, None).await? else { return Ok(None) };
        Ok(Some(content.try_collect::<Vec<_>>().await?.concat()))
    }
}

/// Collects every string in an object: any of them may be a reference, and keeping too many
/// blobs is harmless.
fn texts(value: &Value, found: &mut HashSet<String>) {
    match value {
        Value::Text(text) => {
            found.insert(text.clone());
        }
        Value::List(list) => list.iter().for_each(|value| texts(value, found)),
        Value::Map(map) => map.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}

/// Whether the error concerns the whole bucket rather than one run.
fn is_of_bucket(error: &matyan_blob::Error) -> bool {
    error.is_temporary()
        || matches!(error, matyan_blob::Error::NoBucket { .. } | matyan_blob::Error::Setup { .. })
}
