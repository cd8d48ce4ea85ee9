//! The names of projects: the names in the store or, in a process without a store, the names that a
//! backend reports to a frontier.

use std::{collections::HashMap, error::Error as StdError, sync::Arc, time::Duration};

use async_trait::async_trait;
use matyan_access::MAX_OUTAGE;
use matyan_frontier::ProjectNames;
use matyan_model::project::project_find;
use matyan_proto::project::v1::{GetRequest, project_service_client::ProjectServiceClient};
use matyan_store::Store;
use matyan_wire::headers::PROJECT;
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};

use super::resolver::{CALL_TIMEOUT, Resolver};

type BoxError = Box<dyn StdError + Send + Sync>;

pub(crate) struct StoredProjects(pub(crate) Arc<dyn Store>);

#[async_trait]
impl ProjectNames for StoredProjects {
    async fn contains(&self, name: &str) -> Result<bool, BoxError> {
        let snapshot = self.0.snapshot().await?;
        Ok(project_find(snapshot.as_ref(), name).await?.is_some())
    }
}

/// Time for which an answer is used.
const LIFETIME: Duration = Duration::from_secs(30);
/// Maximum number of answers that are kept. Names come from outside.
const MAX_ANSWERS: usize = 10_000;

/// Projects of a backend. Answers are used for `LIFETIME`; while the backend is unreachable,
/// projects that it had continue to be accepted, with access control for at most `MAX_OUTAGE`.
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    exists: bool,
    at: Instant,
}

impl RemoteProjects {
    /// The names that a backend without access control has. Does not connect: the backend may start later.
    pub(crate) fn open(backend: &Endpoint) -> Self {
        let channel = backend.clone().connect_timeout(CALL_TIMEOUT).connect_lazy();
        Self::new(RemoteBackend::Open(ProjectServiceClient::new(channel)))
    }

    /// The names that a backend with access control has.
    pub(crate) fn closed(resolver: Resolver) -> Self {
        Self::new(RemoteBackend::Closed(resolver))
    }

    fn new(backend: RemoteBackend) -> Self {
        Self { backend, answers: Mutex::default() }
    }

    async fn ask(&self, name: &str) -> Result<bool, Status> {
        let backend = match &self.backend {
            RemoteBackend::Open(backend) => backend,
            RemoteBackend::Closed(resolver) => return resolver.has_project(name).await,
        };
        let mut request = Request::new(GetRequest::default());
        request.set_timeout(CALL_TIMEOUT);
        let Ok(project) = name.parse() else { return Ok(false) };
        request.metadata_mut().insert(PROJECT, project);
        match backend.clone().get(request).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(status),
        }
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
impl ProjectNames for RemoteProjects {
    async fn contains(&self, name: &str) -> Result<bool, BoxError> {
        let known = self.answer(name);
        if let Some(known) = known.filter(|known| known.at.elapsed() < LIFETIME) {
            return Ok(known.exists);
        }
        match self.ask(name).await {
            Ok(exists) => {
                self.keep(name, Answer { exists, at: Instant::now() });
                Ok(exists)
            }
            Err(error) if known.is_some_and(|known| self.is_accepted(known)) => {
                tracing::warn!(project = name, %error, "failed to look up a project; accepting data for it, as before");
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
