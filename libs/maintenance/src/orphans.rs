//! Orphaned blobs: blobs of live runs that nothing refers to, such as uploads that were never
//! reported, and content that a later upload replaced.
//!
//! A reference may still be on its way, in the log or in the spool of a client. So a blob is
//! deleted only if it is more than a week old and older than the oldest record that is not yet
//! applied. Directories of unknown runs are left alone, because the bucket may be shared; those
//! of deleted runs belong to the control worker.

use std::collections::HashSet;

use futures::TryStreamExt as _;
use matyan_blob::{BlobKey, Blobs, ListedBlob, RunFolder};
use matyan_log::LogWriter;
use matyan_model::{
    artifact::artifacts_list,
    cbor,
    ids::{NamedProject, Project, RunId, RunNumber, SeriesNumber},
    keys,
    object::{Object, ObjectValue, object_series_list, objects_between, objects_list},
    parked::parked_list,
    run::head_live,
    value::Value,
};
use matyan_store::{Scan, Store};

use crate::{Error, oldest_unapplied_us};

/// Minimum age of a blob. Our clients check (and if necessary repeat) an upload before they
/// send a reference to it that is more than a day old.
const KEPT_US: i64 = 7 * 24 * 3_600_000_000;

/// A search for orphaned blobs, one run at a time.
pub struct Orphans<'s> {
    store: &'s dyn Store,
    blobs: &'s dyn Blobs,
    /// Only blobs written before this time are considered.
    before_us: i64,
}

impl<'s> Orphans<'s> {
    pub async fn new(
        store: &'s dyn Store,
        log: &dyn LogWriter,
        blobs: &'s dyn Blobs,
        now_us: i64,
    ) -> Result<Self, Error> {
        let before_us = now_us.saturating_sub(KEPT_US).min(oldest_unapplied_us(store, log).await?);
        Ok(Self { store, blobs, before_us })
    }

    /// Lists the orphaned blobs of a live run.
    pub async fn of_run(
        &self,
        project: &NamedProject,
        id: &RunId,
        number: RunNumber,
    ) -> Result<Vec<(BlobKey, ListedBlob)>, Error> {
        let folder = RunFolder::new(&project.name, id.as_str())?;
        let mut old = self.old_blobs(folder.prefix()).await?;
        if !old.is_empty() {
            // Read after the blobs were listed, so that everything referred to by
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
    pub async fn delete(
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

    /// Every reference that the run may hold. `None` if they cannot all be determined,
    /// because the run has parked items, or one of its values is missing or unreadable and
    /// may have held some.
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
                let Some(value) = self.value(name, object, found).await? else { return Ok(false) };
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
        project_name: &str,
        object: Object,
        found: &mut HashSet<String>,
    ) -> Result<Option<Value>, Error> {
        let bytes = match object.value {
            ObjectValue::Inline(bytes) => bytes,
            ObjectValue::Blob(blob) => {
                let key = BlobKey::in_project(project_name, &blob.key)?;
                found.insert(blob.key);
                match self.read(&key).await {
                    Ok(Some(bytes)) => bytes.into(),
                    Ok(None) => return Ok(None),
                    // Not a failure of the bucket, which has just answered the listing, so the search continues with other runs.
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

/// Collects every text of an object: any of them may be a reference, and keeping too many blobs
/// is harmless.
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
