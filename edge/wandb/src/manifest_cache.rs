//! Parsed manifests of committed versions, which do not change. A client that downloads single files of a version sends a
//! request for each of them.
//!
//! A manifest is found by the digest of its text. The digest is in the document of the version, which a caller reads with
//! the rights of its own request first: nobody gets a manifest of another project by an id.

use std::ops::Deref;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::budget::{AnswerMemory, MemoryShare};
use crate::error::Result;
use crate::manifest_content::Manifest;

/// Memory of all manifests of a port that are kept: a few of 100,000 files, or many small ones.
const MAX_BYTES: usize = 128 << 20;

/// Maximum number of manifests that are kept.
const MAX_MANIFESTS: usize = 256;

/// Maximum number of manifests that are read at a time. Further requests for files of the same version wait, and then find
/// the manifest that the first requests have read.
const MAX_READS: usize = 4;

/// A manifest that requests share.
#[derive(Debug, Default)]
pub(crate) struct SharedManifest {
    manifest: Manifest,
    /// Returns the memory when neither the cache nor a request has the manifest. `None` if it is not kept: then the budget
    /// of its request pays for it.
    share: Option<MemoryShare>,
}

impl From<Manifest> for SharedManifest {
    fn from(manifest: Manifest) -> Self {
        Self { manifest, share: None }
    }
}

impl Deref for SharedManifest {
    type Target = Manifest;

    fn deref(&self) -> &Manifest {
        &self.manifest
    }
}

impl SharedManifest {
    fn kept_bytes(&self) -> usize {
        self.share.as_ref().map_or(0, MemoryShare::bytes)
    }
}

/// The manifests of a port that are kept. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ManifestCache(Arc<CacheState>);

#[derive(Debug)]
struct CacheState {
    memory: AnswerMemory,
    /// By their digests.
    kept: Mutex<LruCache<String, Arc<SharedManifest>>>,
    turns: Semaphore,
}

impl ManifestCache {
    pub(crate) fn new(memory: AnswerMemory) -> Self {
        let kept = Mutex::new(LruCache::unbounded());
        Self(Arc::new(CacheState { memory, kept, turns: Semaphore::new(MAX_READS) }))
    }

    /// The manifest whose text has this digest, read by `read` unless it is kept. `None` if `read` finds none.
    pub(crate) async fn get_or_read<F>(
        &self,
        digest: &str,
        read: impl FnOnce() -> F,
    ) -> Result<Option<Arc<SharedManifest>>>
    where
        F: Future<Output = Result<Option<Manifest>>>,
    {
        if let Some(known) = self.get(digest) {
            return Ok(Some(known));
        }
        let _turn = self.0.turns.acquire().await.expect("the semaphore is never closed");
        // Another request may have read it in the meantime.
        if let Some(known) = self.get(digest) {
            return Ok(Some(known));
        }
        Ok(read().await?.map(|manifest| self.keep(digest, manifest)))
    }

    fn get(&self, digest: &str) -> Option<Arc<SharedManifest>> {
        self.0.kept.lock().get(digest).cloned()
    }

    /// Keeps a manifest, unless it is too large, or the port has no memory for it.
    fn keep(&self, digest: &str, manifest: Manifest) -> Arc<SharedManifest> {
        let bytes = manifest.memory();
        let share = if bytes <= MAX_BYTES { self.0.memory.take(bytes) } else { None };
        let is_kept = share.is_some();
        let manifest = Arc::new(SharedManifest { manifest, share });
        if is_kept {
            let mut kept = self.0.kept.lock();
            kept.put(digest.to_owned(), Arc::clone(&manifest));
            let mut total: usize = kept.iter().map(|(_, manifest)| manifest.kept_bytes()).sum();
            while total > MAX_BYTES || kept.len() > MAX_MANIFESTS {
                let Some((_, oldest)) = kept.pop_lru() else { break };
                total -= oldest.kept_bytes();
            }
        }
        manifest
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::error::WandbError;

    fn manifest(files: usize) -> Manifest {
        let entries: Vec<String> =
            (0..files).map(|file| format!(r#""file {file}": {{"digest": "AQI="}}"#)).collect();
        Manifest::parse(format!(r#"{{"contents": {{{}}}}}"#, entries.join(",")).as_bytes()).unwrap()
    }

    fn count(cache: &ManifestCache, digest: &str, read: Result<Option<Manifest>>) -> Result<Option<usize>> {
        let found = block_on(cache.get_or_read(digest, move || async move { read }))?;
        Ok(found.map(|manifest| manifest.files().count()))
    }

    #[test]
    fn a_manifest_is_read_once() {
        let memory = AnswerMemory::default();
        let cache = ManifestCache::new(memory.clone());
        let refused = || Err(WandbError::invalid("refused"));
        assert_eq!(count(&cache, "a", refused()), Err(WandbError::invalid("refused")));
        assert_eq!(count(&cache, "a", Ok(None)), Ok(None), "a failure is not kept");
        assert_eq!(count(&cache, "a", Ok(Some(manifest(3)))), Ok(Some(3)));
        assert_eq!(count(&cache, "a", refused()), Ok(Some(3)));
        assert_eq!(count(&cache, "b", Ok(Some(manifest(1)))), Ok(Some(1)));
        let expected = manifest(3).memory() + manifest(1).memory();
        assert_eq!(memory.taken(), u64::try_from(expected).unwrap());
        drop(cache);
        assert_eq!(memory.taken(), 0);
    }

    #[test]
    fn rule_114_kept_manifests_have_bounded_memory() {
        let memory = AnswerMemory::default();
        let cache = ManifestCache::new(memory.clone());
        for digest in 0..=MAX_MANIFESTS {
            count(&cache, &digest.to_string(), Ok(Some(manifest(1)))).unwrap();
            // The first one is used all the time.
            assert_eq!(count(&cache, "0", Ok(None)), Ok(Some(1)));
        }
        assert_eq!(count(&cache, "1", Ok(None)), Ok(None), "it was not used for the longest time");
        assert_eq!(count(&cache, "2", Ok(None)), Ok(Some(1)));

        let used = cache.get("2").unwrap();
        let large = manifest(300_000);
        let bytes = large.memory();
        assert!(bytes > MAX_BYTES / 2 && bytes <= MAX_BYTES);
        count(&cache, "large", Ok(Some(large))).unwrap();
        count(&cache, "other", Ok(Some(manifest(300_000)))).unwrap();
        assert_eq!(count(&cache, "large", Ok(None)), Ok(None), "there is no room for both");
        let kept = bytes + used.kept_bytes();
        assert_eq!(memory.taken(), u64::try_from(kept).unwrap(), "a manifest in use counts");

        let full = memory.take(usize::try_from(crate::budget::PORT_BYTES).unwrap());
        assert!(full.is_none(), "the port does not have so much");
    }
}
