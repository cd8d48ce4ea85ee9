//! The projects that entries name. A project keeps its number, so each is looked up once.

use std::{collections::HashMap, sync::Arc};

use matyan_model::ids::Project;

pub(super) struct ProjectCache(HashMap<Arc<str>, Project>);

impl ProjectCache {
    /// A cache that knows only the default project, whose name is empty.
    pub(super) fn new() -> Self {
        Self(HashMap::from([("".into(), Project::default())]))
    }

    pub(super) fn get(&self, name: &str) -> Option<(Project, Arc<str>)> {
        self.0.get_key_value(name).map(|(name, project)| (*project, name.clone()))
    }

    pub(super) fn insert(&mut self, name: &str, project: Project) -> (Project, Arc<str>) {
        let name: Arc<str> = name.into();
        self.0.insert(name.clone(), project);
        (project, name)
    }
}
