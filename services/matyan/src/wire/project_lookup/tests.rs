//! A frontier on an embedded log, and the backend that it asks about projects and callers, which goes away. Time passes
//! in jumps, and is real in between, so that nothing that connects, reads or writes is timed out.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicBool, Ordering},
};

use axum::body::Body;
use futures::future::join_all;
use matyan_access::{
    ANSWER_TIMEOUT, AccessToken, CallerCache, ProcessKey, Question, RETRY_INTERVAL, TokenDigest,
};
use matyan_blob::{LimitedBlobs, UploadLimits, UrlSigner, fs::FsBlobs};
use matyan_edge::{Edge, FrontierTransport, Metrics, Transport};
use matyan_frontier::{Deps, Frontier};
use matyan_log::{LogInspector as _, Topic, embedded::EmbeddedLog};
use matyan_proto::{
    access::v1::{
        PrincipalRole, ResolveCallerRequest, ResolveCallerResponse, ResolveProjectRequest,
        ResolveProjectResponse, ResolvedCaller, Role,
        resolve_service_server::{ResolveService, ResolveServiceServer},
    },
    ingest::v1::{
        AddTag, Event, IngestionBatch, PublishRequest, event::Kind,
        ingest_service_client::IngestServiceClient,
    },
    project::v1::QuotaKind,
};
use prometheus::Registry;
use prost::Message as _;
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{advance, pause, resume, sleep},
};
use tokio_util::sync::CancellationToken;
use tonic::{Response, service::Routes};
use tower::service_fn;

use super::*;
use crate::{
    settings::Secret,
    wire::{clock, local_frontier::LocalFrontier},
};

/// The secret that a frontier and its backend share.
const SECRET: &[u8] = b"secret";
const SPEECH: &str = "speech";

/// The address of a backend that is away.
const NOWHERE: &str = "http://127.0.0.1:1";

/// A backend of one project, and of one node that sends data to it. It answers processes that have the secret.
struct OneNode {
    token: TokenDigest,
    is_revoked: Arc<AtomicBool>,
}

#[async_trait]
impl ResolveService for OneNode {
    async fn resolve_caller(
        &self,
        request: Request<ResolveCallerRequest>,
    ) -> Result<Response<ResolveCallerResponse>, Status> {
        let ResolveCallerRequest { token_digest, signature } = request.into_inner();
        let digest = token_digest.map(|bytes| TokenDigest(<[u8; 32]>::try_from(&bytes[..]).unwrap()));
        assert!(ProcessKey::new(SECRET).verify(Question::Caller(digest.as_ref()), &signature));
        let is_known = digest == Some(self.token) && !self.is_revoked.load(Ordering::Relaxed);
        let role = Role::Ingest.into();
        let role = PrincipalRole { role, project: Some(SPEECH.to_owned()), ..Default::default() };
        let node = ResolvedCaller { principal: "node".to_owned(), roles: vec![role], ..Default::default() };
        Ok(Response::new(ResolveCallerResponse { caller: is_known.then_some(node) }))
    }

    async fn resolve_project(
        &self,
        request: Request<ResolveProjectRequest>,
    ) -> Result<Response<ResolveProjectResponse>, Status> {
        let ResolveProjectRequest { name, signature, .. } = request.into_inner();
        assert!(ProcessKey::new(SECRET).verify(Question::Project(&name), &signature));
        Ok(Response::new(ResolveProjectResponse { exists: name == SPEECH, ..Default::default() }))
    }
}

/// A frontier with access control and without a store, its log, and its backend.
struct ClosedFrontier {
    edge: Edge,
    log: Arc<EmbeddedLog>,
    /// The token of the node.
    token: AccessToken,
    is_revoked: Arc<AtomicBool>,
    backend: JoinHandle<()>,
    stop_backend: CancellationToken,
    _directory: TempDir,
}

impl ClosedFrontier {
    async fn start() -> Self {
        let token = AccessToken::generate(&mut rand::rng());
        let is_revoked = Arc::new(AtomicBool::default());
        let node = OneNode { token: token.digest(), is_revoked: is_revoked.clone() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let backend = Transport::new(Routes::new(ResolveServiceServer::new(node)).prepare());
        let backend = matyan_edge::query(Default::default(), metrics(), backend, None);
        let stop_backend = CancellationToken::new();
        let backend = tokio::spawn(matyan_edge::serve(listener, None, backend, stop_backend.clone()));

        let directory = tempfile::tempdir().unwrap();
        let (edge, log) = frontier(&directory, RemoteProjects::closed(resolver(&address))).await;
        let edge = edge.with_access(CallerCache::new(resolver(&address)));
        Self { edge, log, token, is_revoked, backend, stop_backend, _directory: directory }
    }

    /// Ends the backend, after which nothing listens at its address.
    async fn end_backend(&mut self) {
        self.stop_backend.cancel();
        (&mut self.backend).await.unwrap();
    }

    /// The status of a call that sends data with this token.
    async fn publish(&self, token: &AccessToken) -> Code {
        let kind = Some(Kind::AddTag(AddTag { name: "tag".to_owned() }));
        let batch =
            IngestionBatch { events: vec![Event { client_time_us: None, kind }], ..Default::default() };
        let batch = batch.encode_to_vec().into();
        let mut request =
            Request::new(PublishRequest { run_id: "run".to_owned(), batch, ..Default::default() });
        let authorization = format!("Bearer {}", token.reveal()).parse().unwrap();
        request.metadata_mut().insert("authorization", authorization);
        request.metadata_mut().insert(PROJECT, SPEECH.parse().unwrap());
        let edge = self.edge.clone();
        let port = service_fn(move |request: http::Request<tonic::body::Body>| {
            let edge = edge.clone();
            async move { Ok::<_, Infallible>(Box::pin(edge.answer(request.map(Body::new))).await) }
        });
        match IngestServiceClient::new(port).publish(request).await {
            Ok(_) => Code::Ok,
            Err(status) => status.code(),
        }
    }

    /// The answer to a request for the URL of an upload.
    async fn presign(&self) -> http::Response<Body> {
        let request = http::Request::post(format!("/p/{SPEECH}/api/v1/rest/artifacts/presign"))
            .header("host", "127.0.0.1")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.token.reveal()));
        let request = request.body(Body::from(r#"{"run_id": "run", "artifact_path": "a"}"#)).unwrap();
        Box::pin(self.edge.answer(request)).await
    }

    /// Number of records in the log.
    async fn records(&self) -> u64 {
        let topic = self.log.describe(Topic::Ingestion).await.unwrap();
        topic.partitions.iter().map(|partition| partition.end).sum()
    }
}

/// The port of a frontier with a log in this directory, and its log.
async fn frontier(directory: &TempDir, projects: RemoteProjects) -> (Edge, Arc<EmbeddedLog>) {
    let data_path = |name| directory.path().join(name);
    let log = Arc::new(EmbeddedLog::open(data_path("log"), Default::default()).await.unwrap());
    let signer = UrlSigner::new(SECRET, Duration::from_secs(60), clock::now_us());
    let blobs = FsBlobs::open(&data_path("blobs"), signer.clone(), clock::now_us()).unwrap();
    let frontier = Frontier::new(
        Deps {
            log: log.clone(),
            projects: Some(Arc::new(projects)),
            blobs: Arc::new(LimitedBlobs::directory(Arc::new(blobs), UploadLimits::default())),
            upload_signer: Some(signer),
            clock: clock::now_us(),
            new_id: clock::new_id(),
            metrics: matyan_frontier::Metrics::new(&Registry::new()).unwrap(),
        },
        Default::default(),
    );
    let routes = Routes::new(frontier.ingest_server()).add_service(frontier.system_server());
    let calls = Transport::new(routes.prepare());
    let frontier = FrontierTransport::new(calls, Arc::new(LocalFrontier(frontier)));
    (matyan_edge::ingest(Default::default(), metrics(), frontier, None), log)
}

fn metrics() -> Metrics {
    Metrics::register(&Registry::new()).unwrap()
}

fn resolver(backend: &str) -> Resolver {
    Resolver::new(&Endpoint::from_shared(backend.to_owned()).unwrap(), &Secret::new(SECRET))
}

fn answer(exists: bool, at: Instant) -> DatedValue<Answer> {
    DatedValue { value: Answer { exists, exceeded_quota: None }, at }
}

async fn pass(time: Duration) {
    pause();
    advance(time).await;
    resume();
}

#[tokio::test]
async fn rule_56_without_its_backend_a_frontier_takes_data_for_15_minutes_and_loses_none() {
    let mut frontier = ClosedFrontier::start().await;
    // The backend answers for the last time between these two moments.
    let before_answer = Instant::now();
    assert_eq!(frontier.publish(&frontier.token).await, Code::Ok);
    let after_answer = Instant::now();
    assert_eq!(frontier.presign().await.status(), 200);
    frontier.end_backend().await;
    let stranger = AccessToken::generate(&mut rand::rng());
    let mut acknowledged = 1;
    loop {
        pass(matyan_access::LIFETIME).await;
        let least_age = after_answer.elapsed();
        let code = frontier.publish(&frontier.token).await;
        let greatest_age = before_answer.elapsed();
        match code {
            Code::Ok => assert!(least_age < MAX_OUTAGE, "{least_age:?}"),
            Code::Unavailable => {
                assert!(greatest_age >= MAX_OUTAGE, "{greatest_age:?}");
                break;
            }
            other => panic!("{other:?} after {least_age:?}"),
        }
        acknowledged += 1;
        assert_eq!(frontier.publish(&stranger).await, Code::Unavailable, "it is not refused for good");
    }
    let refused = frontier.presign().await;
    assert_eq!(refused.status(), 503);
    assert!(!refused.headers().contains_key("www-authenticate"));
    assert_eq!(frontier.records().await, acknowledged, "each acknowledged call has added one record");
}

#[tokio::test]
async fn rule_55_a_frontier_refuses_a_token_that_its_backend_has_forgotten() {
    let frontier = ClosedFrontier::start().await;
    assert_eq!(frontier.publish(&frontier.token).await, Code::Ok);
    frontier.is_revoked.store(true, Ordering::Relaxed);
    // `caller_cache.rs` compares the sum of its times with the promised time.
    pass(matyan_access::LIFETIME).await;
    assert_eq!(frontier.publish(&frontier.token).await, Code::Unauthenticated);
    assert_eq!(frontier.records().await, 1);
}

#[tokio::test]
async fn rule_56_without_its_backend_a_frontier_knows_projects_no_longer_than_callers() {
    let known = || answer(true, Instant::now());
    let closed = RemoteProjects::closed(resolver(NOWHERE));
    let open = RemoteProjects::open(&Endpoint::from_static(NOWHERE));
    for projects in [&closed, &open] {
        projects.keep(SPEECH, known());
    }
    pass(MAX_OUTAGE / 2).await;
    assert!(closed.contains(SPEECH).await.unwrap());
    pass(MAX_OUTAGE / 2).await;
    closed.contains(SPEECH).await.unwrap_err();
    // Without access control nobody's rights have to be looked up.
    assert!(open.contains(SPEECH).await.unwrap());
}

#[tokio::test]
async fn without_its_backend_a_frontier_accepts_the_projects_that_it_knows() {
    let projects = RemoteProjects::open(&Endpoint::from_static(NOWHERE));
    assert!(!projects.contains("no\nproject").await.unwrap());
    let long_ago = Instant::now() - 2 * LIFETIME;
    projects.keep("known", answer(true, long_ago));
    projects.keep("deleted", answer(false, long_ago));
    projects.keep("recently deleted", answer(false, Instant::now()));
    assert!(projects.contains("known").await.unwrap());
    assert!(!projects.contains("recently deleted").await.unwrap());
    for unknown in ["deleted", "never seen"] {
        projects.contains(unknown).await.unwrap_err();
    }
}

#[tokio::test]
async fn rule_132_without_its_backend_a_frontier_uses_the_quotas_that_it_knows() {
    let projects = RemoteProjects::open(&Endpoint::from_static(NOWHERE));
    let exceeded = ExceededQuota { kind: QuotaKind::Bytes.into(), limit: 1, used: 1 };
    let at = Instant::now() - 2 * LIFETIME;
    let value = Answer { exists: true, exceeded_quota: Some(exceeded) };
    projects.keep("full", DatedValue { value, at });
    assert_eq!(projects.exceeded_quota("full").await.unwrap(), Some(exceeded));
    // A frontier that starts before its backend accepts data of the default project.
    assert_eq!(projects.exceeded_quota("").await.unwrap(), None);
    assert!(projects.may_have_run("full", "r").await.unwrap(), "nothing is known of the run");
}

#[tokio::test]
async fn answers_about_many_names_are_forgotten() {
    let projects = RemoteProjects::open(&Endpoint::from_static(NOWHERE));
    let kept = answer(true, Instant::now());
    projects.keep("kept", kept);
    for number in 0..2 * MAX_ANSWERS {
        projects.keep(&number.to_string(), answer(false, kept.at));
    }
    assert_eq!(projects.answers.get("kept"), Some(kept));
    assert!(projects.answers.count() <= MAX_ANSWERS);
}

#[tokio::test]
async fn without_its_backend_a_new_frontier_refuses_sockets_of_named_projects() {
    let directory = tempfile::tempdir().unwrap();
    let projects = RemoteProjects::open(&Endpoint::from_static(NOWHERE));
    let (edge, _log) = frontier(&directory, projects).await;
    let handshake = async |path: &str| {
        let request = http::Request::get(path)
            .header("host", "127.0.0.1")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let answer = Box::pin(edge.answer(request.body(Body::empty()).unwrap())).await;
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8_lossy(&body).into_owned())
    };
    let (status, text) = handshake("/p/speech/api/v1/ws/runs/run").await;
    assert!(status == 503 && text.contains("failed to look up the project"), "{status}: {text}");
    // The connection of a test cannot be upgraded, which shows only once the run is admitted.
    let (status, text) = handshake("/api/v1/ws/runs/run").await;
    assert_eq!(status, 400, "{text}");
}

/// A backend that has the project `SPEECH`, and counts the questions.
#[derive(Clone, Default)]
struct CountedSource(Arc<Mutex<SourceState>>);

#[derive(Default)]
struct SourceState {
    is_silent: bool,
    /// A project about which the backend answers with this code.
    broken: Option<(&'static str, Code)>,
    questions: u64,
}

#[async_trait]
impl ProjectSource for CountedSource {
    async fn find(&self, name: &str, _: &str) -> Result<ResolveProjectResponse, Status> {
        let is_silent = {
            let mut state = self.0.lock();
            state.questions += 1;
            if let Some((broken, code)) = state.broken
                && broken == name
            {
                return Err(Status::new(code, "broken"));
            }
            state.is_silent
        };
        if is_silent {
            std::future::pending::<()>().await;
        }
        sleep(ANSWER_TIMEOUT / 2).await;
        Ok(ResolveProjectResponse { exists: name == SPEECH, ..Default::default() })
    }
}

impl CountedSource {
    fn projects(&self) -> RemoteProjects {
        RemoteProjects::new(Box::new(self.clone()), None)
    }

    fn questions(&self) -> u64 {
        self.0.lock().questions
    }
}

/// Asks a hundred times at once whether a project exists.
async fn contains_for_all(projects: &RemoteProjects, name: &str) -> Vec<Option<bool>> {
    let calls = (0..100).map(|_| async { projects.contains(name).await.ok() });
    join_all(calls).await
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_an_answer_share_a_question() {
    let source = CountedSource::default();
    let projects = source.projects();
    assert_eq!(contains_for_all(&projects, SPEECH).await, [Some(true); 100]);
    assert_eq!(source.questions(), 1);
    assert_eq!(contains_for_all(&projects, "unknown").await, [Some(false); 100]);
    assert_eq!(source.questions(), 2);
    // An old answer is good enough while one call asks.
    advance(LIFETIME).await;
    assert_eq!(contains_for_all(&projects, SPEECH).await, [Some(true); 100]);
    assert_eq!(source.questions(), 3);
    assert_eq!(projects.questions.0.lock().len(), 1, "turns of other projects are forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_silent_backend_is_asked_by_one_call_at_a_time() {
    let source = CountedSource::default();
    let projects = source.projects();
    assert!(projects.contains(SPEECH).await.unwrap());
    source.0.lock().is_silent = true;
    advance(LIFETIME).await;
    let started = Instant::now();
    let before = source.questions();
    for _ in 0..100 {
        let asked = Instant::now();
        assert_eq!(contains_for_all(&projects, SPEECH).await, [Some(true); 100]);
        assert_eq!(contains_for_all(&projects, "unknown").await, [None; 100]);
        assert_eq!(projects.exceeded_quota("").await.unwrap(), None);
        assert!(projects.may_have_run(SPEECH, "run").await.unwrap());
        assert!(asked.elapsed() <= 2 * ANSWER_TIMEOUT, "{:?}", asked.elapsed());
        advance(RETRY_INTERVAL / 4).await;
    }
    let questions = source.questions() - before;
    let most = started.elapsed().as_secs() / (ANSWER_TIMEOUT + RETRY_INTERVAL).as_secs() + 1;
    assert!(questions > 1 && questions <= most, "{questions} questions in {:?}", started.elapsed());

    source.0.lock().is_silent = false;
    advance(RETRY_INTERVAL).await;
    assert_eq!(contains_for_all(&projects, "unknown").await, [Some(false); 100]);
    assert!(!projects.outage.is_away());
}

#[tokio::test(start_paused = true)]
async fn an_error_about_one_project_is_no_outage_of_the_backend() {
    for (code, is_away) in
        [(Code::Internal, false), (Code::Unavailable, true), (Code::DeadlineExceeded, true)]
    {
        let source = CountedSource::default();
        let projects = source.projects();
        source.0.lock().broken = Some(("broken", code));
        projects.contains("broken").await.unwrap_err();
        assert_eq!(projects.outage.is_away(), is_away, "{code:?}");
        assert_eq!(projects.contains(SPEECH).await.ok(), (!is_away).then_some(true), "{code:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_132_a_backend_that_never_answers_delays_a_call_by_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let accepting = tokio::spawn(async move {
        let mut connections = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            connections.push(connection);
        }
    });
    let projects = RemoteProjects::open(&Endpoint::from_shared(address).unwrap());
    projects.keep(SPEECH, answer(true, Instant::now()));
    advance(LIFETIME).await;
    let asked = Instant::now();
    assert!(projects.contains(SPEECH).await.unwrap());
    assert!(asked.elapsed() <= 2 * ANSWER_TIMEOUT, "{:?}", asked.elapsed());
    // No other call waits for it.
    let asked = Instant::now();
    assert!(projects.contains(SPEECH).await.unwrap());
    assert_eq!(projects.exceeded_quota("").await.unwrap(), None);
    projects.contains("unknown").await.unwrap_err();
    assert_eq!(asked.elapsed(), Duration::ZERO);
    accepting.abort();
}
