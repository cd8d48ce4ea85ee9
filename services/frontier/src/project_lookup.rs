//! The projects that data may be sent to. Data for an unknown project is refused: its
//! writer would not notice that it cannot be applied, once it is acknowledged. Data for a project that has used
//! up a quota is refused before it is acknowledged, in a way that makes clients keep it and try again.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use async_trait::async_trait;
use matyan_proto::project::v1::{ExceededQuota, QuotaKind};
use matyan_wire::project_quota::QuotaExceeded;
use tokio::time::{Instant, timeout_at};
use tonic::metadata::MetadataMap;

use crate::{
    admitted_runs::{AdmittedRun, AdmittedRuns},
    convert::Caller,
    error::{Error, Result},
    metrics::QuotaMetrics,
    run_id::RunId,
};

/// Limit on the time of all questions about a call or a stream together. It leaves a lookup the time to notice that
/// its backend does not answer, and a handshake of 10 s, which clients wait for, the time for its other checks.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);

type LookupResult<T> = std::result::Result<T, Box<dyn StdError + Send + Sync>>;

/// Existing projects. The name of the default project is empty. Projects are looked up for every call: a lookup that asks
/// another process answers from memory while that process is away, and reports the outage itself.
#[async_trait]
pub trait ProjectLookup: Send + Sync {
    /// Returns whether a project has this name.
    async fn contains(&self, name: &str) -> LookupResult<bool>;

    /// Returns false if a project is known to have no quota of runs, without a look at a store or another process.
    fn may_limit_runs(&self, name: &str) -> bool;

    /// Returns a quota that an existing project has used up.
    async fn exceeded_quota(&self, name: &str) -> LookupResult<Option<ExceededQuota>>;

    /// Returns false if a project is known not to have this run in any state. Only needed while a quota of runs is used
    /// up.
    async fn may_have_run(&self, project: &str, run_id: &str) -> LookupResult<bool>;
}

/// Projects as far as this process knows them. Data for a project that exists is accepted if its quotas cannot be
/// looked up in time: a store that is away must not stop the training of anyone.
#[derive(Clone)]
pub(crate) struct KnownProjects {
    /// `None`: only the default project is known, and has no quotas.
    lookup: Option<Arc<dyn ProjectLookup>>,
    admitted: Arc<AdmittedRuns>,
    metrics: QuotaMetrics,
}

impl KnownProjects {
    pub(crate) fn new(lookup: Option<Arc<dyn ProjectLookup>>, metrics: QuotaMetrics) -> Self {
        Self { lookup, admitted: Arc::default(), metrics }
    }

    /// Reads the metadata of a call, whose project must exist.
    pub(crate) async fn caller(&self, metadata: &MetadataMap) -> Result<Caller> {
        self.caller_until(metadata, deadline()).await
    }

    /// Like `caller`, for a call with more questions.
    pub(crate) async fn caller_until(&self, metadata: &MetadataMap, deadline: Instant) -> Result<Caller> {
        let caller = Caller::parse(metadata)?;
        self.check_until(&caller.project, deadline).await?;
        Ok(caller)
    }

    /// Checks that a project exists.
    pub(crate) async fn check(&self, project: &str) -> Result<()> {
        self.check_until(project, deadline()).await
    }

    async fn check_until(&self, project: &str, deadline: Instant) -> Result<()> {
        let is_known = match &self.lookup {
            _ if project.is_empty() => true,
            Some(lookup) => match timeout_at(deadline, lookup.contains(project)).await {
                Ok(found) => found.map_err(|error| Error::Projects(error.into()))?,
                Err(elapsed) => return Err(Error::Projects(Arc::new(elapsed))),
            },
            None => false,
        };
        if is_known { Ok(()) } else { Err(Error::NoProject(project.to_owned())) }
    }

    /// Checks that an existing project accepts data of a run.
    pub(crate) async fn check_run(&self, project: &str, run: &RunId, deadline: Instant) -> Result<()> {
        let Some(exceeded) = self.exceeded_quota(project, deadline).await else { return Ok(()) };
        if exceeded.kind() == QuotaKind::Runs && self.may_have_run(project, run, deadline).await {
            return Ok(());
        }
        Err(self.refusal(project, exceeded))
    }

    /// A run to remember once data of it is accepted; `None` if the number of runs is not limited.
    pub(crate) fn limited_run(&self, project: &str, run: &RunId) -> Option<AdmittedRun> {
        let lookup = self.lookup.as_ref()?;
        lookup.may_limit_runs(project).then(|| AdmittedRun::new(project, run))
    }

    /// Remembers that data of a run was accepted: the run does not count as new from now on.
    pub(crate) fn remember_run(&self, run: AdmittedRun) {
        self.admitted.insert(run);
    }

    /// Checks that a project exists and still accepts data of a run that was admitted.
    pub(crate) async fn check_admitted(&self, project: &str) -> Result<()> {
        let deadline = deadline();
        self.check_until(project, deadline).await?;
        match self.exceeded_quota(project, deadline).await {
            Some(exceeded) if exceeded.kind() != QuotaKind::Runs => Err(self.refusal(project, exceeded)),
            Some(_) | None => Ok(()),
        }
    }

    /// The error of a call or a stream that a quota refuses, which is counted.
    fn refusal(&self, project: &str, exceeded: ExceededQuota) -> Error {
        let refusal = QuotaExceeded::new(project, exceeded);
        self.metrics.count_refusal(refusal.quota_name());
        Error::QuotaExceeded(refusal)
    }

    /// A quota that a project is known to have used up.
    async fn exceeded_quota(&self, project: &str, deadline: Instant) -> Option<ExceededQuota> {
        let lookup = self.lookup.as_ref()?;
        answer(project, deadline, lookup.exceeded_quota(project)).await.flatten()
    }

    /// Returns false only if the run is known not to exist.
    async fn may_have_run(&self, project: &str, run: &RunId, deadline: Instant) -> bool {
        if self.admitted.contains(&AdmittedRun::new(project, run)) {
            return true;
        }
        let Some(lookup) = &self.lookup else { return true };
        answer(project, deadline, lookup.may_have_run(project, run.as_str())).await.unwrap_or(true)
    }
}

/// The time until which a call that starts now may ask about its project.
pub(crate) fn deadline() -> Instant {
    Instant::now() + LOOKUP_TIMEOUT
}

/// The answer to a question about quotas; `None` if there is no answer in time.
async fn answer<T>(
    project: &str,
    deadline: Instant,
    question: impl Future<Output = LookupResult<T>>,
) -> Option<T> {
    match timeout_at(deadline, question).await {
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
