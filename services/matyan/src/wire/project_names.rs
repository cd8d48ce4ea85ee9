//! The names of projects in the store, for a frontier in the same process.

use std::{error::Error as StdError, sync::Arc};

use async_trait::async_trait;
use matyan_frontier::ProjectNames;
use matyan_model::project::project_find;
use matyan_store::Store;

pub(crate) struct StoredProjects(pub(crate) Arc<dyn Store>);

#[async_trait]
impl ProjectNames for StoredProjects {
    async fn contains(&self, name: &str) -> Result<bool, Box<dyn StdError + Send + Sync>> {
        let snapshot = self.0.snapshot().await?;
        Ok(project_find(snapshot.as_ref(), name).await?.is_some())
    }
}
