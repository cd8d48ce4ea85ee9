//! Ends of calls: in time, at their deadline, and by a panic.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use matyan_edge::{Edge, FrontierTransport, Metrics, Settings, Transport};
use matyan_proto::ingest::v1::AdmitResponse;
use matyan_proto::logs::v1::LinesResponse;
use matyan_proto::runs::v1::WatchResponse;
use matyan_proto::search::v1::RunsResponse;
use matyan_proto::system::v1::ReadinessResponse;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::backend::Backend;
use super::frontier::Frontier;
use super::server::STUCK;

const MAX: Duration = Duration::from_secs(600);

fn edge(backend: &Backend) -> Edge {
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let settings = Settings { request_timeout: MAX, ..Settings::default() };
    matyan_edge::query(settings, metrics, Transport::new(backend.clone()), None)
}

/// A call with an empty message.
fn call(method: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let request = Request::post(format!("/matyan.{method}")).version(http::Version::HTTP_2);
    let request = request.header("content-type", "application/grpc");
    let request = headers.iter().fold(request, |it, (name, value)| it.header(*name, *value));
    request.body(Body::from(vec![0; 5])).unwrap()
}

/// The status of a call, in its headers or trailers, and its reason.
async fn end(edge: &Edge, request: Request<Body>) -> (String, String) {
    let (head, body) = edge.answer(request).await.into_parts();
    let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
    let text = |name: &str| {
        let value = trailers.get(name).or_else(|| head.headers.get(name));
        value.map_or_else(String::new, |it| it.to_str().unwrap().to_owned())
    };
    (text("grpc-status"), text("grpc-message"))
}

async fn noticed(gone: oneshot::Receiver<()>) {
    let gone = timeout(STUCK, gone).await.expect("the service must notice that the call has ended");
    gone.expect_err("the sender is dropped");
}

const INVALID_ARGUMENT: &str = "3";
const DEADLINE_EXCEEDED: &str = "4";
const PERMISSION_DENIED: &str = "7";

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_its_deadline() {
    let backend = Backend::default();
    let edge = edge(&backend);
    let begun = tokio::time::Instant::now();
    let gone = backend.answers_and_holds("search.v1.SearchService/Runs", [RunsResponse::default()]);
    let ended = end(&edge, call("search.v1.SearchService/Runs", &[("grpc-timeout", "200m")])).await;
    assert_eq!((ended.0.as_str(), begun.elapsed().as_millis()), (DEADLINE_EXCEEDED, 200), "{ended:?}");
    noticed(gone).await;

    // Without a deadline, or with a longer one, the call ends at the maximum of the server.
    for headers in [&[][..], &[("grpc-timeout", "99H")]] {
        let begun = tokio::time::Instant::now();
        let gone = backend.answers_and_holds("search.v1.SearchService/Runs", [RunsResponse::default()]);
        let ended = end(&edge, call("search.v1.SearchService/Runs", headers)).await;
        assert_eq!((ended.0.as_str(), begun.elapsed()), (DEADLINE_EXCEEDED, MAX), "{headers:?}");
        noticed(gone).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_lasts_as_long_as_its_client_wants() {
    let backend = Backend::default();
    let edge = edge(&backend);
    let gone = backend.answers_and_holds("runs.v1.RunService/Watch", [WatchResponse::default()]);
    let begun = tokio::time::Instant::now();
    let ended = end(&edge, call("runs.v1.RunService/Watch", &[("grpc-timeout", "2H")])).await;
    assert_eq!((ended.0.as_str(), begun.elapsed().as_secs()), (DEADLINE_EXCEEDED, 7_200));
    noticed(gone).await;
    let gone = backend.answers_and_holds("logs.v1.LogService/Lines", [LinesResponse::default()]);
    let waiting = end(&edge, call("logs.v1.LogService/Lines", &[]));
    assert!(timeout(100 * MAX, waiting).await.is_err(), "it has no deadline");
    // Dropping the answer is what happens when the client leaves.
    noticed(gone).await;
}

#[tokio::test(start_paused = true)]
async fn a_rest_call_ends_at_its_deadline() {
    let backend = Backend::default();
    let edge = edge(&backend);
    let ask = async |timeout: &str| {
        let request = Request::get("/api/v1/rest/runs/r/info/").header("x-request-timeout", timeout);
        let (head, body) = edge.answer(request.body(Body::empty()).unwrap()).await.into_parts();
        (head.status.as_u16(), String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
    };
    let gone = backend
        .answers_and_holds("runs.v1.RunService/Get", Vec::<matyan_proto::runs::v1::GetResponse>::new());
    let begun = tokio::time::Instant::now();
    let (status, body) = ask("1.5").await;
    assert_eq!((status, begun.elapsed().as_millis()), (504, 1_500), "{body}");
    noticed(gone).await;
    let (status, body) = ask("soon").await;
    assert_eq!(status, 400);
    assert!(body.contains("x-request-timeout"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_goes_on_without_a_frontier_that_never_answers() {
    let backend = Backend::default();
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let calls = Transport::new(backend.clone());
    let frontier = FrontierTransport::new(calls, Arc::new(Frontier::new()));
    let edge = matyan_edge::ingest(Settings::default(), metrics, frontier, None);
    let ready = ReadinessResponse { ready: true, ..Default::default() };
    backend.answers("system.v1.SystemService/Readiness", [ready]);
    let gone = backend.answers_and_holds("ingest.v1.IngestService/Admit", Vec::<AdmitResponse>::new());
    let handshake = Request::get("/api/v1/ws/runs/r")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==");
    let begun = tokio::time::Instant::now();
    let response = edge.answer(handshake.body(Body::empty()).unwrap()).await;
    let status = response.status().as_u16();
    let text = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&text);
    // A client waits 10 s for the end of its handshake. This one lacks a connection, and is otherwise accepted.
    assert_eq!((status, begun.elapsed().as_secs()), (400, 4), "{text}");
    assert!(text.contains("cannot be upgraded"), "{text}");
    noticed(gone).await;
}

#[tokio::test]
async fn a_call_with_a_wrong_time_limit_is_refused_as_its_client_expects() {
    let edge = edge(&Backend::default());
    for name in ["x-request-timeout", "grpc-timeout"] {
        let refused = end(&edge, call("search.v1.SearchService/Runs", &[(name, "soon")])).await;
        assert_eq!(refused.0, INVALID_ARGUMENT, "{refused:?}");
        assert!(refused.1.contains(name), "{refused:?}");
        // The host is checked first.
        let headers = [(name, "soon"), ("host", "evil.example")];
        let refused = end(&edge, call("search.v1.SearchService/Runs", &headers)).await;
        assert_eq!(refused.0, PERMISSION_DENIED, "{refused:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_ends_at_the_maximum() {
    let edge = edge(&Backend::default());
    let piece = futures::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(29)).await;
        Some((Ok::<_, std::io::Error>(bytes::Bytes::from_static(b" ")), ()))
    });
    let request = Request::post("/api/v1/rest/tags/").header("content-type", "application/json");
    let begun = tokio::time::Instant::now();
    let response = edge.answer(request.body(Body::from_stream(piece)).unwrap()).await;
    assert_eq!((response.status().as_u16(), begun.elapsed()), (504, MAX));
}

#[tokio::test]
async fn a_panic_ends_only_its_call() {
    // This backend panics if it has no answer.
    let edge = edge(&Backend::default());
    let request = call("search.v1.SearchService/Runs", &[("x-request-id", "the-id")]);
    let (status, message) = end(&edge, request).await;
    assert_eq!(status, "13", "INTERNAL");
    assert!(message.contains("the-id"), "{message}");
}
