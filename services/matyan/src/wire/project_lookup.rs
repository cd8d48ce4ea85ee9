//! Projects for a frontier: those in the store or, in a process without a store, those that a backend
//! reports.

use std::{collections::HashMap, error::Error as StdError, sync::Arc, time::Duration};

use async_trait::async_trait;
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
/// projects that it had continue to be accepted, and refused if they had used up a quota.
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
            (Err(error), Some(known)) if known.exists => {
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
mod tests {
    use matyan_proto::project::v1::QuotaKind;

    use super::*;

    fn names() -> RemoteProjects {
        RemoteProjects::open(&Endpoint::from_static("http://127.0.0.1:1"))
    }

    fn answer(exists: bool, at: Instant) -> Answer {
        Answer { exists, exceeded_quota: None, at }
    }

    #[tokio::test]
    async fn without_its_backend_a_frontier_accepts_the_projects_that_it_knows() {
        let names = names();
        let long_ago = Instant::now() - 2 * LIFETIME;
        names.keep("known", answer(true, long_ago));
        names.keep("deleted", answer(false, long_ago));
        names.keep("recently deleted", answer(false, Instant::now()));
        assert!(names.contains("known").await.unwrap());
        assert!(!names.contains("recently deleted").await.unwrap());
        for unknown in ["deleted", "never seen"] {
            names.contains(unknown).await.unwrap_err();
        }
        assert!(!names.contains("no\nproject").await.unwrap());
    }

    #[tokio::test]
    async fn rule_132_without_its_backend_a_frontier_uses_the_quotas_that_it_knows() {
        let names = names();
        let exceeded = ExceededQuota { kind: QuotaKind::Bytes.into(), limit: 1, used: 1 };
        let at = Instant::now() - 2 * LIFETIME;
        names.keep("full", Answer { exists: true, exceeded_quota: Some(exceeded), at });
        assert_eq!(names.exceeded_quota("full").await.unwrap(), Some(exceeded));
        // A frontier that starts before its backend accepts data of the default project.
        assert_eq!(names.exceeded_quota("").await.unwrap(), None);
        assert!(names.answer("").is_some(), "not everyone waits for the backend");
        names.has_run("full", "r").await.unwrap_err();
    }

    #[tokio::test]
    async fn answers_about_many_names_are_forgotten() {
        let names = names();
        let kept = answer(true, Instant::now());
        names.keep("kept", kept);
        for number in 0..2 * MAX_ANSWERS {
            names.keep(&number.to_string(), answer(false, kept.at));
        }
        assert_eq!(names.answer("kept"), Some(kept));
        assert!(names.answers.lock().len() <= MAX_ANSWERS);
    }
}
