//! The projects that data may be sent to. Data for an unknown project is refused: its
//! writer would not notice that it cannot be applied, once it is acknowledged. Data for a project that has used
//! up a quota is refused before it is acknowledged, in a way that makes clients keep it and try again.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use async_trait::async_trait;
use matyan_proto::project::v1::{ExceededQuota, QuotaKind};
use matyan_wire::project_quota::QuotaExceeded;
use tokio::time::timeout;
use tonic::metadata::MetadataMap;

use crate::{
    convert::Caller,
    error::{Error, Result},
    run_id::RunId,
};

/// Limit on the time of a question about quotas. Data is accepted if there is no answer: a store that is away must
/// not stop the training of anyone. Longer than a call to a backend takes, and shorter than the patience of clients with
/// a handshake, which is 10 s.
const QUOTA_TIMEOUT: Duration = Duration::from_secs(8);

type LookupResult<T> = std::result::Result<T, Box<dyn StdError + Send + Sync>>;

/// Existing projects. The name of the default project is empty.
#[async_trait]
pub trait ProjectLookup: Send + Sync {
    /// Returns whether a project has this name.
    async fn contains(&self, name: &str) -> LookupResult<bool>;

    /// Returns a quota that an existing project has used up.
    async fn exceeded_quota(&self, name: &str) -> LookupResult<Option<ExceededQuota>>;

    /// Returns whether a project has this run, in any state. Only needed while a quota of runs is used up.
    async fn has_run(&self, project: &str, run_id: &str) -> LookupResult<bool>;
}

/// Projects as far as this process knows them.
#[derive(Clone)]
pub(crate) struct KnownProjects(Option<Arc<dyn ProjectLookup>>);

impl KnownProjects {
    /// Without a lookup, only the default project is known, and has no quotas.
    pub(crate) fn new(lookup: Option<Arc<dyn ProjectLookup>>) -> Self {
        Self(lookup)
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
            Some(lookup) => lookup.contains(project).await.map_err(|error| Error::Projects(error.into()))?,
            None => false,
        };
        if is_known { Ok(()) } else { Err(Error::NoProject(project.to_owned())) }
    }

    /// Checks that an existing project accepts data of a run.
    pub(crate) async fn admit(&self, project: &str, run: &RunId) -> Result<()> {
        let Some(exceeded) = self.exceeded_quota(project).await else { return Ok(()) };
        if exceeded.kind() == QuotaKind::Runs && self.may_have_run(project, run).await {
            return Ok(());
        }
        Err(Error::QuotaExceeded(QuotaExceeded::new(project, exceeded)))
    }

    /// Checks that a project exists and still accepts data of a run that was admitted.
    pub(crate) async fn check_admitted(&self, project: &str) -> Result<()> {
        self.check(project).await?;
        match self.exceeded_quota(project).await {
            Some(exceeded) if exceeded.kind() != QuotaKind::Runs => {
                Err(Error::QuotaExceeded(QuotaExceeded::new(project, exceeded)))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A quota that a project is known to have used up.
    async fn exceeded_quota(&self, project: &str) -> Option<ExceededQuota> {
        let lookup = self.0.as_ref()?;
        answer(project, lookup.exceeded_quota(project)).await.flatten()
    }

    /// Returns false only if the run is known not to exist.
    async fn may_have_run(&self, project: &str, run: &RunId) -> bool {
        let Some(lookup) = &self.0 else { return true };
        answer(project, lookup.has_run(project, run.as_str())).await.unwrap_or(true)
    }
}

/// The answer to a question about quotas; `None` if there is no answer in time.
async fn answer<T>(project: &str, question: impl Future<Output = LookupResult<T>>) -> Option<T> {
    match timeout(QUOTA_TIMEOUT, question).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            tracing::warn!(project, %error, "failed to look up the quotas of a project; accepting data for it");
            None
        }
        Err(_) => {
            tracing::warn!(project, "timed out looking up the quotas of a project; accepting data for it");
            None
        }
    }
}
