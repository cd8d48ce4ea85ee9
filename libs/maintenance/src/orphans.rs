//! Blobs of live runs that nothing refers to: uploads that were never told of, and what a later upload replaced.
//!
//! A reference may still be on its way: in the log, or in the spool of a client. So a blob goes only if it is older than a
//! week, and older than the oldest record that is not applied. Folders of runs that are not known here are left alone, because
//! the store of blobs may be shared; those of deleted runs are the control worker's.

use std::collections::HashSet;

use futures::TryStreamExt as _;
use matyan_blob::{BlobKey, Blobs, Listed, RunFolder};
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

/// A client of ours checks, or uploads again, before it sends a reference that is more than a day old.
const KEPT_US: i64 = 7 * 24 * 3_600_000_000;

/// A search for orphans. Each run is looked at by itself.
pub struct Orphans<'s> {
    store: &'s dyn Store,
    blobs: &'s dyn Blobs,
    /// Blobs that were written before this.
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

    /// Those of a live run.
    pub async fn of_run(
        &self,
        project: &NamedProject,
        id: &RunId,
        number: RunNumber,
    ) -> Result<Vec<(BlobKey, Listed)>, Error> {
        let folder = RunFolder::new(&project.name, id.as_str())?;
        let mut old = self.old_blobs(folder.prefix()).await?;
        if !old.is_empty() {
            // Read after the list: what is referred to by then stays.
            match self.references(project, id, number).await? {
                Some(referred) => old.retain(|(key, _)| {
                    !folder.reference_of(key).is_some_and(|reference| referred.contains(reference))
                }),
                None => old.clear(),
            }
        }
        Ok(old)
    }

    /// Deletes one, unless it was replaced or its run deleted since it was found. Tells whether it is gone; an inner error
    /// says why it stays.
    pub async fn delete(
        &self,
        project: Project,
        id: &RunId,
        number: RunNumber,
        (key, meta): &(BlobKey, Listed),
    ) -> Result<Result<bool, matyan_blob::Error>, Error> {
        let is_same = self.blobs.describe(key).await?.is_some_and(|now| now.modified_us == meta.modified_us);
        let is_live = head_live(&*self.store.snapshot().await?, project, id).await? == Some(number);
        if !is_same || !is_live {
            return Ok(Ok(false));
        }
        let mut failed = self.blobs.delete(std::slice::from_ref(key)).await?;
        Ok(failed.pop().map_or(Ok(true), |(_, error)| Err(error)))
    }

    async fn old_blobs(&self, folder: &str) -> Result<Vec<(BlobKey, Listed)>, Error> {
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

    /// Every reference that anything of the run may hold; `None` if that cannot be told, because items of it are parked, or
    /// a value of it is gone or cannot be read: it may have held some.
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

    /// False if one of them is gone or cannot be read.
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

    /// An object's value, wherever it lies, if it can be read; where it lies is referred to as well.
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
                    // It says nothing of others: that the bucket answers is known from its list.
                    Err(error) => {
                        tracing::warn!(key = key.as_str(), %error, "a run keeps its blobs, as one cannot be read");
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

/// Any text of an object may be a reference: to keep too much does no harm.
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
