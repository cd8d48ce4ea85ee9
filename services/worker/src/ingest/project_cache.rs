//! The projects that entries name. Each is looked up again after a while, because a project can be
//! deleted. Until then, its data is still applied; the deletion waits for that.

use std::{collections::HashMap, sync::Arc, time::Duration};

use matyan_model::ids::Project;
use tokio::time::Instant;

/// Time for which a project is not looked up again.
const MAX_AGE: Duration = Duration::from_secs(30);

pub(super) struct ProjectCache(HashMap<Arc<str>, (Project, Instant)>);

impl ProjectCache {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// The default project, whose name is empty, always exists.
    pub(super) fn get(&self, name: &str) -> Option<(Project, Arc<str>)> {
        if name.is_empty() {
            return Some((Project::default(), "".into()));
        }
        let (name, (project, found)) = self.0.get_key_value(name)?;
        (found.elapsed() < MAX_AGE).then(|| (*project, name.clone()))
    }

    pub(super) fn insert(&mut self, name: &str, project: Project) -> (Project, Arc<str>) {
        self.0.retain(|_, (_, found)| found.elapsed() < MAX_AGE);
        let name: Arc<str> = name.into();
        self.0.insert(name.clone(), (project, Instant::now()));
        (project, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_project_is_looked_up_again_after_a_while() {
        let mut cache = ProjectCache::new();
        cache.insert("a", Project(1));
        tokio::time::advance(MAX_AGE / 2).await;
        cache.insert("b", Project(2));
        assert_eq!(cache.get("a"), Some((Project(1), "a".into())));
        tokio::time::advance(MAX_AGE / 2).await;
        assert_eq!((cache.get("a"), cache.get("b")), (None, Some((Project(2), "b".into()))));
        cache.insert("c", Project(3));
        assert_eq!(cache.0.len(), 2, "expired ones are dropped");
        assert_eq!(cache.get(""), Some((Project::default(), "".into())));
    }
}
