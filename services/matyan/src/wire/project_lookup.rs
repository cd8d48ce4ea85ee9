//! Projects for a frontier in a process without a store, which asks a backend for them. An answer is used for
//! `LIFETIME`. A backend that does not answer delays few calls, by at most `ANSWER_TIMEOUT` each: of the calls about
//! one project, only one asks, and calls that can use an older answer do not wait for it. A backend that was just away
//! is not asked at all. An error about one project does not mean that the backend is away.

use std::{
    collections::HashMap,
    error::Error as StdError,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use matyan_access::{DatedMap, DatedValue, MAX_OUTAGE, Outage};
use matyan_frontier::ProjectLookup;
use matyan_proto::{
    access::v1::ResolveProjectResponse,
    project::v1::{ExceededQuota, GetRequest, project_service_client::ProjectServiceClient},
};
use matyan_wire::headers::PROJECT;
use parking_lot::Mutex;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};

use super::resolver::{CALL_TIMEOUT, Resolver};

type LookupResult<T> = Result<T, Box<dyn StdError + Send + Sync>>;

/// Time for which an answer is used.
const LIFETIME: Duration = Duration::from_secs(30);

/// Maximum number of answers that are kept. Names come from outside.
const MAX_ANSWERS: usize = 10_000;

/// A backend that knows projects and their runs.
#[async_trait]
trait ProjectSource: Send + Sync {
    /// Answers about a project, and about one of its runs if the id is not empty.
    async fn find(&self, name: &str, run_id: &str) -> Result<ResolveProjectResponse, Status>;
}

/// A backend without access control, which answers everyone.
struct OpenBackend(ProjectServiceClient<Channel>);

#[async_trait]
impl ProjectSource for OpenBackend {
    async fn find(&self, name: &str, run_id: &str) -> Result<ResolveProjectResponse, Status> {
        let mut request = Request::new(GetRequest { run_id: run_id.to_owned() });
        request.set_timeout(CALL_TIMEOUT);
        if !name.is_empty() {
            let Ok(project) = name.parse() else { return Ok(ResolveProjectResponse::default()) };
            request.metadata_mut().insert(PROJECT, project);
        }
        match self.0.clone().get(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let exceeded_quota = answer.exceeded_quota;
                Ok(ResolveProjectResponse { exists: true, exceeded_quota, has_run: answer.has_run })
            }
            Err(status) if status.code() == Code::NotFound => Ok(ResolveProjectResponse::default()),
            Err(status) => Err(status),
        }
    }
}

/// A backend with access control, which answers its own processes.
#[async_trait]
impl ProjectSource for Resolver {
    async fn find(&self, name: &str, run_id: &str) -> Result<ResolveProjectResponse, Status> {
        self.find_project(name, run_id).await
    }
}

/// Projects of a backend. While the backend is away, projects that it had continue to be accepted, with access control
/// for at most `MAX_OUTAGE`, and refused if they had used up a quota.
pub(crate) struct RemoteProjects {
    source: Box<dyn ProjectSource>,
    /// Time for which a project is accepted while the backend is away; `None`: for ever.
    max_outage: Option<Duration>,
    answers: DatedMap<String, Answer>,
    questions: Questions,
    outage: Outage,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Answer {
    exists: bool,
    exceeded_quota: Option<ExceededQuota>,
}

impl Answer {
    /// The assumption about the default project, which always exists, if there is no answer.
    const OF_DEFAULT_PROJECT: Self = Self { exists: true, exceeded_quota: None };
}

fn is_recent(answer: &DatedValue<Answer>) -> bool {
    answer.is_younger_than(LIFETIME)
}

/// The turn to ask about a project.
type Turn = AsyncMutex<()>;

/// The turns of the projects that the backend is being asked about.
#[derive(Default)]
struct Questions(Mutex<HashMap<String, Weak<Turn>>>);

impl Questions {
    fn turn(&self, name: &str) -> Arc<Turn> {
        let mut turns = self.0.lock();
        if let Some(turn) = turns.get(name).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::<Turn>::default();
        turns.insert(name.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

impl RemoteProjects {
    /// The projects that a backend without access control has. Does not connect: the backend may start later.
    pub(crate) fn open(backend: &Endpoint) -> Self {
        let channel = backend.clone().connect_timeout(CALL_TIMEOUT).connect_lazy();
        Self::new(Box::new(OpenBackend(ProjectServiceClient::new(channel))), None)
    }

    /// The projects that a backend with access control has. They are accepted for as long as the data of
    /// known callers.
    pub(crate) fn closed(resolver: Resolver) -> Self {
        Self::new(Box::new(resolver), Some(MAX_OUTAGE))
    }

    fn new(source: Box<dyn ProjectSource>, max_outage: Option<Duration>) -> Self {
        let answers = DatedMap::new(MAX_ANSWERS);
        Self { source, max_outage, answers, questions: Questions::default(), outage: Outage::default() }
    }

    /// The answer of the backend about a project, or an answer that can be used in its place.
    async fn find(&self, name: &str) -> Result<Answer, Status> {
        let known = self.answers.get(name);
        if let Some(known) = known.filter(is_recent) {
            return Ok(known.value);
        }
        let turn = self.questions.turn(name);
        let _asking = match turn.try_lock() {
            Ok(asking) => asking,
            Err(_) => match self.older_answer(name, known) {
                Some(answer) => return Ok(answer),
                None => turn.lock().await,
            },
        };
        // Another call may have asked in the meantime.
        let known = self.answers.get(name);
        if let Some(known) = known.filter(is_recent) {
            return Ok(known.value);
        }
        let at = Instant::now();
        match self.ask(name, "").await {
            Ok(answer) => {
                let answer = Answer { exists: answer.exists, exceeded_quota: answer.exceeded_quota };
                self.keep(name, DatedValue { value: answer, at });
                Ok(answer)
            }
            Err(error) => {
                let older = self.older_answer(name, known);
                older.or_else(|| name.is_empty().then_some(Answer::OF_DEFAULT_PROJECT)).ok_or(error)
            }
        }
    }

    /// Asks the backend, unless it was just away.
    async fn ask(&self, name: &str, run_id: &str) -> Result<ResolveProjectResponse, Status> {
        let silent = || Err(Status::deadline_exceeded("the backend does not answer"));
        let is_away = |answered: &Result<_, Status>| answered.as_ref().is_err_and(means_away);
        let answered = self.outage.ask(self.source.find(name, run_id), silent, is_away).await;
        let answered = answered.ok_or_else(|| Status::unavailable("the backend was away a moment ago"))?;
        if let Err(error) = &answered {
            tracing::warn!(project = name, %error, "failed to ask the backend about a project; using older answers");
        }
        answered
    }

    /// The answer that is used in place of a new one. Data for the default project is accepted while nothing is known of
    /// it and the backend is away.
    fn older_answer(&self, name: &str, known: Option<DatedValue<Answer>>) -> Option<Answer> {
        let may_serve =
            |known: &DatedValue<Answer>| self.max_outage.is_none_or(|max_age| known.is_younger_than(max_age));
        let known = known.filter(may_serve).map(|known| known.value).filter(|known| known.exists);
        known.or_else(|| (name.is_empty() && self.outage.is_away()).then_some(Answer::OF_DEFAULT_PROJECT))
    }

    /// Keeps an answer. Names without a project make room for others.
    fn keep(&self, name: &str, answer: DatedValue<Answer>) {
        self.answers.insert(name.to_owned(), answer, |kept| kept.value.exists && is_recent(kept));
    }
}

/// Whether a backend whose answer is this error is away. Other errors concern only the project in question.
fn means_away(error: &Status) -> bool {
    matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded)
}

#[async_trait]
impl ProjectLookup for RemoteProjects {
    async fn contains(&self, name: &str) -> LookupResult<bool> {
        Ok(self.find(name).await?.exists)
    }

    fn may_limit_runs(&self, _: &str) -> bool {
        // The settings of the backend are unknown here.
        true
    }

    async fn exceeded_quota(&self, name: &str) -> LookupResult<Option<ExceededQuota>> {
        Ok(self.find(name).await?.exceeded_quota)
    }

    async fn may_have_run(&self, project: &str, run_id: &str) -> LookupResult<bool> {
        // A failed question was reported, and a run about which nothing is known is accepted.
        Ok(self.ask(project, run_id).await.map_or(true, |answer| answer.has_run))
    }
}

#[cfg(test)]
mod tests;
