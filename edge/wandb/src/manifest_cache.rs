//! Parsed manifests. A client that downloads single files of a version sends a request for each of them.
//!
//! The manifest of a committed version does not change, and is found by the digest of its text. The digest is in the
//! document of the version, which a caller reads with the rights of its own request first. The manifest of a version
//! without a digest is found by the place and the version of its bytes, which the services tell a caller that may read
//! them. So nobody gets a manifest of another project by an id.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Weak};

use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};

use crate::budget::{AnswerMemory, Budget, MemoryShare};
use crate::error::{Result, WandbError};
use crate::manifest_content::Manifest;

/// Memory of all manifests of a port that are kept: a few of 100,000 files, or many small ones.
const MAX_BYTES: usize = 128 << 20;

/// Maximum number of manifests that are kept.
const MAX_MANIFESTS: usize = 256;

/// Maximum number of manifests that are read at a time.
const MAX_READS: usize = 4;

/// The identity of the text of a manifest. The kinds of keys are apart, because clients can write documents with any digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ManifestKey {
    /// The digest of the text.
    Digest(String),
    /// The bytes in the blob store.
    StoredBytes { uri: String, version: String },
}

/// A manifest that requests share.
#[derive(Debug, Default)]
pub(crate) struct SharedManifest {
    manifest: Manifest,
    /// Returns the memory when neither the cache nor a request has the manifest. `None` if it is not kept: then the budgets
    /// of its requests pay for it.
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
    kept: Mutex<LruCache<ManifestKey, Arc<SharedManifest>>>,
    /// The manifests that are being read. Only the requests that wait for a read keep it alive.
    reads: Mutex<HashMap<ManifestKey, Weak<ManifestRead>>>,
    turns: Semaphore,
}

/// A read of a manifest that one request makes for all requests that wait for it. If that request fails or is cancelled,
/// the next one reads the manifest itself.
type ManifestRead = OnceCell<Arc<SharedManifest>>;

impl ManifestCache {
    pub(crate) fn new(memory: AnswerMemory) -> Self {
        let kept = Mutex::new(LruCache::unbounded());
        let reads = Mutex::default();
        Self(Arc::new(CacheState { memory, kept, reads, turns: Semaphore::new(MAX_READS) }))
    }

    /// The manifest with this key, read by `read` unless it is kept or another request reads it. `None` if
    /// `read` finds none. `read` charges the budget for its own manifest.
    pub(crate) async fn get_or_read<F>(
        &self,
        key: &ManifestKey,
        budget: &Budget,
        read: impl FnOnce() -> F,
    ) -> Result<Option<Arc<SharedManifest>>>
    where
        F: Future<Output = Result<Option<Manifest>>>,
    {
        if let Some(known) = self.get(key) {
            return Ok(Some(known));
        }
        let shared = self.read_of(key);
        let mut has_read = false;
        let read = async {
            let _turn = self.0.turns.acquire().await.expect("the semaphore is never closed");
            // Another request may have read it in the meantime.
            if let Some(known) = self.get(key) {
                return Ok(known);
            }
            has_read = true;
            let manifest = read().await.map_err(Some)?.ok_or(None::<WandbError>)?;
            Ok::<_, Option<WandbError>>(self.keep(key, manifest))
        };
        let manifest = match shared.get_or_try_init(|| read).await {
            Ok(manifest) => Arc::clone(manifest),
            Err(None) => return Ok(None),
            Err(Some(error)) => return Err(error),
        };
        if !has_read && manifest.share.is_none() {
            // The request that has read it may end first, and return the memory that it has paid for.
            budget.charge_manifest(manifest.memory())?;
        }
        Ok(Some(manifest))
    }

    /// The read that all current requests for a manifest share.
    fn read_of(&self, key: &ManifestKey) -> Arc<ManifestRead> {
        let mut reads = self.0.reads.lock();
        if let Some(read) = reads.get(key).and_then(Weak::upgrade) {
            return read;
        }
        // Forgets the reads that have ended. There are at most as many entries as requests.
        reads.retain(|_, read| read.strong_count() > 0);
        let read = Arc::new(ManifestRead::new());
        reads.insert(key.clone(), Arc::downgrade(&read));
        read
    }

    /// The manifest with this key; `None` if it is not kept.
    pub(crate) fn get(&self, key: &ManifestKey) -> Option<Arc<SharedManifest>> {
        self.0.kept.lock().get(key).cloned()
    }

    /// Keeps a manifest, unless it is too large, or the port has no memory for it.
    fn keep(&self, key: &ManifestKey, manifest: Manifest) -> Arc<SharedManifest> {
        let bytes = manifest.memory();
        let share = if bytes <= MAX_BYTES { self.0.memory.take(bytes) } else { None };
        let is_kept = share.is_some();
        let manifest = Arc::new(SharedManifest { manifest, share });
        if is_kept {
            // Large manifests are dropped after the lock is released.
            let _evicted = self.put(key, &manifest);
        }
        manifest
    }

    /// Adds a manifest, and returns the manifests that it evicts.
    fn put(&self, key: &ManifestKey, manifest: &Arc<SharedManifest>) -> Vec<Arc<SharedManifest>> {
        let mut kept = self.0.kept.lock();
        let mut evicted = Vec::from_iter(kept.put(key.clone(), Arc::clone(manifest)));
        let mut total: usize = kept.iter().map(|(_, manifest)| manifest.kept_bytes()).sum();
        while total > MAX_BYTES || kept.len() > MAX_MANIFESTS {
            let Some((_, oldest)) = kept.pop_lru() else { break };
            total -= oldest.kept_bytes();
            evicted.push(oldest);
        }
        evicted
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::executor::block_on;
    use futures::future::join_all;

    use super::*;
    use crate::budget::Resource;

    fn manifest(files: usize) -> Manifest {
        let entries: Vec<String> =
            (0..files).map(|file| format!(r#""file {file}": {{"digest": "AQI="}}"#)).collect();
        Manifest::parse(format!(r#"{{"contents": {{{}}}}}"#, entries.join(",")).as_bytes()).unwrap()
    }

    fn key(digest: &str) -> ManifestKey {
        ManifestKey::Digest(digest.to_owned())
    }

    fn count(cache: &ManifestCache, digest: &str, read: Result<Option<Manifest>>) -> Result<Option<usize>> {
        let budget = Budget::new(AnswerMemory::default());
        let found = block_on(cache.get_or_read(&key(digest), &budget, move || async move { read }))?;
        Ok(found.map(|manifest| manifest.files().count()))
    }

    #[test]
    fn a_digest_finds_no_manifest_by_the_place_of_its_bytes() {
        let cache = ManifestCache::new(AnswerMemory::default());
        let budget = Budget::new(AnswerMemory::default());
        let bytes =
            |version: &str| ManifestKey::StoredBytes { uri: "a".to_owned(), version: version.to_owned() };
        let read = || async { Ok(Some(manifest(2))) };
        block_on(cache.get_or_read(&bytes("a"), &budget, read)).unwrap().unwrap();
        assert!(cache.get(&bytes("a")).is_some());
        for other in [key("a"), bytes("b")] {
            assert!(cache.get(&other).is_none(), "{other:?}");
        }
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

    /// Asks for the same manifest 50 times at once, and returns the numbers of the requests that have found it and of the
    /// reads. The first reads fail.
    async fn concurrent_reads(cache: &ManifestCache, failing: usize) -> (usize, usize) {
        let reads = AtomicUsize::new(0);
        let read = || async {
            let number = reads.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            if number < failing { Err(WandbError::invalid("failed")) } else { Ok(Some(manifest(2))) }
        };
        let budget = Budget::new(AnswerMemory::default());
        let key = key("a");
        let found = join_all((0..50).map(|_| cache.get_or_read(&key, &budget, read))).await;
        (found.iter().flatten().flatten().count(), reads.into_inner())
    }

    #[tokio::test]
    async fn requests_at_the_same_time_share_one_read() {
        let cache = ManifestCache::new(AnswerMemory::default());
        assert_eq!(concurrent_reads(&cache, 0).await, (50, 1));
        assert_eq!(concurrent_reads(&cache, 0).await, (50, 0), "it is kept");
        let cache = ManifestCache::new(AnswerMemory::default());
        assert_eq!(concurrent_reads(&cache, 2).await, (48, 3), "a failure is the failure of one request");
    }

    #[tokio::test]
    async fn a_manifest_without_room_is_shared_and_paid_for_by_each_request() {
        let memory = AnswerMemory::default();
        let cache = ManifestCache::new(memory.clone());
        let others = memory.take(usize::try_from(crate::budget::PORT_BYTES).unwrap()).unwrap();
        assert_eq!(concurrent_reads(&cache, 0).await, (50, 1));
        assert_eq!(concurrent_reads(&cache, 0).await, (50, 1), "it is not kept");
        let budget = Budget::new(AnswerMemory::default());
        let read = || async {
            tokio::task::yield_now().await;
            Ok(Some(manifest(2)))
        };
        let key = key("a");
        let (reader, waiting) =
            futures::join!(cache.get_or_read(&key, &budget, read), cache.get_or_read(&key, &budget, read));
        assert!(Arc::ptr_eq(&reader.unwrap().unwrap(), &waiting.unwrap().unwrap()));
        let charged =
            Budget::new(AnswerMemory::default()).left(Resource::HeldBytes) - budget.left(Resource::HeldBytes);
        assert_eq!(
            charged,
            u64::try_from(manifest(2).memory()).unwrap(),
            "the reader has charged for itself"
        );
        drop(others);
        assert_eq!(memory.taken(), 0);
    }

    #[tokio::test]
    async fn a_cancelled_read_is_taken_over() {
        let cache = ManifestCache::new(AnswerMemory::default());
        let budget = Budget::new(AnswerMemory::default());
        let wanted = key("a");
        let mut cancelled = Box::pin(cache.get_or_read(&wanted, &budget, std::future::pending));
        assert!(futures::poll!(cancelled.as_mut()).is_pending());
        let mut waiting = Box::pin(cache.get_or_read(&wanted, &budget, || async { Ok(Some(manifest(2))) }));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        drop(cancelled);
        assert_eq!(waiting.await.unwrap().unwrap().files().count(), 2);
        cache.read_of(&key("b"));
        assert_eq!(cache.0.reads.lock().len(), 1, "an ended read is forgotten");
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

        let used = cache.get(&key("2")).unwrap();
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
