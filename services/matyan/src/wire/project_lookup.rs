//! Projects for a frontier: those in the store or, in a process without a store, those that a backend
//! reports.

use std::{collections::HashMap, error::Error as StdError, sync::Arc, time::Duration};

use async_trait::async_trait;
use matyan_access::MAX_OUTAGE;
use matyan_frontier::ProjectLookup;
use matyan_model::{
    ids::{NamedProject, RunId},
    project::project_find,
    project_quota::ProjectQuotas,
    run::head_get,
};
use matyan_proto::{
    access::v1::ResolveProjectResponse,
    project::v1::{ExceededQuota, GetRequest, project_service_client::ProjectServiceClient},
};
use matyan_store::Store;
use matyan_wire::headers::PROJECT;
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};

use super::resolver::{CALL_TIMEOUT, Resolver};

type LookupResult<T> = Result<T, Box<dyn StdError + Send + Sync>>;

pub(crate) struct StoredProjects {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) quotas: Arc<ProjectQuotas>,
}

#[async_trait]
impl ProjectLookup for StoredProjects {
    async fn contains(&self, name: &str) -> LookupResult<bool> {
        let snapshot = self.store.snapshot().await?;
        Ok(project_find(snapshot.as_ref(), name).await?.is_some())
    }

    async fn exceeded_quota(&self, name: &str) -> LookupResult<Option<ExceededQuota>> {
        // Without quotas, data is accepted without a look at the store.
        if self.quotas.is_unlimited(name) {
            return Ok(None);
        }
        let snapshot = self.store.snapshot().await?;
        let Some(number) = project_find(snapshot.as_ref(), name).await? else { return Ok(None) };
        let project = NamedProject { number, name: name.to_owned() };
        Ok(self.quotas.exceeded(snapshot.as_ref(), &project).await?)
    }

    async fn has_run(&self, project: &str, run_id: &str) -> LookupResult<bool> {
        let snapshot = self.store.snapshot().await?;
        let Some(number) = project_find(snapshot.as_ref(), project).await? else { return Ok(false) };
        Ok(head_get(snapshot.as_ref(), number, &RunId::new(run_id)).await?.is_some())
    }
}

/// Time for which an answer is used.
const LIFETIME: Duration = Duration::from_secs(30);
/// Maximum number of answers that are kept. Names come from outside.
const MAX_ANSWERS: usize = 10_000;

/// Projects of a backend. Answers are used for `LIFETIME`; while the backend is unreachable,
/// projects that it had continue to be accepted, with access control for at most `MAX_OUTAGE`, and refused if
/// they had used up a quota.
pub(crate) struct RemoteProjects {
    backend: RemoteBackend,
    answers: Mutex<HashMap<String, Answer>>,
}

enum RemoteBackend {
    /// Answers everyone.
    Open(ProjectServiceClient<Channel>),
    /// Answers its own processes.
    Closed(Resolver),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Answer {
    exists: bool,
    exceeded_quota: Option<ExceededQuota>,
    at: Instant,
}

impl Answer {
    fn new(answer: ResolveProjectResponse) -> Self {
        Self { exists: answer.exists, exceeded_quota: answer.exceeded_quota, at: Instant::now() }
    }

    /// The assumption about the default project, which always exists, without an answer.
    fn of_default_project() -> Self {
        Self { exists: true, exceeded_quota: None, at: Instant::now() }
    }
}

impl RemoteProjects {
    /// The projects that a backend without access control has. Does not connect: the backend may start later.
    pub(crate) fn open(backend: &Endpoint) -> Self {
        let channel = backend.clone().connect_timeout(CALL_TIMEOUT).connect_lazy();
        Self::new(RemoteBackend::Open(ProjectServiceClient::new(channel)))
    }

    /// The projects that a backend with access control has.
    pub(crate) fn closed(resolver: Resolver) -> Self {
        Self::new(RemoteBackend::Closed(resolver))
    }

    fn new(backend: RemoteBackend) -> Self {
        Self { backend, answers: Mutex::default() }
    }

    /// Asks the backend about a project, and about one of its runs if the id is not empty.
    async fn ask(&self, name: &str, run_id: &str) -> Result<ResolveProjectResponse, Status> {
        let backend = match &self.backend {
            RemoteBackend::Open(backend) => backend,
            RemoteBackend::Closed(resolver) => return resolver.find_project(name, run_id).await,
        };
        let mut request = Request::new(GetRequest { run_id: run_id.to_owned() });
        request.set_timeout(CALL_TIMEOUT);
        if !name.is_empty() {
            let Ok(project) = name.parse() else { return Ok(ResolveProjectResponse::default()) };
            request.metadata_mut().insert(PROJECT, project);
        }
        match backend.clone().get(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let exceeded_quota = answer.exceeded_quota;
                Ok(ResolveProjectResponse { exists: true, exceeded_quota, has_run: answer.has_run })
            }
            Err(status) if status.code() == Code::NotFound => Ok(ResolveProjectResponse::default()),
            Err(status) => Err(status),
        }
    }

    /// The answer of the backend about a project, or a recent one.
    async fn find(&self, name: &str) -> Result<Answer, Status> {
        let known = self.answer(name);
        if let Some(known) = known.filter(|known| known.at.elapsed() < LIFETIME) {
            return Ok(known);
        }
        let answer = match (self.ask(name, "").await, known) {
            (Ok(answer), _) => Answer::new(answer),
            (Err(error), Some(known)) if self.is_accepted(known) => {
                tracing::warn!(project = name, %error, "failed to look up a project; using the last answer");
                return Ok(known);
            }
            (Err(error), _) if name.is_empty() => {
                tracing::warn!(%error, "failed to look up the quotas of the default project; accepting data for it");
                Answer::of_default_project()
            }
            (Err(error), _) => return Err(error),
        };
        self.keep(name, answer);
        Ok(answer)
    }

    /// Whether data for this project is accepted although the backend cannot be asked. With access control it is accepted
    /// as long as the data of known callers.
    fn is_accepted(&self, known: Answer) -> bool {
        let is_recent = match self.backend {
            RemoteBackend::Open(_) => true,
            RemoteBackend::Closed(_) => known.at.elapsed() < MAX_OUTAGE,
        };
        known.exists && is_recent
    }

    fn answer(&self, name: &str) -> Option<Answer> {
        self.answers.lock().get(name).copied()
    }

    fn keep(&self, name: &str, answer: Answer) {
        let mut answers = self.answers.lock();
        if answers.len() >= MAX_ANSWERS {
            answers.retain(|_, kept| kept.exists && kept.at.elapsed() < LIFETIME);
            if answers.len() >= MAX_ANSWERS {
                answers.clear();
            }
        }
        answers.insert(name.to_owned(), answer);
    }
}

#[async_trait]
impl ProjectLookup for RemoteProjects {
    async fn contains(&self, name: &str) -> LookupResult<bool> {
        Ok(self.find(name).await?.exists)
    }

    async fn exceeded_quota(&self, name: &str) -> LookupResult<Option<ExceededQuota>> {
        Ok(self.find(name).await?.exceeded_quota)
    }

    async fn has_run(&self, project: &str, run_id: &str) -> LookupResult<bool> {
        Ok(self.ask(project, run_id).await?.has_run)
    }
}

#[cfg(test)]
mod tests;
