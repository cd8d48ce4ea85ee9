//! Blobs of live runs that nothing refers to: uploads that were never told of, and what a later upload replaced.
//!
//! A reference may still be on its way: in the log, or in the spool of a client. So a blob goes only if it is older than a
//! week, and older than the oldest record that is not applied. Folders of runs that are not known here are left alone, because
//! the store of blobs may be shared; those of deleted runs are the control worker's.

use std::collections::HashSet;

use matyan_blob::{BlobKey, Listed, RunFolder};
use matyan_model::{
    artifact::artifacts_list,
    cbor,
    ids::{NamedProject, RunId, RunNumber, SeriesNumber},
    keys,
    object::{Object, ObjectValue, object_series_list, objects_between, objects_list},
    parked::parked_list,
    run::{head_live, runs_list},
    value::Value,
};
use matyan_store::Scan;
use tokio_util::sync::CancellationToken;

use super::{oldest_unapplied_us, projects};
use crate::{deps::Deps, error::Error, metrics::Metrics};

/// A client of ours checks, or uploads again, before it sends a reference that is more than a day old.
const KEPT_US: i64 = 7 * 24 * 3_600_000_000;

pub(crate) async fn sweep(deps: &Deps, metrics: &Metrics, stop: &CancellationToken) -> Result<(), Error> {
    let before_us = deps.now_us().saturating_sub(KEPT_US).min(oldest_unapplied_us(deps).await?);
    for project in projects(deps).await? {
        let mut range = Some(keys::documents(project.number));
        while let Some(own) = range.filter(|_| !stop.is_cancelled()) {
            let snapshot = deps.store.snapshot().await?;
            let page =
                runs_list(&*snapshot, project.number, &own, Scan { rows: 100, ..Scan::default() }).await?;
            drop(snapshot);
            for (number, document) in page.runs {
                let id = RunId::new(document.props.run_id);
                sweep_run(deps, metrics, &project, &id, number, before_us).await?;
            }
            range = page.rest;
        }
    }
    Ok(())
}

async fn sweep_run(
    deps: &Deps,
    metrics: &Metrics,
    project: &NamedProject,
    id: &RunId,
    number: RunNumber,
    before_us: i64,
) -> Result<(), Error> {
    let folder = RunFolder::new(&project.name, id.as_str())?;
    let old = old_blobs(deps, folder.prefix(), before_us).await?;
    if old.is_empty() {
        return Ok(());
    }
    // Read after the list: what is referred to by then stays.
    let Some(referred) = references(deps, project, id, number).await? else { return Ok(()) };
    let is_referred =
        |key: &BlobKey| folder.reference_of(key).is_some_and(|reference| referred.contains(reference));
    for (key, meta) in old.into_iter().filter(|(key, _)| !is_referred(key)) {
        let is_same = deps.blobs.describe(&key).await?.is_some_and(|now| now.modified_us == meta.modified_us);
        let is_live = head_live(&*deps.store.snapshot().await?, project.number, id).await? == Some(number);
        if is_same && is_live {
            tracing::info!(key = key.as_str(), "deleting a blob that nothing refers to");
            let failed = deps.blobs.delete(&[key]).await?;
            metrics.blobs_deleted.inc_by(1 - failed.len() as u64);
            metrics.blob_failures.inc_by(failed.len() as u64);
        }
    }
    Ok(())
}

async fn old_blobs(deps: &Deps, folder: &str, before_us: i64) -> Result<Vec<(BlobKey, Listed)>, Error> {
    let (mut old, mut after) = (Vec::new(), None);
    loop {
        let listing = deps.blobs.list(folder, after.as_ref()).await?;
        old.extend(listing.blobs.into_iter().filter(|(_, meta)| meta.modified_us < before_us));
        after = listing.next;
        if after.is_none() {
            return Ok(old);
        }
    }
}

/// Every reference that anything of the run may hold; `None` if that cannot be told, because items of it are parked.
async fn references(
    deps: &Deps,
    project: &NamedProject,
    id: &RunId,
    number: RunNumber,
) -> Result<Option<HashSet<String>>, Error> {
    let snapshot = deps.store.snapshot().await?;
    if !parked_list(&*snapshot, project.number, &keys::parked_run(project.number, id), 1).await?.0.is_empty()
    {
        return Ok(None);
    }
    let artifacts = artifacts_list(&*snapshot, project.number, number).await?;
    let series = object_series_list(&*snapshot, project.number, number).await?;
    drop(snapshot);
    let mut found: HashSet<String> = artifacts.into_iter().map(|(_, artifact)| artifact.blob_key).collect();
    for (series, _) in series {
        objects(deps, project, number, series, &mut found).await?;
    }
    Ok(Some(found))
}

async fn objects(
    deps: &Deps,
    project: &NamedProject,
    number: RunNumber,
    series: SeriesNumber,
    found: &mut HashSet<String>,
) -> Result<(), Error> {
    let mut range = Some(objects_between(project.number, number, series, i64::MIN, i64::MAX));
    while let Some(own) = range {
        let snapshot = deps.store.snapshot().await?;
        let (page, rest) =
            objects_list(&*snapshot, project.number, number, series, &own, Scan::default()).await?;
        drop(snapshot);
        for object in page {
            let value = value(deps, project, object, found).await?;
            texts(&value, found);
        }
        range = rest;
    }
    Ok(())
}

/// An object's value, wherever it lies; where it lies is referred to as well.
async fn value(
    deps: &Deps,
    project: &NamedProject,
    object: Object,
    found: &mut HashSet<String>,
) -> Result<Value, Error> {
    let bytes = match object.value {
        ObjectValue::Inline(bytes) => bytes,
        ObjectValue::Blob(blob) => {
            let key = BlobKey::in_project(&project.name, &blob.key)?;
            found.insert(blob.key);
            let Some((_, content)) = deps.blobs.read(&key, None).await? else {
                return Ok(Value::Null);
            };
            futures::TryStreamExt::try_collect::<Vec<_>>(content).await?.concat().into()
        }
    };
    // It was decoded before it was stored.
    Ok(cbor::decode(&bytes).unwrap_or(Value::Null))
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
