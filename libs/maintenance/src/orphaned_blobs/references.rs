//! Blobs of a run that may be orphaned, and the search for references to them. Of the content of
//! the run, only one page of rows or one payload is in memory at a time.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use matyan_blob::{BlobKey, Blobs, ListedBlob, RunFolder};
use matyan_model::{
    artifact::artifacts_page,
    ids::{NamedProject, RunId, RunNumber, SeriesNumber},
    keys,
    object::{BlobRef, ObjectValue, object_series_page, objects_between, objects_list},
    parked::parked_list,
    pending_payload::pending_get,
};
use matyan_store::{Scan, Store};
use matyan_value::{Value, cbor};

use crate::{Error, pace::Pace};

/// Bytes of keys and references above which no more candidates are added. The rows of a run are
/// read once for each such set.
const MOST_BYTES: usize = 4 << 20;

/// Blobs by the reference that a run may have to them.
#[derive(Default)]
pub(super) struct Candidates {
    blobs: BTreeMap<String, (BlobKey, ListedBlob)>,
    bytes: usize,
}

impl Candidates {
    /// Adds a blob of the folder of a run.
    pub(super) fn add(&mut self, folder: &RunFolder, key: BlobKey, blob: ListedBlob) {
        // A blob without a reference would be outside of the folder.
        if let Some(reference) = folder.reference_of(&key).map(str::to_owned) {
            self.bytes += key.as_str().len() + reference.len();
            self.blobs.insert(reference, (key, blob));
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= MOST_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    pub(super) fn into_blobs(self) -> impl Iterator<Item = (BlobKey, ListedBlob)> {
        self.blobs.into_values()
    }

    /// Takes out every blob that an object may refer to: any of its strings may be a reference, and
    /// keeping too many blobs is harmless.
    fn keep_texts(&mut self, value: &Value) {
        match value {
            Value::Text(text) => drop(self.blobs.remove(text.as_str())),
            Value::List(list) => {
                for value in list {
                    self.keep_texts(value);
                }
            }
            Value::Map(map) => {
                for value in map.values() {
                    self.keep_texts(value);
                }
            }
            _ => {}
        }
    }
}

/// A search for the references of one run.
pub(super) struct ReferenceSearch<'s> {
    pub(super) store: &'s dyn Store,
    pub(super) blobs: &'s dyn Blobs,
    pub(super) project: &'s NamedProject,
    pub(super) id: &'s RunId,
    pub(super) number: RunNumber,
    pub(super) pace: &'s mut Pace,
}

/// Objects that are read for their references.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Rows, with the values in them.
    Rows,
    /// Values that are blobs themselves.
    Payloads,
}

impl ReferenceSearch<'_> {
    /// Takes out the candidates that the run refers to. Returns false if it may refer to others, too,
    /// because it has parked items, or one of its values is missing or unreadable and may have
    /// contained references.
    pub(super) async fn keep_referenced(&mut self, candidates: &mut Candidates) -> Result<bool, Error> {
        let snapshot = self.store.snapshot().await?;
        let parked = keys::parked_run(self.project.number, self.id);
        if !parked_list(&*snapshot, self.project.number, &parked, 1).await?.0.is_empty() {
            return Ok(false);
        }
        drop(snapshot);
        self.keep_artifacts(candidates).await?;
        let mut has_payloads = false;
        if !self.keep_objects(Pass::Rows, candidates, &mut has_payloads).await? {
            return Ok(false);
        }
        if !has_payloads {
            return Ok(true);
        }
        // Payloads are only downloaded if something is left that they may refer to.
        self.keep_objects(Pass::Payloads, candidates, &mut has_payloads).await
    }

    async fn keep_artifacts(&mut self, candidates: &mut Candidates) -> Result<(), Error> {
        let mut range = Some(keys::artifacts(self.project.number, self.number));
        while let Some(page) = range.filter(|_| !candidates.is_empty()) {
            let snapshot = self.store.snapshot().await?;
            let (artifacts, rest) =
                artifacts_page(&*snapshot, self.project.number, self.number, &page, usize::MAX).await?;
            drop(snapshot);
            for (_, artifact) in artifacts {
                candidates.blobs.remove(&artifact.blob_key);
            }
            self.pace.rest().await;
            range = rest;
        }
        Ok(())
    }

    /// Returns false if one of the values is missing or unreadable.
    async fn keep_objects(
        &mut self,
        pass: Pass,
        candidates: &mut Candidates,
        has_payloads: &mut bool,
    ) -> Result<bool, Error> {
        let mut range = Some(keys::object_headers(self.project.number, self.number));
        while let Some(page) = range.filter(|_| !candidates.is_empty()) {
            let snapshot = self.store.snapshot().await?;
            let (series, rest) =
                object_series_page(&*snapshot, self.project.number, self.number, &page).await?;
            drop(snapshot);
            for series in series {
                if !self.keep_in_series(series, pass, candidates, has_payloads).await? {
                    return Ok(false);
                }
            }
            self.pace.rest().await;
            range = rest;
        }
        Ok(true)
    }

    async fn keep_in_series(
        &mut self,
        series: SeriesNumber,
        pass: Pass,
        candidates: &mut Candidates,
        has_payloads: &mut bool,
    ) -> Result<bool, Error> {
        let project = self.project.number;
        let number = self.number;
        let mut range = Some(objects_between(project, number, series, i64::MIN, i64::MAX));
        while let Some(page) = range.filter(|_| !candidates.is_empty()) {
            let snapshot = self.store.snapshot().await?;
            let (objects, rest) =
                objects_list(&*snapshot, project, number, series, &page, Scan::default()).await?;
            drop(snapshot);
            for object in objects {
                let bytes = match (object.value, pass) {
                    (ObjectValue::Inline(bytes), Pass::Rows) => Some(bytes),
                    (ObjectValue::Inline(_), Pass::Payloads) => continue,
                    (ObjectValue::Blob(blob), Pass::Rows) => {
                        *has_payloads = true;
                        candidates.blobs.remove(&blob.key);
                        continue;
                    }
                    (ObjectValue::Blob(_), Pass::Payloads) if candidates.is_empty() => break,
                    (ObjectValue::Blob(blob), Pass::Payloads) => self.payload(&blob).await?,
                };
                let Some(value) = bytes.and_then(|bytes| cbor::decode(&bytes).ok()) else {
                    return Ok(false);
                };
                candidates.keep_texts(&value);
            }
            self.pace.rest().await;
            range = rest;
        }
        Ok(true)
    }

    /// The content of a value that is a blob, or waits to become one. `None` if it cannot be read.
    async fn payload(&self, blob: &BlobRef) -> Result<Option<bytes::Bytes>, Error> {
        let key = BlobKey::in_project(&self.project.name, &blob.key)?;
        let pending = pending_get(&*self.store.snapshot().await?, self.project.number, blob).await?;
        if pending.is_some() {
            return Ok(pending);
        }
        match self.read(&key).await {
            Ok(content) => Ok(content.map(Into::into)),
            // Not a failure of the bucket, which has just returned the listing, so the search continues
            // with other runs.
            Err(error) => {
                tracing::warn!(key = key.as_str(), %error, "failed to read a referenced blob; keeping all blobs of the run");
                Ok(None)
            }
        }
    }

    async fn read(&self, key: &BlobKey) -> matyan_blob::Result<Option<Vec<u8>>> {
        let Some((_, content)) = self.blobs.read(key, None).await? else { return Ok(None) };
        Ok(Some(content.try_collect::<Vec<_>>().await?.concat()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_with_many_blobs_is_searched_in_parts() {
        let folder = RunFolder::new("", "run").unwrap();
        let mut candidates = Candidates::default();
        let mut added = 0_usize;
        while !candidates.is_full() {
            let key = BlobKey::new(format!("run/{added:0>900}")).unwrap();
            candidates.add(&folder, key, ListedBlob { size: 1, modified_us: 0 });
            added += 1;
        }
        assert!((1_000..5_000).contains(&added), "{added}");
        let reference = format!("run/{:0>900}", 7);
        candidates.keep_texts(&Value::List(vec![Value::Text("other".into()), Value::Text(reference)]));
        assert_eq!(candidates.into_blobs().count(), added - 1);
    }
}
