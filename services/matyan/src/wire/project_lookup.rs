//! The names of projects: the names in the store or, in a process without a store, the names that a
//! backend reports to a frontier.

use std::{collections::HashMap, error::Error as StdError, sync::Arc, time::Duration};

use async_trait::async_trait;
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
/// projects that it had continue to be accepted.
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
            Err(error) if known.is_some_and(|known| known.exists) => {
                tracing::warn!(project = name, %error, "failed to look up a project; accepting data for it, as before");
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_its_backend_a_frontier_accepts_the_projects_that_it_knows() {
        let names = RemoteProjects::open(&Endpoint::from_static("http://127.0.0.1:1"));
        let long_ago = Instant::now() - 2 * LIFETIME;
        names.keep("known", Answer { exists: true, at: long_ago });
        names.keep("deleted", Answer { exists: false, at: long_ago });
        names.keep("recently deleted", Answer { exists: false, at: Instant::now() });
        assert!(names.contains("known").await.unwrap());
        assert!(!names.contains("recently deleted").await.unwrap());
        for unknown in ["deleted", "never seen"] {
            names.contains(unknown).await.unwrap_err();
        }
        assert!(!names.contains("no\nproject").await.unwrap());
    }

    #[tokio::test]
    async fn answers_about_many_names_are_forgotten() {
        let names = RemoteProjects::open(&Endpoint::from_static("http://127.0.0.1:1"));
        let at = Instant::now();
        names.keep("kept", Answer { exists: true, at });
        for number in 0..2 * MAX_ANSWERS {
            names.keep(&number.to_string(), Answer { exists: false, at });
        }
        assert_eq!(names.answer("kept"), Some(Answer { exists: true, at }));
        assert!(names.answers.lock().len() <= MAX_ANSWERS);
    }
}
