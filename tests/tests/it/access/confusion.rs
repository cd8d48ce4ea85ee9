//! Requests that try to be about two projects, or to speak for another caller: contradictory headers, nested and
//! encoded paths, and the headers by which proxies and the server's own processes talk. Over every protocol, a caller
//! gets only answers that its token permits, or an error.

use bytes::Bytes;
use http::{Request, StatusCode, request::Builder};
use matyan_proto::{
    access::v1::{GetCallerRequest, GetCallerResponse, GrantRequest, Role},
    admin::v1::ListParkedItemsRequest,
    project::v1::{ListRequest, ListResponse, UpdateRequest, project_service_client::ProjectServiceClient},
};
use matyan_tests::{
    eventually,
    exact_http::{Answer, EMPTY_MESSAGE, ExactClient},
};
use prost::Message;
use serde_json::Value;
use tonic::Code;

use super::{closed_server::ClosedServer, stdout_of};

/// The project in which the caller of the tests may read and send data, and a project in which it may do nothing.
const OWN: &str = "speech";
const FOREIGN: &str = "vision";

/// The path under which a proxy exposes the server.
const BASE_PATH: &str = "/base";

/// An address reserved for documentation, which no client of the tests has.
const FORGED_ADDRESS: &str = "203.0.113.9";

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// An answer about `OWN`.
    Own,
    Refused(StatusCode),
    /// No content of any project, whatever the status.
    Nothing,
}

/// The start of a path, and headers in addition to the caller's token.
type Attempt = (&'static str, &'static [(&'static str, &'static str)], Expected);

const CONTRADICTION: Expected = Expected::Refused(StatusCode::BAD_REQUEST);
const UNKNOWN: Expected = Expected::Refused(StatusCode::NOT_FOUND);
const WRONG_TOKEN: Expected = Expected::Refused(StatusCode::UNAUTHORIZED);

const ATTEMPTS: &[Attempt] = &[
    ("/p/speech", &[], Expected::Own),
    ("", &[("matyan-project", "speech")], Expected::Own),
    ("", &[("matyan-project", "vision")], UNKNOWN),
    ("/p/vision", &[], UNKNOWN),
    // Without a project, a request is about the default project.
    ("", &[], UNKNOWN),
    ("", &[("matyan-project", "")], UNKNOWN),
    // Several names.
    ("/p/speech", &[("matyan-project", "vision")], CONTRADICTION),
    ("/p/vision", &[("matyan-project", "speech")], CONTRADICTION),
    ("", &[("matyan-project", "speech"), ("matyan-project", "vision")], CONTRADICTION),
    ("", &[("matyan-project", "vision"), ("matyan-project", "speech")], CONTRADICTION),
    ("", &[("matyan-project", ""), ("matyan-project", "vision")], CONTRADICTION),
    ("/p/speech", &[("matyan-project", "speech"), ("matyan-project", "vision")], CONTRADICTION),
    ("", &[("matyan-project", "speech"), ("matyan-project", "speech")], Expected::Own),
    ("/p/speech", &[("matyan-project", "")], Expected::Own),
    // Other spellings of names, and names that no project has.
    ("/p/%73peech", &[], Expected::Own),
    ("/p/visio%6e", &[], UNKNOWN),
    ("/p/SPEECH", &[], UNKNOWN),
    ("/p/speech%2Fvision", &[], UNKNOWN),
    ("/p/speech%2F..%2Fvision", &[], UNKNOWN),
    ("/p/%2573peech", &[], UNKNOWN),
    ("/p/", &[], UNKNOWN),
    ("", &[("matyan-project", "speech, vision")], UNKNOWN),
    ("", &[("matyan-project", "speech/vision")], UNKNOWN),
    ("", &[("matyan-project", "%73peech")], UNKNOWN),
    // Nested names.
    ("/p/speech/p/vision", &[], Expected::Nothing),
    ("/p/speech/../vision", &[], Expected::Nothing),
    ("/p/speech/..%2Fvision", &[], Expected::Nothing),
    ("/p/vision/p/speech", &[], Expected::Nothing),
    ("/x/p/speech", &[("matyan-project", "")], Expected::Nothing),
    // The base path is removed once, at the start of the path.
    ("/base/p/speech", &[], Expected::Own),
    ("/base", &[("matyan-project", "speech")], Expected::Own),
    ("/base/p/vision", &[], UNKNOWN),
    ("/base/p/speech", &[("matyan-project", "vision")], CONTRADICTION),
    ("/base/base/p/speech", &[], Expected::Nothing),
    ("/p/speech/base", &[], Expected::Nothing),
    ("/base/p/speech/base/p/vision", &[], Expected::Nothing),
    ("/basement/p/speech", &[], Expected::Nothing),
    // Headers of proxies do not name a project.
    (
        "/p/speech",
        &[
            ("x-forwarded-prefix", "/p/vision"),
            ("x-forwarded-path", "/p/vision/api/v1/rest/projects/"),
            ("x-forwarded-uri", "/p/vision/api/v1/rest/projects/"),
            ("x-original-url", "/p/vision/api/v1/rest/projects/"),
            ("x-rewrite-url", "/p/vision/api/v1/rest/projects/"),
            ("x-http-method-override", "DELETE"),
            ("x-forwarded-for", FORGED_ADDRESS),
            ("forwarded", "for=203.0.113.9"),
            ("x-real-ip", FORGED_ADDRESS),
            ("x-forwarded-user", "operator"),
            ("x-remote-user", "operator"),
        ],
        Expected::Own,
    ),
    ("/p/vision", &[("x-forwarded-prefix", "/p/speech")], UNKNOWN),
    (
        "/p/speech",
        &[("x-forwarded-host", "evil.example")],
        Expected::Refused(StatusCode::MISDIRECTED_REQUEST),
    ),
    // Headers of the server's own calls.
    (
        "/p/vision",
        &[
            ("matyan-caller", "operator"),
            ("matyan-known-projects", "/vision"),
            ("matyan-rights", "READ,INGEST,EDIT,MANAGE"),
            ("matyan-translated", "1"),
            ("matyan-credential", "0123456789abcdef"),
            ("matyan-token-role", "operator"),
            ("matyan-token-project", "/vision"),
            ("matyan-client-address", FORGED_ADDRESS),
        ],
        UNKNOWN,
    ),
    ("/p/speech", &[("matyan-caller", "operator"), ("matyan-known-projects", "")], Expected::Own),
    // A second credential.
    ("/p/speech", &[("authorization", "Bearer mtk_x")], WRONG_TOKEN),
    ("/p/speech", &[("authorization", "Basic Xzp4")], WRONG_TOKEN),
    ("/p/speech", &[("authorization", "")], WRONG_TOKEN),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
    GrpcWeb,
    Grpc,
    Socket,
}

impl Protocol {
    const ALL: [Self; 5] = [Self::Http1, Self::Http2, Self::GrpcWeb, Self::Grpc, Self::Socket];

    fn client(self) -> ExactClient {
        match self {
            Self::Http1 | Self::GrpcWeb | Self::Socket => ExactClient::http1(),
            Self::Http2 | Self::Grpc => ExactClient::http2(),
        }
    }

    /// A request for the description of a project, or for a socket of a project.
    fn request(self, base: &str, prefix: &str) -> (Builder, &'static [u8]) {
        let get = "matyan.project.v1.ProjectService/Get";
        match self {
            Self::Http1 | Self::Http2 => (Request::get(format!("{base}{prefix}/api/v1/rest/projects/")), b""),
            Self::GrpcWeb => {
                let request = Request::post(format!("{base}{prefix}/{get}"));
                (request.header("content-type", "application/grpc-web+proto"), EMPTY_MESSAGE)
            }
            Self::Grpc => {
                let request = Request::post(format!("{base}{prefix}/{get}")).header("te", "trailers");
                (request.header("content-type", "application/grpc"), EMPTY_MESSAGE)
            }
            Self::Socket => {
                let request = Request::get(format!("{base}{prefix}/api/v1/ws/runs/r"))
                    .header("connection", "upgrade")
                    .header("upgrade", "websocket")
                    .header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")
                    .header("sec-websocket-version", "13");
                (request, b"")
            }
        }
    }

    fn is_expected(self, expected: Expected, answer: &Answer) -> bool {
        let code = answer.grpc_status().map(|status| status.code());
        let is_own = match self {
            Self::Socket => answer.status == StatusCode::SWITCHING_PROTOCOLS,
            _ => answer.contains(&description(OWN)),
        };
        if answer.contains(&description(FOREIGN)) || answer.contains(&description("")) {
            return false;
        }
        match (expected, self) {
            (Expected::Own, _) => is_own,
            (Expected::Nothing, Self::Grpc | Self::GrpcWeb) => !is_own && code != Some(Code::Ok),
            (Expected::Nothing, _) => !is_own,
            (Expected::Refused(status), Self::Grpc | Self::GrpcWeb) => {
                !is_own && code == Some(code_of(status))
            }
            (Expected::Refused(status), _) => !is_own && answer.status == status,
        }
    }
}

/// The code with which gRPC refuses what HTTP refuses with a status.
fn code_of(status: StatusCode) -> Code {
    match status {
        StatusCode::BAD_REQUEST => Code::InvalidArgument,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::NOT_FOUND => Code::NotFound,
        _ => Code::PermissionDenied,
    }
}

fn description(project: &str) -> String {
    format!("description-of-{}-", if project.is_empty() { "default" } else { project })
}

/// A server whose projects have descriptions, and the token of `ana`, who has a role in `OWN`.
async fn described(role: Role) -> (ClosedServer, String) {
    let closed = ClosedServer::up(&["--ui-base-path", BASE_PATH], &[OWN, FOREIGN]).await;
    for project in ["", OWN, FOREIGN] {
        let update = UpdateRequest { description: Some(description(project)), ..Default::default() };
        let mut client = ProjectServiceClient::new(closed.channel.clone());
        client.update(closed.request(project, update)).await.expect("the operator describes projects");
    }
    let ana = closed.invite("ana", role, OWN).await.secret;
    (closed, ana)
}

#[tokio::test]
async fn rule_58_no_request_is_about_two_projects_or_speaks_for_somebody_else() {
    let (closed, ana) = described(Role::Writer).await;
    let mut problems = Vec::new();
    for protocol in Protocol::ALL {
        let client = protocol.client();
        for (prefix, headers, expected) in ATTEMPTS {
            for base in [&closed.server.query, &closed.server.ingest] {
                // The port for data has neither pages nor their base path.
                if *base == closed.server.ingest && prefix.starts_with(BASE_PATH) {
                    continue;
                }
                let (mut request, body) = protocol.request(base, prefix);
                request = request.header("authorization", format!("Bearer {ana}"));
                for (name, value) in *headers {
                    request = request.header(*name, *value);
                }
                let request = request.body(Bytes::from_static(body)).expect("the request is well-formed");
                let answer = client.send(request).await;
                if !protocol.is_expected(*expected, &answer) {
                    problems
                        .push(format!("{protocol:?} {base}{prefix} {headers:?} {expected:?}: {answer:?}"));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The message of a unary call that has to succeed, by a caller who claims to be another caller.
async fn call<A: Message + Default>(
    closed: &ClosedServer,
    token: &str,
    path: &str,
    body: Vec<u8>,
) -> Result<A, Code> {
    let length = u32::try_from(body.len()).expect("the message is small");
    let message = [&[0][..], &length.to_be_bytes(), &body].concat();
    let mut request = Request::post(format!("{}{path}", closed.server.query))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {token}"))
        .header("matyan-project", OWN);
    for (name, value) in [
        ("matyan-caller", "operator"),
        ("matyan-caller", "intruder"),
        ("matyan-known-projects", ""),
        ("matyan-rights", "READ,INGEST,EDIT,MANAGE"),
        ("matyan-translated", "1"),
        ("matyan-credential", "0123456789abcdef"),
        ("matyan-token-role", "operator"),
        ("matyan-token-project", "/vision"),
        ("matyan-client-address", FORGED_ADDRESS),
        ("x-forwarded-for", FORGED_ADDRESS),
        ("forwarded", "for=203.0.113.9"),
    ] {
        request = request.header(name, value);
    }
    let request = request.body(message.into()).expect("the request is well-formed");
    let answer = ExactClient::http2().send(request).await;
    match answer.grpc_status().map(|status| status.code()) {
        Some(Code::Ok) => Ok(A::decode(&answer.body[5..]).expect("the answer is the message")),
        code => Err(code.unwrap_or(Code::Unknown)),
    }
}

#[tokio::test]
async fn rule_102_headers_of_the_servers_own_calls_are_worth_nothing_from_outside() {
    let (closed, ana) = described(Role::Owner).await;
    let bo = closed.invite("bo", Role::Viewer, OWN).await.secret;
    let who = GetCallerRequest::default().encode_to_vec();
    let caller: Result<GetCallerResponse, Code> =
        call(&closed, &ana, "/matyan.access.v1.AccessService/GetCaller", who).await;
    let caller = caller.expect("every caller may ask");
    // The limits of the token are the limits of the real token.
    assert_eq!(
        (caller.principal.as_str(), caller.token_project.as_deref(), caller.token_role),
        ("ana", Some(OWN), i32::from(Role::Unspecified))
    );
    let list = ListRequest::default().encode_to_vec();
    let listed: Result<ListResponse, Code> =
        call(&closed, &ana, "/matyan.project.v1.ProjectService/List", list).await;
    let listed = listed.expect("every caller may ask").projects;
    assert_eq!(listed.iter().map(|project| project.name.as_str()).collect::<Vec<_>>(), [OWN]);
    let parked = ListParkedItemsRequest { unknown_projects: true, ..Default::default() };
    let parked: Result<(), Code> =
        call(&closed, &ana, "/matyan.admin.v1.AdminService/ListParkedItems", parked.encode_to_vec()).await;
    assert_eq!(parked, Err(Code::PermissionDenied), "an owner of one project does not manage all");

    // The audit log has the real caller and address.
    let grant = GrantRequest { principal: "bo".to_owned(), role: Role::Owner.into() };
    let grant: Result<(), Code> =
        call(&closed, &bo, "/matyan.access.v1.AccessService/Grant", grant.encode_to_vec()).await;
    assert_eq!(grant, Err(Code::PermissionDenied));
    let entries = eventually("the denied call is in the audit log", async || {
        let words = ["access", "audit", "--everywhere", "--failed", "--json", "--limit", "0"];
        let listed = stdout_of(&closed.server, &closed.operator, &words);
        if listed.contains("AccessService/Grant") { Ok(listed) } else { Err(listed) }
    })
    .await;
    for forged in ["intruder", FORGED_ADDRESS, "0123456789abcdef"] {
        assert!(!entries.contains(forged), "{forged} in {entries}");
    }
    let mut entries = entries.lines().map(|line| serde_json::from_str::<Value>(line).expect("one object"));
    let entry = entries.find(|entry| entry["rpc"] == "access.v1.AccessService/Grant");
    let entry = entry.expect("the entry was found");
    assert_eq!((&entry["principal"], &entry["address"]), (&"bo".into(), &"127.0.0.1".into()), "{entry}");
}
