//! The projects that data may be sent to. Data for an unknown project is refused: its
//! writer would not notice that it cannot be applied, once it is acknowledged.

use std::{error::Error as StdError, sync::Arc};

use async_trait::async_trait;
use tonic::metadata::MetadataMap;

use crate::{
    convert::Caller,
    error::{Error, Result},
};

/// The names of existing projects.
#[async_trait]
pub trait ProjectNames: Send + Sync {
    /// Returns whether a project has this name.
    async fn contains(&self, name: &str) -> std::result::Result<bool, Box<dyn StdError + Send + Sync>>;
}

/// Projects as far as this process knows them.
#[derive(Clone)]
pub(crate) struct KnownProjects(Option<Arc<dyn ProjectNames>>);

impl KnownProjects {
    /// Without names, only the default project is known.
    pub(crate) fn new(names: Option<Arc<dyn ProjectNames>>) -> Self {
        Self(names)
    }

    /// Reads the metadata of a call, whose project must exist.
    pub(crate) async fn caller(&self, metadata: &MetadataMap) -> Result<Caller> {
        let caller = Caller::parse(metadata)?;
        self.check(&caller.project).await?;
        Ok(caller)
    }

    /// Checks that a project exists.
    pub(crate) async fn check(&self, project: &str) -> Result<()> {
        let is_known = match &self.0 {
            _ if project.is_empty() => true,
            Some(names) => names.contains(project).await.map_err(|error| Error::Projects(error.into()))?,
            None => false,
        };
        if is_known { Ok(()) } else { Err(Error::NoProject(project.to_owned())) }
    }
}
