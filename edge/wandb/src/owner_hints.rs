//! Hints for finding the files of deleted versions. The versions that have such files know where they are. A client that
//! downloads a version sends a request for each of its files: without a hint, each request would search the collection
//! for a version that knows.
//!
//! A hint is only the id of that version. Its document is read with the rights of each request, so a hint reveals nothing
//! that a search would not find.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;

/// Maximum number of hints.
const MAX_HINTS: NonZeroUsize = NonZeroUsize::new(1_000).expect("it is not zero");

/// Maximum size of the names of a hint. With longer names, each request searches the collection.
const NAME_BYTES: usize = 1_024;

/// The hints of a port. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct OwnerHints(Arc<Mutex<LruCache<HintKey, String>>>);

/// The name of a collection, and the id of the deleted version.
type HintKey = (String, String);

impl Default for OwnerHints {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(LruCache::new(MAX_HINTS))))
    }
}

impl OwnerHints {
    /// The id of a version in the collection that knew where the files of the deleted version are.
    pub(crate) fn get(&self, collection: &str, deleted: &str) -> Option<String> {
        self.0.lock().get(&(collection.to_owned(), deleted.to_owned())).cloned()
    }

    pub(crate) fn keep(&self, collection: &str, deleted: &str, version: &str) {
        if collection.len() + deleted.len() + version.len() <= NAME_BYTES {
            self.0.lock().put((collection.to_owned(), deleted.to_owned()), version.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hints_that_are_used_are_kept() {
        let hints = OwnerHints::default();
        hints.keep("p/model", "v0", "v3");
        for deleted in 0..MAX_HINTS.get() {
            hints.keep("p/model", &deleted.to_string(), "v3");
            if deleted == 0 {
                assert_eq!(hints.get("p/model", "v0").as_deref(), Some("v3"));
            }
        }
        assert_eq!(hints.get("p/model", "0"), None, "it was not used for the longest time");
        assert_eq!(hints.get("p/model", "v0").as_deref(), Some("v3"));
        hints.keep("p/model", "long", &"v".repeat(NAME_BYTES));
        assert_eq!(hints.get("p/model", "long"), None);
    }
}
