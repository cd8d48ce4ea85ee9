//! The name of a run among all runs of a store.

use std::sync::Arc;

use matyan_blob::RunFolder;
use matyan_model::ids::{Project, RunId};

/// The run that a writer writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RunKey {
    pub(crate) project: Project,
    /// Part of the keys of the run's blobs.
    pub(crate) project_name: Arc<str>,
    pub(crate) id: RunId,
}

impl RunKey {
    /// The first of all keys.
    pub(crate) fn first() -> Self {
        Self { project: Project(0), project_name: "".into(), id: RunId::new("") }
    }

    pub(crate) fn folder(&self) -> matyan_blob::Result<RunFolder> {
        RunFolder::new(&self.project_name, self.id.as_str())
    }
}
