//! Attacks on a running server that try to gain rights: by pages of other sites, with the data that a browser keeps,
//! with secrets in the wrong place, by the calls of the server's own processes, and by paths. Each attack is one
//! request, and its answer shows that it has failed. `confusion` has the attacks on the project of a request,
//! `login_code` the attacks on codes, and `revocation` the attacks with revoked credentials.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, StatusCode};
use matyan_proto::{
    access::v1::{
        AnswerLoginRequest, EndSessionRequest, FindLoginRequest, ResolveCallerRequest, Role,
        StartSessionRequest,
    },
    project::v1::{UpdateRequest, project_service_client::ProjectServiceClient},
};
use matyan_tests::exact_http::{Answer, ExactClient};
use prost::Message;
use tonic::Code;

use super::{closed_server::ClosedServer, stdout_of};

const PROJECT: &str = "speech";
const READ: &str = "/p/speech/api/v1/rest/projects/";
const SOCKET: &str = "/p/speech/api/v1/ws/runs/r";
const FORM: &str = "application/x-www-form-urlencoded";

/// A text that only callers with read access to the project see.
const CANARY: &str = "canary-of-the-project";

/// A server with a project to read, and the token of its user `ana`.
struct Scene {
    closed: ClosedServer,
    client: ExactClient,
    token: String,
    /// The cookie of a browser that has signed in with a link: name and value.
    cookie: String,
}

impl Scene {
    async fn open() -> Self {
        let closed = ClosedServer::up(&[], &[PROJECT]).await;
        let update = UpdateRequest { description: Some(CANARY.to_owned()), ..Default::default() };
        let mut projects = ProjectServiceClient::new(closed.channel.clone());
        projects.update(closed.request(PROJECT, update)).await.expect("the operator describes projects");
        let token = closed.invite("ana", Role::Editor, PROJECT).await.secret;
        let link = closed.create_link("ana", PROJECT).await;
        let cookie = closed.sign_in(&link).await;
        let scene = Self { closed, client: ExactClient::http1(), token, cookie };
        // The attacks try to get this text, and it is in the answer to its owner.
        let own =
            scene.get(READ, &[("cookie", scene.cookie.as_str()), ("sec-fetch-site", "same-origin")]).await;
        assert!(own.status == StatusCode::OK && own.contains(CANARY), "{own:?}");
        scene
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request =
            Request::builder().method(method).uri(format!("{}{path}", self.closed.server.query));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Bytes::copy_from_slice(body)).expect("the request is well-formed");
        self.client.send(request).await
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", path, headers, b"").await
    }

    /// A gRPC call without a credential. Returns its code, and whether it shows the project.
    async fn call(&self, rpc: &str, message: Vec<u8>) -> (Option<Code>, bool) {
        let length = u32::try_from(message.len()).expect("the message is small");
        let body = [&[0][..], &length.to_be_bytes(), &message].concat();
        let headers = [("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1")];
        let answer = self.send("POST", &format!("/matyan.access.v1.{rpc}"), &headers, &body).await;
        (answer.grpc_status().map(|status| status.code()), answer.contains(CANARY))
    }
}

/// The value of a cookie without its name.
fn secret_of(cookie: &str) -> &str {
    cookie.split_once('=').map_or(cookie, |(_, secret)| secret)
}

#[tokio::test]
async fn rule_65_a_page_of_another_site_cannot_use_the_cookie() {
    let scene = Scene::open().await;
    let cookie = scene.cookie.as_str();
    let own = scene.closed.server.query.as_str();
    let other_port = "http://127.0.0.1:1";
    let mut problems = Vec::new();
    for (attack, method, path, headers) in [
        ("a form", "POST", "/p/speech/api/v1/rest/projects/", vec![("origin", "http://evil.example")]),
        ("a form without an origin", "POST", READ, vec![("origin", "null")]),
        ("a page on another port", "GET", READ, vec![("origin", other_port)]),
        ("an image", "GET", READ, vec![("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")]),
        ("a sibling domain", "GET", READ, vec![("sec-fetch-site", "same-site")]),
        (
            "a link to the API",
            "GET",
            READ,
            vec![
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", "document"),
            ],
        ),
        ("a page with the name of the server", "GET", READ, vec![("host", "evil.example"), ("origin", own)]),
        (
            "a socket",
            "GET",
            SOCKET,
            vec![
                ("origin", "http://evil.example"),
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
                ("sec-websocket-version", "13"),
            ],
        ),
        ("signing out", "POST", "/sign-out", vec![("origin", "http://evil.example")]),
        ("signing in as another person", "POST", "/sign-in", vec![("origin", "http://evil.example")]),
        ("signing out without a page", "POST", "/sign-out", vec![]),
        ("writing without a page", "PUT", READ, vec![("sec-fetch-site", "none")]),
        ("allowing a program", "POST", "/sign-in/code", vec![("sec-fetch-site", "cross-site")]),
    ] {
        let headers = [&[("cookie", cookie), ("content-type", FORM)][..], &headers].concat();
        let answer = scene.send(method, path, &headers, b"").await;
        let is_refused = matches!(
            answer.status,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::MISDIRECTED_REQUEST
        );
        let is_set = answer.headers.contains_key("set-cookie");
        if !is_refused || is_set || answer.contains(CANARY) {
            problems.push(format!("{attack}: {answer:?}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    // The session continues: nobody was signed out.
    let own = scene.get(READ, &[("cookie", cookie), ("sec-fetch-site", "same-origin")]).await;
    assert_eq!(own.status, StatusCode::OK);
}

#[tokio::test]
async fn rule_82_a_secret_in_the_wrong_place_is_worth_nothing() {
    let scene = Scene::open().await;
    let token = scene.token.as_str();
    let session = secret_of(&scene.cookie);
    let (name, _) = scene.cookie.split_once('=').expect("a cookie has a name");
    let link = scene.closed.create_link("ana", PROJECT).await;
    let bearer = |secret: &str| ("authorization", format!("Bearer {secret}"));
    let cookie = |secret: &str| ("cookie", format!("{name}={secret}"));
    let basic = |pair: &str| ("authorization", format!("Basic {}", STANDARD.encode(pair)));
    let mut problems = Vec::new();
    for (attack, path, headers) in [
        ("a session as a token", READ.to_owned(), vec![bearer(session)]),
        ("a link as a token", READ.to_owned(), vec![bearer(&link)]),
        ("a token as a session", READ.to_owned(), vec![cookie(token)]),
        ("a link as a session", READ.to_owned(), vec![cookie(&link)]),
        ("a token as a user name", READ.to_owned(), vec![basic(&format!("{token}:"))]),
        ("a session as a password", READ.to_owned(), vec![basic(&format!("_:{session}"))]),
        (
            "a password that a browser adds",
            READ.to_owned(),
            vec![basic(&format!("_:{token}")), ("sec-fetch-site", "same-origin".to_owned())],
        ),
        ("a token in the query", format!("{READ}?token={token}&access_token={token}"), vec![]),
        ("a session in the query", format!("{READ}?{name}={session}"), vec![]),
        ("another scheme", READ.to_owned(), vec![("authorization", format!("Token {token}"))]),
        ("a header of its own", READ.to_owned(), vec![("x-api-key", token.to_owned())]),
        ("a cookie of another port", READ.to_owned(), vec![("cookie", format!("matyan-1={session}"))]),
        ("a cookie for https", READ.to_owned(), vec![("cookie", format!("__Host-matyan={session}"))]),
        ("a digest", READ.to_owned(), vec![bearer(&"0".repeat(64))]),
        ("two tokens", READ.to_owned(), vec![bearer(token), bearer(token)]),
        ("a long token", READ.to_owned(), vec![bearer(&"m".repeat(8_000))]),
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = scene.get(&path, &headers).await;
        if answer.status != StatusCode::UNAUTHORIZED || answer.contains(CANARY) {
            problems.push(format!("{attack}: {answer:?}"));
        }
        if [token, session, link.as_str()].iter().any(|secret| answer.contains(secret)) {
            problems.push(format!("{attack}: the answer repeats a secret"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    // None of these requests has used the link up.
    scene.closed.sign_in(&link).await;
}

#[tokio::test]
async fn rule_64_no_page_leads_away_or_lets_itself_be_framed() {
    let scene = Scene::open().await;
    let token = &scene.token;
    for next in [
        "//evil.example",
        "/%5Cevil.example",
        "https%3A%2F%2Fevil.example",
        "%09//evil.example",
        "/%0d%0aX:y",
    ] {
        let form = format!("token={token}&next={next}");
        let answer = scene.send("POST", "/sign-in", &[("content-type", FORM)], form.as_bytes()).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{next}");
        let location = answer.headers["location"].to_str().expect("it is ASCII");
        assert!(location.starts_with('/') && !location[1..].starts_with(['/', '\\']), "{next}: {location}");
        assert!(!answer.headers.contains_key("x"), "{next}");
    }
    for path in ["/sign-in", "/sign-in/code", "/p/speech/", "/", READ, "/docs", "/openapi.json"] {
        let headers = [("cookie", scene.cookie.as_str()), ("accept", "text/html")];
        let answer = scene.get(path, &headers).await;
        let header = |name: &str| {
            answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let policy = header("content-security-policy");
        assert!(
            policy.contains("frame-ancestors 'self'") || policy.contains("frame-ancestors 'none'"),
            "{path}"
        );
        assert!(!policy.contains("script-src 'unsafe-inline'"), "{path}: {policy}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        let cached = header("cache-control");
        assert!(
            ["no-store", "private", "no-cache"].iter().any(|word| cached.contains(word)),
            "{path}: {cached}"
        );
    }
}

#[tokio::test]
async fn rule_78_the_servers_own_calls_are_refused_from_outside() {
    let scene = Scene::open().await;
    let digest: Bytes = vec![0; 32].into();
    let session = found_digest(&scene.cookie);
    for (rpc, message, expected) in [
        (
            "SignInService/StartSession",
            StartSessionRequest { token_digest: digest.clone() }.encode_to_vec(),
            Code::Unimplemented,
        ),
        (
            "SignInService/EndSession",
            EndSessionRequest { session_digest: session.clone() }.encode_to_vec(),
            Code::Unimplemented,
        ),
        (
            "SignInService/FindLogin",
            FindLoginRequest { session_digest: session.clone(), code: "BCDF-GHJK".to_owned() }
                .encode_to_vec(),
            Code::Unimplemented,
        ),
        (
            "SignInService/AnswerLogin",
            AnswerLoginRequest { session_digest: session, code: "BCDF-GHJK".to_owned(), allowed: true }
                .encode_to_vec(),
            Code::Unimplemented,
        ),
        (
            "ResolveService/ResolveCaller",
            ResolveCallerRequest { token_digest: None, signature: digest }.encode_to_vec(),
            Code::PermissionDenied,
        ),
    ] {
        assert_eq!(scene.call(rpc, message).await, (Some(expected), false), "{rpc}");
    }
    let own = scene.get(READ, &[("cookie", scene.cookie.as_str()), ("sec-fetch-site", "same-origin")]).await;
    assert_eq!(own.status, StatusCode::OK, "the session was not ended");
}

/// A digest as sent by an attacker who has found it in a copy of the store.
fn found_digest(cookie: &str) -> Bytes {
    let mut digest = secret_of(cookie).as_bytes().to_vec();
    digest.resize(32, 0);
    digest.into()
}

#[tokio::test]
async fn rule_54_no_path_leads_around_the_check() {
    let scene = Scene::open().await;
    let mut problems = Vec::new();
    for path in [
        "/p/speech/api/v1/rest/projects",
        "//p/speech/api/v1/rest/projects/",
        "/p/speech//api/v1/rest/projects/",
        "/p/speech/API/v1/rest/projects/",
        "/p/speech/health/../api/v1/rest/projects/",
        "/health/live/../../p/speech/api/v1/rest/projects/",
        "/sign-in/../p/speech/api/v1/rest/projects/",
        "/p/speech/api/v1/rest/%70rojects/",
        "/p/speech/api/v1/rest/projects/%2e%2e/projects/",
        "/p/speech/api/projects/",
        "/p/speech/api/v1/rest/projects/;/health/live/",
        "/p/speech/api/v1/rest/projects/?/health/live/",
        "/p/speech/api/v1/rest/projects/%00",
        "/p/speech/sign-in/../api/v1/rest/projects/",
        "/assets/../../../../../../etc/passwd",
        "/assets/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/p/speech/%2e%2e%2f%2e%2e%2fetc/passwd",
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"] {
            let headers = [("x-http-method-override", "GET"), ("content-type", "application/json")];
            let answer = scene.send(method, path, &headers, b"").await;
            if answer.contains(CANARY) || answer.contains("root:") || answer.status.is_server_error() {
                problems.push(format!("{method} {path}: {answer:?}"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[tokio::test]
async fn rule_80_a_flood_of_wrong_credentials_fills_no_log_and_keeps_nobody_out() {
    let scene = Scene::open().await;
    let operator = &scene.closed.operator;
    let listed = || {
        let words =
            ["access", "audit", "--everywhere", "--rpc", "sign-in", "--failed", "--limit", "0", "--json"];
        stdout_of(&scene.closed.server, operator, &words).lines().count()
    };
    let before = listed();
    for number in 0..200 {
        let wrong = format!("Bearer mtk_{number}");
        let answer = scene.get(READ, &[("authorization", wrong.as_str())]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        let form = format!("token=mtl_{number}");
        let page = scene.send("POST", "/sign-in", &[("content-type", FORM)], form.as_bytes()).await;
        assert!(page.status.is_client_error(), "{page:?}");
    }
    assert!(listed() - before <= 10, "{} entries", listed() - before);
    let own = format!("Bearer {}", scene.token);
    assert_eq!(scene.get(READ, &[("authorization", own.as_str())]).await.status, StatusCode::OK);
}
