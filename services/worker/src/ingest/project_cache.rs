//! The projects that entries name. The lookup of a project expires after a while, because the project can
//! be deleted. Until then, its data is still applied; the deletion waits for the expiry.

use std::{collections::HashMap, sync::Arc, time::Duration};

use matyan_model::ids::Project;
use tokio::time::Instant;

/// Time for which the lookup of a project is valid.
const MAX_AGE: Duration = Duration::from_secs(30);

/// Maximum number of names that are remembered: as many as a server may have projects. Other writers of the
/// log may use any names.
const MAX_NAMES: usize = 10_000;

/// Answer of a lookup of an entry's project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KnownProject {
    Active(Project, Arc<str>),
    /// The entry is dropped, like the entries of a deleted run. No other project ever has this name.
    Deleted,
    /// The entry is parked for this reason: the project is damaged, or does not exist.
    Unusable(Arc<str>),
}

struct CachedProject {
    known: KnownProject,
    found: Instant,
    /// Time before it was looked up, in microseconds since the Unix epoch.
    asked_us: i64,
}

pub(super) struct ProjectCache(HashMap<Arc<str>, CachedProject>);

impl ProjectCache {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// Looks for the project of an entry that a frontier has received at this time. A project that did not
    /// exist before may have been created, or repaired, since it was looked up. The default project, whose
    /// name is empty, always exists.
    pub(super) fn get(&self, name: &str, received_us: i64) -> Option<KnownProject> {
        if name.is_empty() {
            return Some(KnownProject::Active(Project::default(), "".into()));
        }
        let CachedProject { known, found, asked_us } = self.0.get(name)?;
        let is_final = !matches!(known, KnownProject::Unusable(_)) || received_us <= *asked_us;
        (is_final && found.elapsed() < MAX_AGE).then(|| known.clone())
    }

    pub(super) fn insert(&mut self, name: &str, known: KnownProject, asked_us: i64) {
        self.0.retain(|_, cached| cached.found.elapsed() < MAX_AGE);
        if self.0.len() >= MAX_NAMES {
            self.0.clear();
        }
        self.0.insert(name.into(), CachedProject { known, found: Instant::now(), asked_us });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(number: u32, name: &str) -> KnownProject {
        KnownProject::Active(Project(number), name.into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_project_is_looked_up_again_after_a_while() {
        let mut cache = ProjectCache::new();
        cache.insert("a", active(1, "a"), 0);
        tokio::time::advance(MAX_AGE / 2).await;
        cache.insert("b", active(2, "b"), 0);
        assert_eq!(cache.get("a", 9), Some(active(1, "a")));
        tokio::time::advance(MAX_AGE / 2).await;
        assert_eq!((cache.get("a", 9), cache.get("b", 9)), (None, Some(active(2, "b"))));
        cache.insert("c", active(3, "c"), 0);
        assert_eq!(cache.0.len(), 2, "expired ones are dropped");
        assert_eq!(cache.get("", 9), Some(active(0, "")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_project_that_does_not_exist_may_be_created() {
        let mut cache = ProjectCache::new();
        cache.insert("gone", KnownProject::Deleted, 10);
        cache.insert("new", KnownProject::Unusable("it does not exist".into()), 10);
        assert_eq!(cache.get("gone", 99), Some(KnownProject::Deleted));
        assert_eq!(cache.get("new", 10), Some(KnownProject::Unusable("it does not exist".into())));
        assert_eq!(cache.get("new", 11), None);
        tokio::time::advance(MAX_AGE).await;
        assert_eq!((cache.get("gone", 9), cache.get("new", 9)), (None, None));
    }

    #[tokio::test]
    async fn the_number_of_names_is_bounded() {
        let mut cache = ProjectCache::new();
        for name in 0..=MAX_NAMES {
            cache.insert(&name.to_string(), KnownProject::Deleted, 0);
        }
        assert!(cache.0.len() <= MAX_NAMES && cache.get(&MAX_NAMES.to_string(), 0).is_some());
    }
}
