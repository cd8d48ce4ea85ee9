//! Access control: every rpc, REST operation and socket, by every kind of caller, in projects of its own
//! and of others. The rpcs come from the descriptors, so that a new one is included by itself.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use futures::StreamExt;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use matyan_access::{
    AccessEvent, AccessObserver, AccessToken, Caller, CallerCache, CallerRights, CallerSource, LIFETIME,
    LookupError, MAX_OUTAGE, REVOCATION_TIME, Role, TokenDigest, TokenLimits,
};
use matyan_edge::{Edge, Metrics, Settings, Transport};
use matyan_proto::accesses;
use matyan_proto::common::v1::Access;
use matyan_proto::live::v1::SubscribeResponse;
use matyan_proto::runs::v1::WatchResponse;
use prost::Message;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::{Instant, advance, pause};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message as SocketMessage};
use tonic::{Code, Status};

use super::backend::Backend;
use super::projects::{Calls, Recorder};
use super::server::Server;
use super::sessions::SessionsAndRecorder;

pub(super) const OWN: &str = "speech";
/// Projects that exist for the services, or not. Their names have the same length, so that answers
/// about them can be compared.
const OTHER: &str = "vision";
const UNKNOWN: &str = "nobody";

/// Start of the paths of the calls that start and end sessions.
const SIGN_IN: &str = "/matyan.access.v1.SignInService/";

/// A caller of the tests, and the roles that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tester {
    Anonymous,
    /// Has a token that no one knows.
    Stranger,
    In(&'static str, Role),
    Operator,
    Monitor,
}

const TESTERS: [Tester; 10] = [
    Tester::Anonymous,
    Tester::Stranger,
    Tester::In(OWN, Role::Ingest),
    Tester::In(OWN, Role::Viewer),
    Tester::In(OWN, Role::Writer),
    Tester::In(OWN, Role::Editor),
    Tester::In(OWN, Role::Owner),
    Tester::In("elsewhere", Role::Owner),
    Tester::Operator,
    Tester::Monitor,
];

impl Tester {
    pub(super) fn token(self) -> Option<AccessToken> {
        let index = TESTERS.iter().position(|it| *it == self).unwrap();
        (self != Self::Anonymous).then(|| AccessToken::generate(&mut StdRng::seed_from_u64(index as u64)))
    }

    pub(super) fn with_token(digest: &TokenDigest) -> Option<Self> {
        let has_token = |it: &Self| it.token().is_some_and(|token| token.digest() == *digest);
        TESTERS.into_iter().find(has_token)
    }

    fn caller(self) -> Option<Caller> {
        let mut rights = CallerRights::default();
        match self {
            Self::Anonymous => return Some(Caller::anonymous(rights)),
            Self::Stranger => return None,
            Self::In(project, role) => rights.grant_in(project, role),
            Self::Operator => rights.grant_everywhere(Role::Operator),
            Self::Monitor => rights.grant_everywhere(Role::Monitor),
        }
        Some(Caller::new("service:test", rights))
    }

    fn has_role(self, project: &str) -> Option<Role> {
        match self {
            Self::In(own, role) if own == project => Some(role),
            _ => None,
        }
    }

    /// The status of a call that needs this right; `None` if it reaches its service. This table repeats the
    /// rules, so that a change of the rules fails here.
    fn expected(self, access: Access, project: &str) -> Option<Code> {
        use Access::{Edit, Ingest, Manage, Operate, Public, Read, Signed};
        let permits: &[Access] = match self.has_role(project) {
            None | Some(Role::Monitor) => &[],
            Some(Role::Ingest) => &[Ingest],
            Some(Role::Viewer) => &[Read],
            Some(Role::Writer) => &[Read, Ingest],
            Some(Role::Editor) => &[Read, Ingest, Edit],
            Some(Role::Owner | Role::Operator) => &[Read, Ingest, Edit, Manage],
        };
        match (self, access) {
            (Self::Stranger, _) => Some(Code::Unauthenticated),
            (Self::Operator, _) | (_, Public | Signed) => None,
            (Self::Anonymous, _) => Some(Code::Unauthenticated),
            (_, Operate) => Some(Code::PermissionDenied),
            (_, Access::Caller) if !permits.is_empty() => None,
            _ if permits.contains(&access) => None,
            _ if permits.is_empty() => Some(Code::NotFound),
            _ => Some(Code::PermissionDenied),
        }
    }
}

/// Knows the callers of the tests, until their tokens are revoked.
#[derive(Clone, Default)]
pub(super) struct TestCallers(pub(super) Arc<Mutex<CallerState>>);

#[derive(Default)]
pub(super) struct CallerState {
    pub(super) is_away: bool,
    pub(super) is_revoked: bool,
    pub(super) sessions: HashMap<TokenDigest, Tester>,
    /// Whether no session can be ended.
    pub(super) ends_nothing: bool,
    /// Number of sessions that were ever started.
    pub(super) started: u64,
    pub(super) is_link_used: bool,
    /// Whether each program was allowed its token.
    pub(super) answered_logins: Vec<bool>,
    /// The page to which a browser returns after it has signed in with a provider, and the page that follows.
    pub(super) begun: Option<(String, String)>,
    /// Sign-ins with a provider by state: what the browser keeps, and the page that follows.
    pub(super) pending: HashMap<String, (String, String)>,
}

#[async_trait]
impl CallerSource for TestCallers {
    async fn find(&self, token: Option<&TokenDigest>) -> Result<Option<Caller>, LookupError> {
        let state = self.0.lock().unwrap();
        if state.is_away {
            return Err("away".into());
        }
        let tester = match token {
            None => Some(Tester::Anonymous),
            Some(token) => state.sessions.get(token).copied().or_else(|| Tester::with_token(token)),
        };
        Ok(tester.filter(|_| !state.is_revoked).and_then(Tester::caller))
    }
}

/// An edge whose services record calls.
fn closed() -> (Edge, Calls, TestCallers) {
    closed_with(Settings::default())
}

pub(super) fn closed_with(settings: Settings) -> (Edge, Calls, TestCallers) {
    let recorder = Recorder::default();
    let calls = recorder.calls();
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let frontier = recorder.frontier();
    let callers = TestCallers::default();
    let backend = Transport::new(SessionsAndRecorder::new(callers.clone(), recorder));
    let edge = matyan_edge::query(settings, metrics, backend, Some(frontier));
    (edge.with_access(CallerCache::new(callers.clone())), calls, callers)
}

pub(super) fn grpc_call(path: &str, tester: Tester, project: &str, content_type: &str) -> Request<Body> {
    let request = Request::post(path).header("content-type", content_type).header("matyan-project", project);
    // Native gRPC needs it.
    let request = request.version(http::Version::HTTP_2);
    with_token(request, tester).body(Body::from(vec![0; 5])).unwrap()
}

fn with_token(request: http::request::Builder, tester: Tester) -> http::request::Builder {
    match tester.token() {
        Some(token) => request.header("authorization", format!("Bearer {}", token.reveal())),
        None => request,
    }
}

/// The status of a response, and all of it as text, with the names of foreign projects replaced.
async fn read_answer(edge: &Edge, request: Request<Body>) -> (Option<Code>, String) {
    let response = edge.answer(request).await;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    let status = [&parts.headers, &trailers].into_iter().find_map(Status::from_header_map);
    let mut text = format!("{}\n", parts.status);
    for (name, value) in parts.headers.iter().chain(&trailers) {
        let value = match name.as_str() {
            "x-request-id" => continue,
            "grpc-status-details-bin" => {
                let details = STANDARD_NO_PAD.decode(value.as_bytes()).unwrap();
                let mut details = String::from_utf8_lossy(&details).replace(OTHER, UNKNOWN).into_bytes();
                // The entries of a map are in a random order.
                details.sort_unstable();
                details
            }
            _ => value.as_bytes().to_vec(),
        };
        text += &format!("{name}: {}\n", String::from_utf8_lossy(&value));
    }
    text += &String::from_utf8_lossy(&body.to_bytes());
    (status.map(|it| it.code()), text.replace(OTHER, UNKNOWN))
}

#[tokio::test]
async fn rule_54_every_rpc_is_permitted_by_its_right_alone() {
    let (edge, calls, _) = closed();
    let mut checked = 0;
    let reachable = || accesses::ALL.iter().filter(|(path, _)| !path.starts_with(SIGN_IN));
    for (path, access) in reachable() {
        for tester in TESTERS {
            let mut answers = BTreeSet::new();
            for project in [OWN, OTHER, UNKNOWN] {
                for content_type in ["application/grpc", "application/grpc-web+proto"] {
                    let (code, text) =
                        read_answer(&edge, grpc_call(path, tester, project, content_type)).await;
                    let reached: Vec<_> = calls.lock().unwrap().drain(..).collect();
                    match tester.expected(*access, project) {
                        None => assert_eq!(
                            reached,
                            [((*path).to_owned(), Some(project.to_owned()))],
                            "{tester:?} {project} {text}"
                        ),
                        Some(expected) => {
                            let status = format!("grpc-status:{}", expected as i32);
                            let is_refused =
                                code == Some(expected) || text.replace(": ", ":").contains(&status);
                            assert!(is_refused, "{path} {tester:?} {project} {expected:?}: {text}");
                            assert_eq!(reached, [], "{path} {tester:?} {project}");
                        }
                    }
                    if project != OWN && content_type == "application/grpc" {
                        answers.insert(text);
                    }
                    checked += 1;
                }
            }
            assert_eq!(answers.len(), 1, "{path} {tester:?}: {answers:?}");
        }
    }
    assert_eq!(checked, reachable().count() * TESTERS.len() * 6);
}

/// Only the pages for signing in make these calls.
#[tokio::test]
async fn rule_82_nobody_starts_a_session_from_outside() {
    let (edge, _, callers) = closed();
    let mut refused = 0;
    for (path, _) in accesses::ALL.iter().filter(|(path, _)| path.starts_with(SIGN_IN)) {
        for tester in [Tester::Anonymous, Tester::Operator] {
            for content_type in ["application/grpc", "application/grpc-web+proto"] {
                let (code, text) = read_answer(&edge, grpc_call(path, tester, OWN, content_type)).await;
                let is_refused = code == Some(Code::Unimplemented)
                    || text
                        .replace(": ", ":")
                        .contains(&format!("grpc-status:{}", Code::Unimplemented as i32));
                assert!(is_refused, "{path} {tester:?}: {text}");
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 8 * 4);
    assert!(callers.0.lock().unwrap().sessions.is_empty());
}

#[tokio::test]
async fn methods_that_do_not_exist_reach_no_service() {
    let (edge, calls, _) = closed();
    for path in
        ["/matyan.runs.v1.RunService/Guess", "/matyan.ingest.v1.Guess/Stream", "/grpc.health.v1.Health/Guess"]
    {
        for (tester, expected) in
            [(Tester::Anonymous, Code::Unauthenticated), (Tester::Operator, Code::Unimplemented)]
        {
            let (code, text) = read_answer(&edge, grpc_call(path, tester, OWN, "application/grpc")).await;
            assert_eq!(code, Some(expected), "{path} {text}");
        }
    }
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let (code, _) =
        read_answer(&edge, grpc_call(reflection, Tester::Anonymous, "", "application/grpc")).await;
    assert_eq!(code, Some(Code::Unauthenticated));
    assert!(calls.lock().unwrap().is_empty());
}

/// The operations of the REST API, with a value for each parameter of their paths.
async fn operations(edge: &Edge) -> Vec<(String, String)> {
    operations_with_rights(edge).await.into_iter().map(|(method, path, _)| (method, path)).collect()
}

/// The operations of the REST API, each with the right that it declares.
async fn operations_with_rights(edge: &Edge) -> Vec<(String, String, String)> {
    let request = with_token(Request::get("/openapi.json"), Tester::Operator).body(Body::empty()).unwrap();
    let description = edge.answer(request).await.into_body().collect().await.unwrap().to_bytes();
    let description: serde_json::Value = serde_json::from_slice(&description).unwrap();
    let mut operations = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        let path: Vec<&str> = path.split('/').map(|it| if it.starts_with('{') { "x" } else { it }).collect();
        for (method, operation) in methods.as_object().unwrap() {
            let right = operation["x-matyan-access"].as_str().unwrap().to_owned();
            operations.push((method.to_uppercase(), path.join("/"), right));
        }
    }
    operations
}

#[tokio::test]
async fn rule_54_few_operations_are_open_to_everyone() {
    let (edge, calls, _) = closed();
    let mut open = Vec::new();
    for (method, path) in operations(&edge).await {
        for (tester, project) in [
            (Tester::Anonymous, ""),
            (Tester::Stranger, ""),
            (Tester::In("elsewhere", Role::Owner), "/p/vision"),
        ] {
            let request = Request::builder().method(method.as_str()).uri(format!("{project}{path}"));
            let request = with_token(request, tester).body(Body::from("{}")).unwrap();
            let response = edge.answer(request).await;
            let status = response.status();
            let reached = calls.lock().unwrap().drain(..).count();
            match tester {
                Tester::Anonymous if status != StatusCode::UNAUTHORIZED => {
                    open.push(format!("{method} {path}"))
                }
                Tester::Anonymous | Tester::Stranger => {
                    assert_eq!((status, reached), (StatusCode::UNAUTHORIZED, 0), "{method} {path}");
                    assert_eq!(response.headers()["www-authenticate"], "Bearer");
                }
                _ if open.contains(&format!("{method} {path}")) => {}
                _ => {
                    let refused = [StatusCode::NOT_FOUND, StatusCode::FORBIDDEN];
                    assert!(refused.contains(&status) && reached == 0, "{method} {path}: {status} {reached}");
                }
            }
        }
    }
    let expected = [
        "GET /api/v1/rest/version",
        "GET /api/version",
        "GET /health/live",
        "GET /health/ready",
        "PUT /api/v1/rest/blobs/x",
    ];
    let open: BTreeSet<_> = open.iter().map(|it| it.trim_end_matches('/')).collect();
    assert_eq!(open, BTreeSet::from(expected));
}

/// Checked before the body is read, so that a caller without the right learns nothing about it, and cannot
/// make the server read it.
#[tokio::test]
async fn rule_54_an_operation_needs_the_right_of_its_rpc() {
    let (edge, calls, _) = closed();
    let mut reached = 0;
    let mut total = 0;
    for (method, path, needed) in operations_with_rights(&edge).await {
        let request = Request::builder().method(method.as_str()).uri(format!("/p/{OWN}{path}"));
        let request = with_token(request, Tester::Operator).body(Body::from("{}")).unwrap();
        edge.answer(request).await;
        total += 1;
        let called: Vec<_> = calls.lock().unwrap().drain(..).collect();
        reached += usize::from(!called.is_empty());
        for (rpc, _) in called {
            let access = accesses::ALL.iter().find(|(path, _)| *path == rpc).unwrap().1;
            assert_eq!(needed, access.as_str_name(), "{method} {path} calls {rpc}");
        }
    }
    // The others require a body or a query.
    assert!(reached * 2 > total, "{reached} of {total} operations reached a service");
}

#[tokio::test]
async fn rule_79_a_monitor_reads_metrics_and_nothing_else() {
    let (edge, calls, _) = closed();
    let status = async |path: &str, tester| {
        let request = with_token(Request::get(path), tester).body(Body::empty()).unwrap();
        edge.answer(request).await.status()
    };
    for (tester, expected) in [
        (Tester::Monitor, StatusCode::OK),
        (Tester::Operator, StatusCode::OK),
        (Tester::In(OWN, Role::Owner), StatusCode::FORBIDDEN),
        (Tester::Anonymous, StatusCode::UNAUTHORIZED),
        (Tester::Stranger, StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(status("/metrics/", tester).await, expected, "{tester:?}");
    }
    assert_eq!(status("/health/live/", Tester::Monitor).await, StatusCode::OK);
    calls.lock().unwrap().clear();
    for (method, path) in operations(&edge).await {
        let request = Request::builder().method(method.as_str()).uri(&path);
        let request = with_token(request, Tester::Monitor).body(Body::from("{}")).unwrap();
        edge.answer(request).await;
        for (reached, _) in calls.lock().unwrap().drain(..) {
            let access = accesses::ALL.iter().find(|(path, _)| *path == reached).unwrap().1;
            let is_open = matches!(access, Access::Public | Access::Signed | Access::Caller);
            assert!(is_open, "{method} {path} reaches {reached}");
        }
    }
}

#[tokio::test]
async fn calls_carry_the_caller_and_nothing_that_a_client_claims() {
    let recorder = Recorder::default();
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let edge = matyan_edge::query(Settings::default(), metrics, Transport::new(recorder.clone()), None);
    let list = "/matyan.project.v1.ProjectService/List";
    let claimed_in = |path, tester, project| {
        let mut request = grpc_call(path, tester, project, "application/grpc");
        for name in [
            "matyan-caller",
            "matyan-known-projects",
            "matyan-rights",
            "matyan-translated",
            "matyan-credential",
            "matyan-client-address",
            "matyan-token-role",
            "matyan-token-project",
        ] {
            request.headers_mut().insert(name, "/claimed".parse().unwrap());
        }
        request
    };
    let claimed = |tester| claimed_in(list, tester, "");
    let header = |name: &str| {
        let headers = recorder.last_headers();
        headers.get(name).map(|it| it.to_str().unwrap().to_owned())
    };
    // An open server knows no callers.
    read_answer(&edge, claimed(Tester::Anonymous)).await;
    let named = ["matyan-caller", "matyan-known-projects", "matyan-rights"].map(header);
    assert_eq!(named, [None, None, None]);
    assert_eq!([header("matyan-credential"), header("matyan-client-address")], [None, None]);
    assert_eq!([header("matyan-token-role"), header("matyan-token-project")], [None, None]);

    let edge = edge.with_access(CallerCache::new(TestCallers::default()));
    read_answer(&edge, claimed(Tester::In(OWN, Role::Viewer))).await;
    assert_eq!(header("matyan-caller").as_deref(), Some("service:test"));
    assert_eq!(header("matyan-known-projects").as_deref(), Some("/speech"));
    assert_eq!(header("authorization"), None);
    assert_eq!(header("matyan-credential"), None, "only entries of the audit log name it");
    assert_eq!([header("matyan-token-role"), header("matyan-token-project")], [None, None]);
    let writer = Tester::In(OWN, Role::Writer);
    read_answer(&edge, claimed_in("/matyan.documents.v1.DocumentService/Write", writer, OWN)).await;
    assert_eq!(header("matyan-rights").as_deref(), Some("READ,INGEST"));
    assert_eq!(header("matyan-translated"), None);
    let owner = Tester::In(OWN, Role::Owner);
    read_answer(&edge, claimed_in("/matyan.access.v1.AccessService/Grant", owner, OWN)).await;
    assert_eq!(header("matyan-credential"), Some(owner.token().unwrap().digest().id()));
    assert_eq!(header("matyan-client-address"), None, "it is unknown without a connection");
    read_answer(&edge, claimed(Tester::Operator)).await;
    assert_eq!(header("matyan-known-projects"), None);

    // A call that manages a project says whether the caller manages all of them.
    let parked = "/matyan.admin.v1.AdminService/ListParkedItems";
    for (tester, expected) in [(Tester::In(OWN, Role::Owner), Some("/speech")), (Tester::Operator, None)] {
        read_answer(&edge, grpc_call(parked, tester, OWN, "application/grpc")).await;
        assert_eq!(header("matyan-known-projects").as_deref(), expected, "{tester:?}");
    }
}

#[derive(Default)]
pub(super) struct Events(pub(super) Mutex<Vec<AccessEvent>>);

impl AccessObserver for Events {
    fn observe(&self, event: AccessEvent) {
        self.0.lock().unwrap().push(event);
    }
}

#[tokio::test]
async fn rule_80_denied_management_is_reported_by_whom_and_where() {
    let (edge, calls, _) = closed();
    let events = Arc::new(Events::default());
    let edge = edge.with_access_observer(events.clone());
    let viewer = Tester::In(OWN, Role::Viewer);
    let grant = "access.v1.AccessService/Grant";
    let everywhere = "access.v1.AccessService/GrantEverywhere";
    for (rpc, tester, project, denied_in) in [
        (grant, viewer, OWN, Some(Some(OWN))),
        (everywhere, viewer, OWN, Some(None)),
        (everywhere, Tester::In(OWN, Role::Owner), "", Some(None)),
        // A backup needs an operator, but is about a project.
        ("backup.v1.BackupService/ReadProject", viewer, OWN, Some(Some(OWN))),
        // The caller must not learn whether the project exists, and could name any project.
        (grant, viewer, OTHER, None),
        (grant, Tester::Anonymous, OWN, None),
        ("runs.v1.RunService/Delete", viewer, OWN, None),
        ("runs.v1.RunService/Get", Tester::In(OWN, Role::Ingest), OWN, None),
    ] {
        let request = grpc_call(&format!("/matyan.{rpc}"), tester, project, "application/grpc");
        read_answer(&edge, request).await;
        let reported = std::mem::take(&mut *events.0.lock().unwrap());
        let Some(project) = denied_in else {
            assert_eq!(reported, [], "{rpc} {tester:?} {project}");
            continue;
        };
        let [AccessEvent::Denial(call)] = &reported[..] else { panic!("{reported:?}") };
        assert_eq!((call.rpc.as_str(), call.project.as_deref()), (rpc, project));
        assert_eq!(call.principal, "service:test");
        assert_eq!(call.credential, tester.token().unwrap().digest().id());
        assert!(!call.request_id.is_empty());
    }
    assert_eq!(calls.lock().unwrap().len(), 0, "no call reaches its service");
}

/// Must not be asked.
struct Unasked;

#[async_trait]
impl CallerSource for Unasked {
    async fn find(&self, token: Option<&TokenDigest>) -> Result<Option<Caller>, LookupError> {
        panic!("a probe needs no caller, but {token:?} was looked up")
    }
}

#[tokio::test]
async fn rule_56_a_probe_without_a_token_looks_up_nobody() {
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let transport = Transport::new(Recorder::default());
    let edge = matyan_edge::query(Settings::default(), metrics, transport, None);
    let edge = edge.with_access(CallerCache::new(Unasked));
    let request = Request::get("/health/live/").body(Body::empty()).unwrap();
    assert_eq!(edge.answer(request).await.status(), StatusCode::OK);
}

/// Everyone with a token is an operator whose token is limited.
struct SmallTokens;

#[async_trait]
impl CallerSource for SmallTokens {
    async fn find(&self, _: Option<&TokenDigest>) -> Result<Option<Caller>, LookupError> {
        let rights: CallerRights = [(None, Role::Operator)].into_iter().collect();
        let limits = TokenLimits { projects: Some([OWN.to_owned()].into()), role: Some(Role::Viewer) };
        Ok(Some(Caller::limited("root", &rights, limits)))
    }
}

#[tokio::test]
async fn calls_of_every_caller_carry_the_limits_of_the_token() {
    let recorder = Recorder::default();
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let edge = matyan_edge::query(Settings::default(), metrics, Transport::new(recorder.clone()), None);
    let edge = edge.with_access(CallerCache::new(SmallTokens));
    let whoami = "/matyan.access.v1.AccessService/GetCaller";
    read_answer(&edge, grpc_call(whoami, Tester::Operator, "", "application/grpc")).await;
    let headers = recorder.last_headers();
    assert_eq!(
        (&headers["matyan-token-role"], &headers["matyan-token-project"]),
        (&"viewer".parse().unwrap(), &"/speech".parse().unwrap())
    );
    let get = "/matyan.runs.v1.RunService/Get";
    read_answer(&edge, grpc_call(get, Tester::Operator, OWN, "application/grpc")).await;
    assert!(!recorder.last_headers().contains_key("matyan-token-role"));
}

#[tokio::test]
async fn a_socket_is_opened_only_for_callers_who_may_send_data() {
    let server = Server::start_with_access(CallerCache::new(TestCallers::default())).await;
    let connect = async |project: &str, tester: Tester| {
        let url = format!("ws://{}/p/{project}/api/v1/ws/runs/r", server.address);
        let mut request = url.into_client_request().unwrap();
        if let Some(token) = tester.token() {
            let value = format!("Bearer {}", token.reveal()).parse().unwrap();
            request.headers_mut().insert("authorization", value);
        }
        match tokio_tungstenite::connect_async(request).await {
            Ok(_) => 101,
            Err(Error::Http(response)) => response.status().as_u16(),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(connect(OWN, Tester::In(OWN, Role::Ingest)).await, 101);
    assert_eq!(connect(OWN, Tester::In(OWN, Role::Viewer)).await, 403);
    assert_eq!(connect(OTHER, Tester::In(OWN, Role::Owner)).await, 404);
    assert_eq!(connect(OWN, Tester::Anonymous).await, 401);
    assert_eq!(connect(OWN, Tester::Stranger).await, 401);
    assert_eq!(connect(OTHER, Tester::Operator).await, 101);
}

#[tokio::test(start_paused = true)]
async fn rule_55_a_revoked_token_ends_its_open_streams_in_time() {
    check_end_of_stream("runs.v1.RunService/Watch", WatchResponse::default()).await;
    check_end_of_stream("live.v1.LiveService/Subscribe", SubscribeResponse::default()).await;
}

async fn check_end_of_stream<M: Message>(method: &str, first: M) {
    let backend = Backend::default();
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let edge = matyan_edge::query(Settings::default(), metrics, Transport::new(backend.clone()), None);
    let callers = TestCallers::default();
    let edge = edge.with_access(CallerCache::new(callers.clone()));
    let gone = backend.answers_and_holds(method, [first]);
    let path = format!("/matyan.{method}");
    let request = grpc_call(&path, Tester::In(OWN, Role::Viewer), OWN, "application/grpc");
    let mut body = edge.answer(request).await.into_body();
    assert!(body.frame().await.unwrap().unwrap().is_data(), "{method}");
    callers.0.lock().unwrap().is_revoked = true;
    let since = Instant::now();
    let last = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(last["grpc-status"], (Code::Unauthenticated as i32).to_string(), "{method}");
    assert!(since.elapsed() <= REVOCATION_TIME, "{method}: {:?}", since.elapsed());
    // The work of the call has ended as well.
    gone.await.unwrap_err();
}

#[tokio::test]
async fn rule_55_a_revoked_token_ends_its_open_sockets_in_time() {
    let callers = TestCallers::default();
    let server = Server::start_with_access(CallerCache::new(callers.clone())).await;
    let url = format!("ws://{}/p/{OWN}/api/v1/ws/runs/r", server.address);
    let mut request = url.into_client_request().unwrap();
    let value = format!("Bearer {}", Tester::In(OWN, Role::Ingest).token().unwrap().reveal());
    request.headers_mut().insert("authorization", value.parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    // From here on, time passes only while both sides wait.
    pause();
    callers.0.lock().unwrap().is_revoked = true;
    let since = Instant::now();
    let close = loop {
        if let SocketMessage::Close(close) = socket.next().await.unwrap().unwrap() {
            break close.unwrap();
        }
    };
    assert_eq!(close.code, CloseCode::Policy, "{close:?}");
    assert!(since.elapsed() <= REVOCATION_TIME, "{:?}", since.elapsed());
}

#[tokio::test]
async fn rule_56_while_no_one_knows_a_caller_nothing_is_refused_for_good() {
    let (edge, calls, callers) = closed();
    callers.0.lock().unwrap().is_away = true;
    let owner = Tester::In(OWN, Role::Owner);
    for tester in [owner, Tester::Anonymous] {
        let request = with_token(Request::get(format!("/p/{OWN}/api/v1/rest/projects/")), tester);
        let response = edge.answer(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{tester:?}");
        // Probes of health must not restart a server because another one is away.
        let request = with_token(Request::get("/health/live"), tester).body(Body::empty()).unwrap();
        assert_eq!(edge.answer(request).await.status(), StatusCode::OK);
    }
    let watch = "/matyan.runs.v1.RunService/Watch";
    let (code, _) = read_answer(&edge, grpc_call(watch, owner, OWN, "application/grpc")).await;
    assert_eq!(code, Some(Code::Unavailable));
    assert!(calls.lock().unwrap().is_empty());
}

/// The published client tries again after 503, and gives up after 401.
#[tokio::test(start_paused = true)]
async fn rule_56_known_callers_send_data_for_15_minutes_and_get_503_afterwards() {
    let (edge, _, callers) = closed();
    let node = Tester::In(OWN, Role::Ingest);
    let publish = "/matyan.ingest.v1.IngestService/Publish";
    let call = async |path: &str, tester| {
        read_answer(&edge, grpc_call(path, tester, OWN, "application/grpc")).await.0
    };
    let presign = async || {
        let request = with_token(Request::post(format!("/p/{OWN}/api/v1/rest/artifacts/presign")), node);
        let body = r#"{"run_id": "r", "artifact_path": "a"}"#;
        edge.answer(request.body(Body::from(body)).unwrap()).await
    };
    // The recorder's answer to a call that reaches it.
    let reached = (Some(Code::Unimplemented), StatusCode::NOT_IMPLEMENTED);
    assert_eq!((call(publish, node).await, presign().await.status()), reached);
    callers.0.lock().unwrap().is_away = true;
    for _ in 1..MAX_OUTAGE.as_secs() / LIFETIME.as_secs() {
        advance(LIFETIME).await;
        assert_eq!((call(publish, node).await, presign().await.status()), reached);
        for (path, tester) in [
            ("/matyan.access.v1.AccessService/GetCaller", node),
            (publish, Tester::In(OWN, Role::Writer)),
            (publish, Tester::Stranger),
            (publish, Tester::Anonymous),
        ] {
            assert_eq!(call(path, tester).await, Some(Code::Unavailable), "{path} {tester:?}");
        }
    }
    advance(LIFETIME).await;
    assert_eq!(call(publish, node).await, Some(Code::Unavailable));
    let refused = presign().await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(!refused.headers().contains_key("www-authenticate"));
    callers.0.lock().unwrap().is_away = false;
    advance(LIFETIME).await;
    assert_eq!((call(publish, node).await, presign().await.status()), reached);
    assert_eq!(call(publish, Tester::Stranger).await, Some(Code::Unauthenticated));
}
