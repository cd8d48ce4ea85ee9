//! Every rpc, REST operation and socket of a running server, by every kind of caller, in projects of the caller, of
//! others, and in a project that does not exist, over each protocol. Rpcs come from the descriptors and operations
//! from the description of the API, so that new ones are included automatically. The expected answers follow from the
//! declared right alone.
//!
//! The operations of other trackers' protocols need the rights of the calls that they become. Every role uses these
//! operations, and every kind of credential uses some of our own protocols: more combinations would show nothing new.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Method, Request, StatusCode};
use matyan_proto::{DESCRIPTORS, access::v1::Role, accesses, common::v1::Access};
use matyan_tests::exact_http::{Answer, EMPTY_MESSAGE, ExactClient};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use serde_json::Value;
use tonic::Code;

use super::{
    closed_server::ClosedServer,
    foreign::{ForeignOperation, ForeignThings},
    run,
};

/// Projects whose names have the same length, so that answers about them can be compared.
const OWN: &str = "speech";
const OTHER: &str = "vision";
const UNKNOWN: &str = "nobody";
const PROJECTS: [&str; 3] = [OWN, OTHER, UNKNOWN];

/// An operation after which nothing is left to test: only its refusals are part of the matrix.
const DELETES_ITS_PROJECT: (&str, &str) = ("DELETE", "/api/v1/rest/projects/");

/// Start of the paths of the calls that only the pages of the server make. Nobody reaches these calls from outside.
const SIGN_IN_SERVICE: &str = "/matyan.access.v1.SignInService/";

/// Requests that are in progress at the same time.
const CONCURRENCY: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tester {
    Nobody,
    /// Sends a text that is not a token.
    Malformed,
    /// Sends a token that the server has never created.
    Invented,
    Expired,
    Revoked,
    /// Has a role in `OWN`.
    Member(Role),
    /// Owns `OWN`, and sends a token whose rights are limited to a role.
    Limited(Role),
    /// A browser that has signed in with the token of a member.
    Session(Role),
    /// A browser that has signed in with a link of a member.
    LinkSession(Role),
    /// Owns `OTHER`.
    OwnerOfOther,
    Monitor,
    Operator,
}

/// The answer to a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Permitted,
    NotSignedIn,
    Denied,
    UnknownProject,
    /// Denied, or without effect: an operation may find that its object does not exist, before it makes a call for
    /// which it has no right.
    Refused,
    /// The server does not have the call.
    Absent,
    /// The server cannot answer, at least not now. Never expected.
    Failed,
}

/// The credential that a caller sends.
#[derive(Clone, Debug)]
enum Credential {
    Nothing,
    Token(String),
    /// Name and value.
    Cookie(String),
}

impl Tester {
    /// The rights in a project. This table repeats the rules, so that a change of the rules fails here.
    fn rights_in(self, project: &str) -> &'static [Access] {
        match self {
            Self::OwnerOfOther if project == OTHER => rights_of(Role::Owner),
            Self::Member(role) | Self::Limited(role) | Self::Session(role) | Self::LinkSession(role)
                if project == OWN =>
            {
                rights_of(role)
            }
            _ => &[],
        }
    }

    fn expected(self, target: &Target, project: &str) -> Outcome {
        let rights = self.rights_in(project);
        match (self, target.access) {
            (Self::Malformed | Self::Invented | Self::Expired | Self::Revoked, _) => Outcome::NotSignedIn,
            _ if target.is_of_sign_in() => Outcome::Absent,
            (Self::Operator, _) | (_, Access::Public | Access::Signed) => Outcome::Permitted,
            (Self::Nobody, _) => Outcome::NotSignedIn,
            (Self::Monitor, Access::Monitor) => Outcome::Permitted,
            (_, Access::Operate | Access::Monitor) => Outcome::Denied,
            _ if rights.is_empty() => Outcome::UnknownProject,
            (_, Access::Caller) => Outcome::Permitted,
            (_, access) if !rights.contains(&access) => Outcome::Denied,
            _ if target.further_rights().iter().all(|right| rights.contains(right)) => Outcome::Permitted,
            _ => Outcome::Refused,
        }
    }

    /// Whether a cell of this caller shows something that no other cell shows.
    fn uses(self, target: &Target) -> bool {
        use Protocol::{Grpc, GrpcWeb, Http1, Socket};
        if target.foreign.is_some() {
            return matches!(self, Self::Nobody | Self::Member(_) | Self::OwnerOfOther | Self::Operator);
        }
        match self {
            Self::Limited(_) => matches!(target.protocol, Grpc | Http1),
            // The cookie is for the port with the pages.
            Self::Session(_) | Self::LinkSession(_) => {
                matches!(target.protocol, GrpcWeb | Http1 | Socket { .. }) && !target.is_ingest
            }
            _ => true,
        }
    }
}

fn rights_of(role: Role) -> &'static [Access] {
    use Access::{Edit, Ingest, Manage, Read};
    match role {
        Role::Ingest => &[Ingest],
        Role::Viewer => &[Read],
        Role::Writer => &[Read, Ingest],
        Role::Editor => &[Read, Ingest, Edit],
        Role::Owner => &[Read, Ingest, Edit, Manage],
        Role::Monitor | Role::Operator | Role::Unspecified => &[],
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Grpc,
    GrpcWeb,
    Http1,
    Http2,
    Socket { is_binary: bool },
}

/// A call, operation or socket that needs a right, over one protocol.
#[derive(Clone, Debug)]
struct Target {
    protocol: Protocol,
    /// The right that it needs; the first right, if it is an operation of another tracker's protocol.
    access: Access,
    method: Method,
    path: String,
    /// Whether its answer may be endless.
    is_stream: bool,
    /// Whether it is on the port that training code sends to.
    is_ingest: bool,
    /// `None`: the target belongs to our own protocols.
    foreign: Option<ForeignOperation>,
}

impl Target {
    fn call(protocol: Protocol, path: &str, access: Access, is_stream: bool) -> Self {
        let path = path.to_owned();
        Self { protocol, access, method: Method::POST, path, is_stream, is_ingest: false, foreign: None }
    }

    fn foreign(operation: ForeignOperation) -> Self {
        let protocol = if operation.is_grpc() { Protocol::Grpc } else { Protocol::Http1 };
        let access = *operation.needs.first().expect("every operation needs a right");
        let target = Self::call(protocol, &operation.path, access, false);
        Self { method: operation.method.clone(), foreign: Some(operation), ..target }
    }

    /// The rights of the calls that follow the first call.
    fn further_rights(&self) -> &'static [Access] {
        self.foreign.as_ref().and_then(|operation| operation.needs.get(1..)).unwrap_or_default()
    }

    fn is_of_sign_in(&self) -> bool {
        self.path.starts_with(SIGN_IN_SERVICE)
    }

    /// The name of the target in test results.
    fn name(&self) -> String {
        match &self.foreign {
            Some(operation) => operation.name.clone(),
            None => format!("{:?} {} {}", self.protocol, self.method, self.path),
        }
    }

    fn on_ingest_port(&self) -> Self {
        Self { is_ingest: true, ..self.clone() }
    }

    fn deletes_its_project(&self) -> bool {
        (self.method.as_str(), self.path.as_str()) == DELETES_ITS_PROJECT
    }

    fn is_grpc(&self) -> bool {
        matches!(self.protocol, Protocol::Grpc | Protocol::GrpcWeb)
    }

    /// The project is in the path where that is possible, and in a header over HTTP/2.
    fn request(&self, base: &str, project: &str, credential: &Credential) -> Request<Bytes> {
        let is_in_header = matches!(self.protocol, Protocol::Grpc | Protocol::Http2);
        let prefix = if is_in_header { String::new() } else { format!("/p/{project}") };
        let mut request =
            Request::builder().method(self.method.clone()).uri(format!("{base}{prefix}{}", self.path));
        if is_in_header {
            request = request.header("matyan-project", project);
        }
        request = match credential {
            Credential::Nothing => request,
            Credential::Token(token) => request.header("authorization", format!("Bearer {token}")),
            Credential::Cookie(cookie) => {
                request.header("cookie", cookie).header("sec-fetch-site", "same-origin")
            }
        };
        let headers: &[(&str, &str)] = match self.protocol {
            Protocol::Grpc => &[("content-type", "application/grpc"), ("te", "trailers")],
            Protocol::GrpcWeb => &[("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1")],
            Protocol::Http1 | Protocol::Http2 => &[("content-type", "application/json")],
            Protocol::Socket { .. } => &[
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
                ("sec-websocket-version", "13"),
            ],
        };
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if self.protocol == (Protocol::Socket { is_binary: true }) {
            request = request.header("sec-websocket-protocol", matyan_tests::binary::PROTOCOL);
        }
        request.body(self.body()).expect("the request is well-formed")
    }

    fn body(&self) -> Bytes {
        let has_body = self.method == Method::POST || self.method == Method::PUT;
        match &self.foreign {
            Some(operation) => operation.body.clone(),
            None if self.is_grpc() => Bytes::from_static(EMPTY_MESSAGE),
            None if has_body => Bytes::from_static(b"{}"),
            None => Bytes::new(),
        }
    }

    fn outcome(&self, answer: &Answer, project: &str) -> Outcome {
        let names_project = |text: &str| text.contains(&format!("project `{project}`"));
        if self.is_grpc() {
            let Some(status) = answer.grpc_status() else { return Outcome::Permitted };
            return match status.code() {
                Code::Unauthenticated => Outcome::NotSignedIn,
                Code::PermissionDenied => Outcome::Denied,
                Code::NotFound if names_project(status.message()) => Outcome::UnknownProject,
                Code::Unimplemented => Outcome::Absent,
                Code::Unknown
                | Code::Internal
                | Code::DataLoss
                | Code::Unavailable
                | Code::DeadlineExceeded
                | Code::ResourceExhausted => Outcome::Failed,
                _ => Outcome::Permitted,
            };
        }
        match answer.status {
            StatusCode::UNAUTHORIZED => Outcome::NotSignedIn,
            StatusCode::FORBIDDEN => Outcome::Denied,
            StatusCode::NOT_FOUND if names_project(&String::from_utf8_lossy(&answer.body)) => {
                Outcome::UnknownProject
            }
            StatusCode::TOO_MANY_REQUESTS => Outcome::Failed,
            status if status.is_server_error() => Outcome::Failed,
            _ => Outcome::Permitted,
        }
    }

    /// Whether an answer is the expected one. `found` is its outcome.
    fn is_expected(&self, expected: Outcome, found: Outcome, answer: &Answer, project: &str) -> bool {
        match (expected, found) {
            // This target takes its credential from the request, and this request has none.
            (Outcome::Permitted, Outcome::Denied) => self.access == Access::Signed,
            (Outcome::Permitted, Outcome::UnknownProject) => project == UNKNOWN,
            (Outcome::Refused, Outcome::Denied) => true,
            (Outcome::Refused, Outcome::Permitted) => {
                self.foreign.as_ref().is_some_and(|operation| !operation.has_succeeded(answer))
            }
            (expected, found) => expected == found,
        }
    }
}

/// The rpcs of the server by gRPC and gRPC-web. Health and reflection are not ours, and declare no right.
fn rpcs() -> Vec<Target> {
    let descriptors = FileDescriptorSet::decode(DESCRIPTORS).expect("the build writes descriptors");
    let mut streams = BTreeSet::new();
    for file in &descriptors.file {
        for service in &file.service {
            for method in service.method.iter().filter(|method| method.server_streaming()) {
                streams.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    let others = [
        ("/grpc.health.v1.Health/Check", Access::Public),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Access::Caller),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Access::Caller),
    ];
    let mut targets = Vec::new();
    for (path, access) in accesses::ALL.iter().copied().chain(others) {
        let is_stream = streams.contains(path) || path.contains("Reflection");
        for protocol in [Protocol::Grpc, Protocol::GrpcWeb] {
            let target = Target::call(protocol, path, access, is_stream);
            if path.starts_with("/matyan.ingest.") {
                targets.push(target.on_ingest_port());
            }
            targets.push(target);
        }
    }
    targets
}

/// The REST operations over HTTP/1.1 and HTTP/2, with a value for each parameter of their paths.
async fn operations(closed: &ClosedServer) -> Vec<Target> {
    let request = Request::get(format!("{}/openapi.json", closed.server.query))
        .header("authorization", format!("Bearer {}", closed.operator));
    let request = request.body(Bytes::new()).expect("the request is well-formed");
    let answer = ExactClient::http1().send(request).await;
    let description: Value = serde_json::from_slice(&answer.body).expect("the description is JSON");
    let mut targets = Vec::new();
    for (path, operations) in description["paths"].as_object().expect("a description has paths") {
        let path: Vec<&str> = path.split('/').map(|it| if it.starts_with('{') { "x" } else { it }).collect();
        let path = path.join("/");
        for (method, operation) in operations.as_object().expect("a path has operations") {
            let right = operation["x-matyan-access"].as_str().expect("an operation declares its right");
            let access = Access::from_str_name(right).expect("the right exists");
            let method: Method = method.to_uppercase().parse().expect("a method is a token");
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let target = Target::call(protocol, &path, access, false);
                targets.push(Target { method: method.clone(), ..target });
            }
        }
    }
    targets
}

/// The sockets for data, on both ports.
fn sockets() -> Vec<Target> {
    let mut targets = Vec::new();
    for is_binary in [false, true] {
        let protocol = Protocol::Socket { is_binary };
        let socket = Target::call(protocol, "/api/v1/ws/runs/r", Access::Ingest, false);
        let socket = Target { method: Method::GET, ..socket };
        targets.extend([socket.on_ingest_port(), socket]);
    }
    targets
}

/// The operations of other trackers' protocols, on things in `OWN`.
async fn foreign_operations(closed: &ClosedServer) -> Vec<Target> {
    let things = ForeignThings::create(closed, OWN, &mut |of: &str| of.to_owned()).await;
    things.operations(closed).await.into_iter().map(Target::foreign).collect()
}

/// The name of the member with a role.
fn member(role: Role) -> String {
    role.as_str_name().to_lowercase()
}

/// Every kind of caller, with the credential that it sends.
async fn testers(closed: &ClosedServer) -> Vec<(Tester, Credential)> {
    let mut testers = vec![
        (Tester::Nobody, Credential::Nothing),
        (Tester::Malformed, Credential::Token("mtk_malformed".to_owned())),
        (Tester::Operator, Credential::Token(closed.operator.clone())),
    ];
    for role in [Role::Ingest, Role::Viewer, Role::Writer, Role::Editor, Role::Owner] {
        let token = closed.invite(&member(role), role, OWN).await;
        if role == Role::Editor {
            let cookie = closed.sign_in(&token.secret).await;
            testers.push((Tester::Session(role), Credential::Cookie(cookie)));
        }
        testers.push((Tester::Member(role), Credential::Token(token.secret)));
    }
    let limited = closed.limited_token(&member(Role::Owner), OWN, Role::Viewer).await;
    let link = closed.create_link(&member(Role::Viewer), OWN).await;
    let cookie = closed.sign_in(&link).await;
    let revoked = closed.create_token("role_owner", OWN, 0).await;
    closed.revoke(&revoked).await;
    let expired = closed.expired_token("role_owner", OWN).await;
    let other = closed.invite("other", Role::Owner, OTHER).await;
    let monitor = closed.invite_everywhere("prometheus", Role::Monitor).await;
    let mut generate = super::command(&closed.server, None, &["access", "token", "generate"]);
    let invented = run(&mut generate).expect("the command needs no server");
    let invented = invented.trim().to_owned();
    testers.extend([
        (Tester::Limited(Role::Viewer), Credential::Token(limited.secret)),
        (Tester::LinkSession(Role::Viewer), Credential::Cookie(cookie)),
        (Tester::Revoked, Credential::Token(revoked.secret)),
        (Tester::Expired, Credential::Token(expired.secret)),
        (Tester::OwnerOfOther, Credential::Token(other.secret)),
        (Tester::Monitor, Credential::Token(monitor.secret)),
        (Tester::Invented, Credential::Token(invented)),
    ]);
    testers
}

/// Whether a cell shows something new, and leaves the projects for the other cells.
fn is_sent(target: &Target, tester: Tester, project: &str) -> bool {
    let leaves_projects =
        !target.deletes_its_project() || tester.expected(target, project) != Outcome::Permitted;
    tester.uses(target) && leaves_projects
}

/// One cell of the matrix, and the server's answer.
struct Answered<'a> {
    target: usize,
    tester: Tester,
    project: &'a str,
    answer: Answer,
}

struct Matrix {
    targets: Vec<Target>,
    problems: Vec<String>,
    /// Answers that must not depend on whether the project exists, by target and caller.
    refusals: BTreeMap<(usize, Tester), BTreeSet<String>>,
    checked: usize,
}

impl Matrix {
    fn new(targets: Vec<Target>) -> Self {
        Self { targets, problems: Vec::new(), refusals: BTreeMap::new(), checked: 0 }
    }

    fn check(&mut self, Answered { target, tester, project, answer }: Answered<'_>) {
        let cell = &self.targets[target];
        let expected = tester.expected(cell, project);
        let found = cell.outcome(&answer, project);
        if !cell.is_expected(expected, found, &answer, project) {
            let name = cell.name();
            let access = cell.access;
            let text = answer.comparable(project);
            self.problems.push(format!(
                "{name} ({access:?}) by {tester:?} in {project}: {expected:?} expected, {found:?} found: {text}"
            ));
        }
        let is_blind = tester.rights_in(project).is_empty() && tester != Tester::Operator;
        if is_blind && (expected != Outcome::Permitted || cell.access == Access::Signed) {
            self.refusals.entry((target, tester)).or_default().insert(answer.comparable(project));
        }
        self.checked += 1;
    }

    fn finish(mut self) {
        for ((target, tester), answers) in &self.refusals {
            if answers.len() > 1 {
                let name = self.targets[*target].name();
                self.problems.push(format!("{name} tells {tester:?} whether a project exists: {answers:#?}"));
            }
        }
        let shown = self.problems.iter().take(20).map(String::as_str).collect::<Vec<_>>();
        let total = self.problems.len();
        assert!(shown.is_empty(), "{total} of {} cells are wrong:\n{}", self.checked, shown.join("\n"));
    }
}

#[tokio::test]
async fn rule_54_each_right_permits_what_it_names_over_every_protocol() {
    let closed = ClosedServer::up(&[], &[OWN, OTHER]).await;
    let testers = testers(&closed).await;
    let targets = [rpcs(), operations(&closed).await, sockets(), foreign_operations(&closed).await].concat();
    let http1 = ExactClient::http1();
    let http2 = ExactClient::http2();
    let cells = targets.iter().enumerate().flat_map(|(index, target)| {
        let testers = testers.iter();
        testers.flat_map(move |(tester, credential)| {
            PROJECTS.map(|project| (index, target, *tester, credential, project))
        })
    });
    let mut cells: Vec<_> =
        cells.filter(|(_, target, tester, _, project)| is_sent(target, *tester, project)).collect();
    // Refused calls change nothing, so they come before calls that delete and change.
    cells.sort_by_key(|(_, target, tester, _, project)| {
        tester.expected(target, project) == Outcome::Permitted
    });
    let mut matrix = Matrix::new(targets.clone());
    let expected_cells = cells.len();
    let mut answers = stream::iter(cells)
        .map(|(index, target, tester, credential, project)| {
            let base = if target.is_ingest { &closed.server.ingest } else { &closed.server.query };
            let request = target.request(base, project, credential);
            let client = match target.protocol {
                Protocol::Grpc | Protocol::Http2 => &http2,
                Protocol::GrpcWeb | Protocol::Http1 | Protocol::Socket { .. } => &http1,
            };
            let is_endless = target.is_stream && tester.expected(target, project) == Outcome::Permitted;
            async move {
                let answer =
                    if is_endless { client.begin(request).await } else { client.send(request).await };
                Answered { target: index, tester, project, answer }
            }
        })
        .buffer_unordered(CONCURRENCY);
    while let Some(answered) = answers.next().await {
        matrix.check(answered);
    }
    drop(answers);
    assert!(expected_cells > 10_000, "only {expected_cells} cells");
    assert_eq!(matrix.checked, expected_cells);
    matrix.finish();

    // The operation that was left out is permitted as well.
    let owner = testers.iter().find(|(tester, _)| *tester == Tester::Member(Role::Owner));
    let (_, credential) = owner.expect("an owner is among them");
    let deletion = targets.iter().find(|it| it.deletes_its_project());
    let deletion = deletion.expect("the operation exists");
    let answer = http1.send(deletion.request(&closed.server.query, OWN, credential)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
}
