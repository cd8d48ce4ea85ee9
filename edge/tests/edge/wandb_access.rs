//! Access to W&B's protocol: refusals, and permits to read one file without a token.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::body::Body;
use http::{Method, Request};
use http_body_util::BodyExt;
use matyan_access::{CallerCache, FilePermits, LIFETIME, PERMIT_LIFETIME, Role};
use matyan_edge::{Edge, Protocol, Settings};
use matyan_proto::artifacts::v1 as artifacts;
use matyan_proto::runs::v1 as runs;
use serde_json::{Value, json};
use tokio::time::advance;

use super::access::{OWN, TestCallers, Tester};
use super::backend::Backend;
use super::wandb::{GET_ARTIFACT, LIST_ARTIFACTS, Port};

const EDITOR: Tester = Tester::In(OWN, Role::Editor);

/// A port that asks its callers for tokens, with a run that has one file.
struct ClosedPort {
    backend: Backend,
    edge: Edge,
    callers: TestCallers,
    now_s: Arc<AtomicI64>,
}

impl ClosedPort {
    fn new() -> Self {
        let Port { backend, edge } = Port::new(&[Protocol::Wandb]);
        let callers = TestCallers::default();
        let now_s = Arc::new(AtomicI64::new(1_700_000_000));
        let clock = Arc::clone(&now_s);
        let clock = move || clock.load(Ordering::Relaxed) * 1_000_000;
        let edge = edge
            .with_access(CallerCache::new(callers.clone()))
            .with_file_permits(FilePermits::new(b"secret", Arc::new(clock)));
        let run =
            runs::Run { run_id: "r:p".into(), props: Some(runs::Props::default()), ..Default::default() };
        let artifact = artifacts::Artifact { path: "a b.txt".into(), size: Some(5), ..Default::default() };
        backend.answers("runs.v1.RunService/Get", [runs::GetResponse { run: Some(run) }]);
        let listed = artifacts::ListResponse { artifacts: vec![artifact.clone()] };
        backend.answers(LIST_ARTIFACTS, [listed]);
        let messages = [
            artifacts::get_response::Message::Artifact(artifact),
            artifacts::get_response::Message::Chunk("hello".into()),
        ];
        let messages =
            messages.map(|message| artifacts::GetResponse { message: Some(message), version: String::new() });
        backend.answers(GET_ARTIFACT, messages);
        Self { backend, edge, callers, now_s }
    }

    async fn send(&self, method: Method, path: &str, tester: Tester, body: Value) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost:1");
        if let Some(token) = tester.token() {
            request = request.header("authorization", format!("Bearer {}", token.reveal()));
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = request.body(body).unwrap();
        let (head, body) = self.edge.answer(request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
    }

    /// The path and the query of the file's URL that an editor gets.
    async fn file_url(&self) -> String {
        let document =
            r#"{ project(name: "p") { run(name: "r") { files { edges { node { url directUrl } } } } } }"#;
        let path = format!("/p/{OWN}/graphql");
        let (status, answer) = self.send(Method::POST, &path, EDITOR, json!({"query": document})).await;
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let file = &answer["data"]["project"]["run"]["files"]["edges"][0]["node"];
        assert_eq!(file["url"], file["directUrl"]);
        let url = file["url"].as_str().unwrap_or_else(|| panic!("{answer}"));
        url.strip_prefix("http://localhost:1").unwrap().to_owned()
    }

    async fn read(&self, url: &str, tester: Tester) -> (u16, String) {
        self.send(Method::GET, url, tester, Value::Null).await
    }

    async fn check_refused(&self, url: &str, named: &str) {
        let calls = self.backend.call_count(GET_ARTIFACT);
        let (status, answer) = self.read(url, Tester::Anonymous).await;
        assert_eq!(status, 401, "{url}: {answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let message = answer["errors"][0]["message"].as_str().unwrap_or_else(|| panic!("{answer}"));
        assert!(message.contains(named), "{url}: {message}");
        assert_eq!(self.backend.call_count(GET_ARTIFACT), calls, "{url}");
    }
}

#[tokio::test]
async fn refusals_before_routing_have_the_form_of_wandb() {
    let check = async |edge: &Edge, request: http::request::Builder, path: &str, status: u16| {
        let request = request.method("POST").uri(path).body(Body::from("{}")).unwrap();
        let (head, body) = edge.answer(request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(head.status, status, "{path}: {body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        let message = answer["errors"][0]["message"].as_str().unwrap_or_default();
        assert!(!message.is_empty(), "{path}: {body}");
        assert_eq!(answer["error"], message, "{path}");
        assert_eq!(head.headers.contains_key("www-authenticate"), status == 401, "{path}");
    };
    let from = |host: &str| Request::builder().header("host", host);
    let closed = ClosedPort::new().edge;
    let full = Port::with_settings(Settings { max_calls: 1, ..Settings::default() });
    let watch = "runs.v1.RunService/Watch";
    let _gone = full.backend.answers_and_holds(watch, [runs::WatchResponse::default()]);
    let held = Request::post(format!("/matyan.{watch}"))
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .body(Body::from(vec![0; 5]))
        .unwrap();
    let _held = full.edge.answer(held).await;
    for path in ["/graphql", "/p/speech/graphql", "/files/me/p/r/file_stream", "//graphql/"] {
        let here = || from("localhost:1");
        check(&closed, here(), path, 401).await;
        check(&closed, here().header("authorization", "Bearer x"), path, 401).await;
        let stranger = format!("Bearer {}", Tester::Stranger.token().unwrap().reveal());
        check(&closed, here().header("authorization", stranger), path, 401).await;
        check(&closed, from("elsewhere.example"), path, 421).await;
        check(&full.edge, here(), path, 503).await;
    }
}

#[tokio::test(start_paused = true)]
async fn rule_113_a_permit_reads_its_file_and_no_other() {
    let port = ClosedPort::new();
    let url = port.file_url().await;
    let (path, permit) = url.split_once('?').unwrap();
    assert_eq!(path, format!("/p/{OWN}/files/matyan/p/r/a%20b.txt"));
    assert_eq!(port.read(&url, Tester::Anonymous).await, (200, "hello".to_owned()));
    port.check_refused(path, "send a token").await;
    for (part, other) in [
        ("/a%20b.txt", "/c.txt"),
        ("/r/", "/s/"),
        ("/p/r/", "/q/r/"),
        ("/p/speech/", "/p/vision/"),
        ("/p/speech/", "/"),
        ("permit=01", "permit=02"),
        ("permit=01", "permit="),
    ] {
        assert!(url.contains(part), "{url}");
        port.check_refused(&url.replacen(part, other, 1), "not one for this file").await;
    }
    // A permit adds nothing to a credential that the request shows.
    let (status, answer) = port.read(&url, Tester::In("elsewhere", Role::Owner)).await;
    assert_eq!(status, 404, "{answer}");
    let (status, answer) = port.read(&url, Tester::In(OWN, Role::Ingest)).await;
    assert_eq!(status, 403, "{answer}");
    let mutation = json!({"query": "mutation { deleteRun(input: {id: \"x\"}) { clientMutationId } }"});
    for (method, path) in [
        (Method::POST, "/graphql"),
        (Method::POST, "/files/matyan/p/r/file_stream"),
        (Method::GET, "/api/v1/rest/projects/"),
        (Method::GET, "/api/v1/rest/runs/r:p/info/"),
    ] {
        let path = format!("/p/{OWN}{path}?{permit}");
        let (status, answer) = port.send(method, &path, Tester::Anonymous, mutation.clone()).await;
        assert_eq!(status, 401, "{path}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn rule_113_a_permit_ends_by_time_and_with_its_token() {
    let port = ClosedPort::new();
    let url = port.file_url().await;
    let lifetime = i64::try_from(PERMIT_LIFETIME.as_secs()).unwrap();
    port.now_s.fetch_add(lifetime, Ordering::Relaxed);
    assert_eq!(port.read(&url, Tester::Anonymous).await.0, 200);
    port.now_s.fetch_add(1, Ordering::Relaxed);
    port.check_refused(&url, "has ended").await;

    let url = port.file_url().await;
    port.callers.0.lock().unwrap().is_revoked = true;
    advance(LIFETIME).await;
    port.check_refused(&url, "expired or was revoked").await;
}
