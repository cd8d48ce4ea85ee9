//! Numbers of runs, shown with experiments and tags.

use std::collections::HashMap;

use matyan_model::{
    entity::{runs_count, runs_counts},
    keys::EntityKind,
};

use crate::server::{call::Call, deps::Deps, error::Result};

/// Numbers of runs by the id of their experiment or tag: all of them, or each read when it is
/// shown.
#[derive(Default)]
pub(crate) struct RunCounts(Option<HashMap<String, i64>>);

impl RunCounts {
    /// The counts of a new entity.
    pub(crate) fn none() -> Self {
        Self(Some(HashMap::new()))
    }

    pub(crate) async fn read_all(deps: &Deps, call: &Call, kind: EntityKind) -> Result<Self> {
        let snapshot = deps.store.snapshot().await?;
        let counts = runs_counts(snapshot.as_ref(), call.project, kind).await?;
        Ok(Self(Some(counts.into_iter().collect())))
    }

    pub(crate) async fn count(&self, deps: &Deps, call: &Call, kind: EntityKind, id: &str) -> Result<u32> {
        let count = match &self.0 {
            Some(counts) => counts.get(id).copied().unwrap_or_default(),
            None => runs_count(deps.store.snapshot().await?.as_ref(), call.project, kind, id).await?,
        };
        Ok(u32::try_from(count).unwrap_or_default())
    }
}

/// Whether a name contains a substring, ignoring case.
pub(crate) fn name_contains(name: &str, part: &str) -> bool {
    name.to_lowercase().contains(&part.trim().to_lowercase())
}
