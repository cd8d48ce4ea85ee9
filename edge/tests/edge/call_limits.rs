//! Limits on the requests and WebSockets of a port, of one address and of one principal, on calls that hold
//! blobs, and on the memory of large answers.

use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use matyan_access::{
    AccessToken, Caller, CallerCache, CallerRights, CallerSource, LookupError, Role, TokenDigest,
};
use matyan_edge::{Edge, Metrics, Settings, Transport};
use matyan_proto::artifacts::v1::GetResponse;
use matyan_proto::project::v1::ParamsResponse;
use matyan_proto::reports::v1 as reports;
use matyan_proto::runs::v1::{self as runs, WatchResponse};
use matyan_proto::search::v1::RunsResponse;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_util::sync::CancellationToken;

use super::backend::Backend;
use super::server::{Server, eventually};

const WATCH: &str = "runs.v1.RunService/Watch";
const SEARCH: &str = "search.v1.SearchService/Runs";
const GET: &str = "artifacts.v1.ArtifactService/Get";
const RUN: &str = "runs.v1.RunService/Get";
const REPORT: &str = "reports.v1.ReportService/Get";

fn edge(backend: &Backend, settings: Settings) -> Edge {
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    matyan_edge::query(settings, metrics, Transport::new(backend.clone()), None)
}

/// Starts a call whose response does not end. Returns the response, or the message of a refusal.
async fn call(edge: &Edge, method: &str) -> Result<http::Response<Body>, String> {
    send(edge, Request::post(format!("/matyan.{method}"))).await
}

/// The same call by a principal.
async fn call_by(edge: &Edge, method: &str, principal: &str) -> Result<http::Response<Body>, String> {
    let authorization = format!("Bearer {}", token(principal).reveal());
    send(edge, Request::post(format!("/matyan.{method}")).header("authorization", authorization)).await
}

async fn send(edge: &Edge, request: http::request::Builder) -> Result<http::Response<Body>, String> {
    let request = request.version(http::Version::HTTP_2).header("content-type", "application/grpc");
    let response = edge.answer(request.body(Body::from(vec![0; 5])).unwrap()).await;
    match response.headers().get("grpc-status") {
        None => Ok(response),
        Some(status) => {
            assert_eq!(status, "14");
            Err(response.headers()["grpc-message"].to_str().unwrap().to_owned())
        }
    }
}

const PRINCIPALS: [&str; 2] = ["ana", "bo"];

fn token(principal: &str) -> AccessToken {
    let seed = PRINCIPALS.iter().position(|name| *name == principal).unwrap();
    AccessToken::generate(&mut StdRng::seed_from_u64(seed as u64))
}

/// Knows two writers.
struct Writers;

#[async_trait]
impl CallerSource for Writers {
    async fn find(&self, digest: Option<&TokenDigest>) -> Result<Option<Caller>, LookupError> {
        let rights: CallerRights = [(None, Role::Writer)].into_iter().collect();
        let has_token = |name: &&str| Some(&token(name).digest()) == digest;
        let principal = PRINCIPALS.into_iter().find(has_token);
        Ok(Some(
            principal
                .map_or_else(|| Caller::anonymous(rights.clone()), |name| Caller::new(name, rights.clone())),
        ))
    }
}

#[tokio::test]
async fn rule_81_a_principal_has_at_most_three_quarters_of_the_calls() {
    let backend = Backend::default();
    let edge = edge(&backend, Settings { max_calls: 8, ..Settings::default() });
    let edge = edge.with_access(CallerCache::new(Writers));
    let _gone = backend.answers_and_holds(WATCH, [WatchResponse::default()]);
    let mut open = Vec::new();
    for _ in 0..6 {
        open.push(call_by(&edge, WATCH, "ana").await.unwrap());
    }
    let refused = call_by(&edge, WATCH, "ana").await.unwrap_err();
    assert!(refused.contains("ana") && refused.contains("has%20as%20many%20calls%20open"), "{refused}");
    // A colleague of the same address is not affected, and neither is everyone else.
    open.push(call_by(&edge, WATCH, "bo").await.unwrap());
    open.push(call(&edge, WATCH).await.unwrap());
    let refused = call_by(&edge, WATCH, "bo").await.unwrap_err();
    assert!(refused.contains("no%20more%20calls"), "{refused}");
    open.swap_remove(0);
    call_by(&edge, WATCH, "ana").await.unwrap();
}

#[tokio::test]
async fn rule_81_a_principal_has_at_most_three_quarters_of_the_open_blobs() {
    let backend = Backend::default();
    let edge = edge(&backend, Settings { max_blob_calls: 4, ..Settings::default() });
    let edge = edge.with_access(CallerCache::new(Writers));
    let _gone = backend.answers_and_holds(GET, [GetResponse::default()]);
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(call_by(&edge, GET, "ana").await.unwrap());
    }
    let refused = call_by(&edge, GET, "ana").await.unwrap_err();
    assert!(refused.contains("has%20as%20many%20uploads%20and%20downloads%20open"), "{refused}");
    open.push(call_by(&edge, GET, "bo").await.unwrap());
}

#[tokio::test]
async fn rule_81_a_principal_has_at_most_three_quarters_of_the_searches() {
    let backend = Backend::default();
    let edge = edge(&backend, Settings { max_searches: 4, ..Settings::default() });
    let edge = edge.with_access(CallerCache::new(Writers));
    let _gone = backend.answers_and_holds(SEARCH, [RunsResponse::default()]);
    let _gone = backend.answers_and_holds(WATCH, [WatchResponse::default()]);
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(call_by(&edge, SEARCH, "ana").await.unwrap());
    }
    let refused = call_by(&edge, SEARCH, "ana").await.unwrap_err();
    assert!(refused.contains("ana") && refused.contains("as%20many%20searches"), "{refused}");
    // Other calls go on, and so do the searches of a colleague.
    open.push(call_by(&edge, WATCH, "ana").await.unwrap());
    open.push(call_by(&edge, SEARCH, "bo").await.unwrap());
    let refused = call_by(&edge, SEARCH, "bo").await.unwrap_err();
    assert!(refused.contains("no%20more%20searches"), "{refused}");
    open.swap_remove(0);
    call_by(&edge, SEARCH, "ana").await.unwrap();
}

/// The handshake of a WebSocket of a principal.
fn handshake(server: &Server, principal: &str) -> Request<()> {
    let url = format!("ws://{}/api/v1/ws/runs/r", server.address);
    let mut request = url.into_client_request().unwrap();
    let authorization = format!("Bearer {}", token(principal).reveal()).parse().unwrap();
    request.headers_mut().insert("authorization", authorization);
    request
}

/// The message with which a WebSocket of a principal is refused.
async fn refused_socket(server: &Server, principal: &str) -> String {
    let mut request = handshake(server, principal).map(|()| Body::empty());
    *request.uri_mut() = "/api/v1/ws/runs/r".parse().unwrap();
    let answer = server.http(request).await;
    assert_eq!(answer.status, 503);
    String::from_utf8(answer.body).unwrap()
}

#[tokio::test]
async fn rule_81_a_principal_has_at_most_three_quarters_of_the_sockets() {
    let settings = Settings { max_connections: 8, ..Settings::default() };
    let server = Server::start_closed(settings, CallerCache::new(Writers)).await;
    let connect = |principal| tokio_tungstenite::connect_async(handshake(&server, principal));
    let mut open = Vec::new();
    for _ in 0..6 {
        open.push(connect("ana").await.unwrap());
    }
    let refused = refused_socket(&server, "ana").await;
    assert!(refused.contains("`ana` has as many WebSockets open"), "{refused}");
    // A colleague of the same address is not affected.
    for _ in 0..2 {
        open.push(connect("bo").await.unwrap());
    }
    let refused = refused_socket(&server, "bo").await;
    assert!(refused.contains("no more WebSockets"), "{refused}");
    drop(open.swap_remove(0));
    // The server notices the end of the connection in its own time.
    eventually("a socket is free", async || connect("ana").await.map(drop)).await;
}

#[tokio::test]
async fn a_call_counts_until_its_response_ends() {
    let backend = Backend::default();
    let edge = edge(&backend, Settings { max_calls: 2, ..Settings::default() });
    let _gone = backend.answers_and_holds(WATCH, [WatchResponse::default()]);
    let first = call(&edge, WATCH).await.unwrap();
    let _second = call(&edge, WATCH).await.unwrap();
    let refused = call(&edge, WATCH).await.unwrap_err();
    assert!(refused.contains("no%20more%20calls"), "{refused}");
    // The port itself still works.
    let live = edge.answer(Request::get("/health/live/").body(Body::empty()).unwrap()).await;
    assert_eq!(live.status(), 200);
    drop(first);
    call(&edge, WATCH).await.unwrap();
}

#[tokio::test]
async fn rule_45_calls_that_hold_blobs_have_a_limit_of_their_own() {
    let backend = Backend::default();
    let edge = edge(&backend, Settings { max_blob_calls: 1, ..Settings::default() });
    let _gone = backend.answers_and_holds(WATCH, [WatchResponse::default()]);
    let _gone = backend.answers_and_holds(GET, [GetResponse::default()]);
    let download = call(&edge, GET).await.unwrap();
    let refused = call(&edge, GET).await.unwrap_err();
    assert!(refused.contains("no%20more%20uploads%20and%20downloads"), "{refused}");
    call(&edge, WATCH).await.unwrap();
    drop(download);
    call(&edge, GET).await.unwrap();
}

/// A run with params of about this size.
fn run_of(bytes: usize) -> runs::GetResponse {
    let params = format!(r#"{{"text": "{}"}}"#, "x".repeat(bytes));
    let params = matyan_value::json::to_cbor(&params).unwrap();
    let run = runs::Run { run_id: "r".to_owned(), params: params.into(), ..Default::default() };
    runs::GetResponse { run: Some(run) }
}

fn report_of(bytes: usize) -> reports::GetResponse {
    let report = reports::Report { id: "r".to_owned(), code: "x".repeat(bytes), ..Default::default() };
    reports::GetResponse { report: Some(report) }
}

/// Asks for this path of REST, and does not read the answer.
async fn ask(edge: &Edge, path: &str, principal: &str) -> http::Response<Body> {
    let authorization = format!("Bearer {}", token(principal).reveal());
    let request = Request::get(format!("/api/v1/rest{path}")).header("authorization", authorization);
    edge.answer(request.body(Body::empty()).unwrap()).await
}

async fn text(answer: http::Response<Body>) -> String {
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Memory for four answers of `LARGE`. One client has three quarters of it.
const ANSWERS: usize = 8 << 20;
const LARGE: usize = 2 << 20;

fn with_answer_memory(backend: &Backend) -> Edge {
    let edge = edge(backend, Settings { answer_bytes: ANSWERS, ..Settings::default() });
    edge.with_access(CallerCache::new(Writers))
}

#[tokio::test(start_paused = true)]
async fn rule_45_large_answers_that_nobody_reads_leave_memory_to_others() {
    let backend = Backend::default();
    let edge = with_answer_memory(&backend);
    let info = "/runs/r/info/?sequence=metric";
    backend.answers(RUN, [run_of(LARGE)]);
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(ask(&edge, info, "ana").await);
    }
    assert!(open.iter().all(|answer| answer.status() == 200));
    let refused = ask(&edge, info, "ana").await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"5".parse().unwrap()));
    let message = text(refused).await;
    assert!(message.contains("`ana` has as many large answers open"), "{message}");
    // Her small answers go on, and so does a large one of a colleague.
    backend.answers(RUN, [run_of(100 << 10)]);
    assert_eq!(ask(&edge, info, "ana").await.status(), 200);
    backend.answers(RUN, [run_of(LARGE)]);
    let other = ask(&edge, info, "bo").await;
    assert_eq!(other.status(), 200);
    let refused = text(ask(&edge, info, "bo").await).await;
    assert!(refused.contains("no more large answers"), "{refused}");
    // Memory is free again once a client has read its answer, or has left.
    let read = text(open.remove(0)).await;
    assert!(read.len() > LARGE && read.starts_with(r#"{"params":{"text":"xx"#), "{} bytes", read.len());
    let next = ask(&edge, info, "bo").await;
    assert_eq!(next.status(), 200);
    assert_eq!(ask(&edge, info, "ana").await.status(), 503);
    open.clear();
    assert_eq!(ask(&edge, info, "ana").await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_large_answer_waits_until_others_have_been_read() {
    let backend = Backend::default();
    let edge = with_answer_memory(&backend);
    backend.answers(RUN, [run_of(LARGE)]);
    let info = "/runs/r/info/?sequence=metric";
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(ask(&edge, info, "ana").await);
    }
    // No multiple of an interval at which an answer might look again.
    let read = async {
        sleep(Duration::from_millis(5_067)).await;
        open.clear();
        Instant::now()
    };
    let wait = async {
        let answer = ask(&edge, info, "ana").await;
        (answer.status(), Instant::now())
    };
    let (read, (status, answered)) = tokio::join!(read, wait);
    assert_eq!((status.as_u16(), answered), (200, read));
}

#[tokio::test(start_paused = true)]
async fn rule_45_answers_in_one_piece_and_messages_take_memory_too() {
    let backend = Backend::default();
    let edge = with_answer_memory(&backend);
    backend.answers(RUN, [run_of(LARGE)]);
    backend.answers(REPORT, [report_of(LARGE)]);
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(ask(&edge, "/reports/r/", "ana").await);
    }
    open.push(call_by(&edge, RUN, "ana").await.unwrap());
    let refused = call_by(&edge, RUN, "ana").await.unwrap_err();
    assert!(refused.contains("ana") && refused.contains("as%20many%20large%20answers"), "{refused}");
    assert_eq!(ask(&edge, "/reports/r/", "ana").await.status(), 503);
    let whole = call_by(&edge, RUN, "bo").await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(whole.trailers().unwrap()["grpc-status"], "0");
    assert!(whole.to_bytes().len() > LARGE);
    open.clear();
    call_by(&edge, RUN, "ana").await.unwrap();
    let report = text(ask(&edge, "/reports/r/", "ana").await).await;
    assert!(report.len() > LARGE, "{} bytes", report.len());
}

/// Time after which an answer that its client does not read is dropped.
const UNREAD: Duration = Duration::from_secs(11 * 60);

#[tokio::test(start_paused = true)]
async fn rule_45_answers_that_are_not_read_give_their_memory_back() {
    let backend = Backend::default();
    let edge = with_answer_memory(&backend);
    backend.answers(RUN, [run_of(LARGE)]);
    backend.answers(REPORT, [report_of(LARGE)]);
    let info = "/runs/r/info/?sequence=metric";
    let started = Instant::now();
    let answers = [
        ask(&edge, info, "ana").await,
        ask(&edge, "/reports/r/", "ana").await,
        call_by(&edge, RUN, "ana").await.unwrap(),
    ];
    assert!(answers.iter().all(|answer| answer.status() == 200));
    let mut bodies = answers.map(http::Response::into_body);
    let [slow, stalled @ ..] = &mut bodies;
    sleep(UNREAD - Duration::from_secs(15)).await;
    assert_eq!(ask(&edge, info, "ana").await.status(), 503, "it has waited for ten seconds");
    slow.frame().await.unwrap().unwrap();
    let next = ask(&edge, info, "ana").await;
    assert_eq!((next.status().as_u16(), started.elapsed().as_secs()), (200, UNREAD.as_secs()));
    sleep(Duration::from_secs(1)).await;
    for body in stalled {
        body.frame().await.unwrap().unwrap_err();
    }
    assert_eq!(ask(&edge, info, "ana").await.status(), 200);
    assert!(slow.collect().await.unwrap().to_bytes().len() > LARGE / 2, "the rest of an answer that is read");
}

#[tokio::test(start_paused = true)]
async fn an_answer_larger_than_the_memory_is_sent_alone() {
    let backend = Backend::default();
    let edge = edge(&backend, Settings { answer_bytes: 2 * LARGE, ..Settings::default() });
    let edge = edge.with_access(CallerCache::new(Writers));
    backend.answers(REPORT, [report_of(3 * LARGE)]);
    let alone = ask(&edge, "/reports/r/", "ana").await;
    assert_eq!(alone.status(), 200);
    assert_eq!(ask(&edge, "/reports/r/", "ana").await.status(), 503);
    assert!(text(alone).await.len() > 3 * LARGE);
    assert_eq!(ask(&edge, "/reports/r/", "ana").await.status(), 200);
}

/// Sends a request whose response does not end, and returns its status.
async fn status(from: &str, port: u16) -> (TcpStream, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
    let request = b"GET /api/v1/rest/projects/params/ HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    (stream, String::from_utf8(start.to_vec()).unwrap())
}

#[tokio::test]
async fn one_address_has_at_most_three_quarters_of_the_calls() {
    let backend = Backend::default();
    let params = ParamsResponse { params: vec![0xa0].into(), ..Default::default() };
    let _gone = backend.answers_and_holds("project.v1.ProjectService/Params", [params]);
    let edge = edge(&backend, Settings { max_calls: 4, ..Settings::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(matyan_edge::serve(listener, None, edge, stop.clone()));
    let mut open = Vec::new();
    for _ in 0..3 {
        let (stream, answered) = status("127.0.0.2", port).await;
        assert_eq!(answered, "HTTP/1.1 200");
        open.push(stream);
    }
    let (mut refused, answered) = status("127.0.0.2", port).await;
    assert_eq!(answered, "HTTP/1.1 503");
    let mut text = vec![0; 1_024];
    let length = refused.read(&mut text).await.unwrap();
    let text = String::from_utf8_lossy(&text[..length]);
    assert!(text.contains("your address has as many calls open"), "{text}");
    let (other, answered) = status("127.0.0.3", port).await;
    assert_eq!(answered, "HTTP/1.1 200");
    drop(open.pop());
    // The server notices the end of the connection in its own time.
    eventually("a call is free", async || match status("127.0.0.2", port).await.1 {
        answered if answered == "HTTP/1.1 200" => Ok(()),
        answered => Err(answered),
    })
    .await;
    drop((open, other, refused));
    stop.cancel();
    serving.await.unwrap();
}
