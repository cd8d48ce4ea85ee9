//! Compression of gRPC-web responses.

use std::io::{Read as _, Write as _};

use axum::body::Body;
use flate2::read::MultiGzDecoder;
use flate2::write::GzDecoder;
use http::{Request, Response};
use http_body_util::BodyExt;
use matyan_edge::{Edge, Metrics, Settings, Transport};
use matyan_proto::runs::v1::WatchResponse;
use matyan_proto::search::v1::RunsResponse;
use prost::Message;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::backend::Backend;
use super::server::STUCK;

const SEARCH: &str = "search.v1.SearchService/Runs";
const BROWSER: [(&str, &str); 1] = [("accept-encoding", "gzip, deflate, br")];

fn edge(backend: &Backend) -> Edge {
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    matyan_edge::query(Settings::default(), metrics, Transport::new(backend.clone()), None)
}

/// A call with an empty message.
fn call(method: &str, content_type: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let request = Request::post(format!("/matyan.{method}")).header("content-type", content_type);
    let request = headers.iter().fold(request, |it, (name, value)| it.header(*name, *value));
    request.body(Body::from(vec![0; 5])).unwrap()
}

fn web(headers: &[(&str, &str)]) -> Request<Body> {
    call(SEARCH, "application/grpc-web+proto", headers)
}

fn is_compressed(response: &Response<Body>) -> bool {
    response.headers().get("content-encoding").is_some_and(|it| it == "gzip")
}

/// A message whose ids are long and alike.
fn message(runs: usize) -> RunsResponse {
    let run_ids = (0..runs).map(|it| format!("a-run-with-a-long-name-{it:08}")).collect();
    RunsResponse { run_ids, ..RunsResponse::default() }
}

/// The messages of a gRPC-web body, then its trailers.
fn messages(mut body: &[u8]) -> (Vec<RunsResponse>, String) {
    let mut messages = Vec::new();
    while let [flags, a, b, c, d, rest @ ..] = body {
        let (content, rest) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        if flags & 0x80 != 0 {
            return (messages, String::from_utf8(content.to_vec()).unwrap());
        }
        messages.push(RunsResponse::decode(content).unwrap());
        body = rest;
    }
    (messages, String::new())
}

async fn bytes(response: Response<Body>) -> Vec<u8> {
    response.into_body().collect().await.unwrap().to_bytes().to_vec()
}

#[tokio::test]
async fn a_browser_receives_small_responses_of_any_length() {
    for sent in [vec![], vec![message(0)], vec![message(3), message(50_000), message(1), message(90_000)]] {
        let backend = Backend::default();
        let edge = edge(&backend);
        backend.answers(SEARCH, sent.clone());
        let plain = bytes(edge.answer(web(&[])).await).await;
        let response = edge.answer(web(&BROWSER)).await;
        assert!(is_compressed(&response));
        let compressed = bytes(response).await;
        let mut expanded = Vec::new();
        MultiGzDecoder::new(&compressed[..]).read_to_end(&mut expanded).unwrap();
        assert_eq!(expanded, plain);
        let (received, trailers) = messages(&expanded);
        assert!(received == sent, "{} messages", received.len());
        assert!(trailers.to_lowercase().contains("grpc-status:0"), "{trailers}");
        let large = plain.len() > 100_000;
        assert!(!large || compressed.len() * 5 < plain.len(), "{} of {}", compressed.len(), plain.len());
    }
}

#[tokio::test]
async fn the_progress_of_a_search_is_sent_while_it_runs() {
    let backend = Backend::default();
    let edge = edge(&backend);
    let gone = backend.answers_and_holds(SEARCH, [message(2), message(5)]);
    let response = edge.answer(web(&BROWSER)).await;
    assert!(is_compressed(&response));
    let mut body = response.into_body();
    let mut decoder = GzDecoder::new(Vec::new());
    // More than one frame may be needed, but the stream does not end.
    while messages(decoder.get_ref()).0 != [message(2), message(5)] {
        let frame = timeout(STUCK, body.frame()).await.expect("what is known is sent");
        decoder.write_all(&frame.unwrap().unwrap().into_data().unwrap()).unwrap();
        decoder.flush().unwrap();
    }
    drop(body);
    timeout(STUCK, gone).await.expect("the service notices that the call has ended").unwrap_err();
}

#[tokio::test]
async fn only_responses_to_browsers_that_end_are_compressed() {
    let backend = Backend::default();
    let edge = edge(&backend);
    backend.answers(SEARCH, [message(10)]);
    backend.answers("runs.v1.RunService/Watch", [WatchResponse::default()]);
    let web = "application/grpc-web+proto";
    for (expected, request) in [
        (true, call(SEARCH, web, &BROWSER)),
        (false, call(SEARCH, web, &[("accept-encoding", "br, gzip;q=0")])),
        (false, call(SEARCH, web, &[])),
        (false, call("runs.v1.RunService/Watch", web, &BROWSER)),
        (false, {
            let mut native = call(SEARCH, "application/grpc", &BROWSER);
            *native.version_mut() = http::Version::HTTP_2;
            native
        }),
    ] {
        let described = format!("{request:?}");
        assert_eq!(is_compressed(&edge.answer(request).await), expected, "{described}");
    }
}

#[tokio::test]
async fn the_number_of_compressors_is_bounded() {
    let backend = Backend::default();
    let edge = edge(&backend);
    let mut open = Vec::new();
    for _ in 0..40 {
        let _gone = backend.answers_and_holds(SEARCH, [message(1)]);
        open.push(edge.answer(web(&BROWSER)).await);
    }
    let compressed = open.iter().filter(|it| is_compressed(it)).count();
    assert_eq!(compressed, 32);
    open.clear();
    backend.answers(SEARCH, [message(1)]);
    assert!(is_compressed(&edge.answer(web(&BROWSER)).await), "the compressors of calls that ended are free");
}

#[tokio::test]
async fn responses_to_this_machine_are_not_compressed() {
    let backend = Backend::default();
    backend.answers(SEARCH, [message(100)]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(matyan_edge::serve(listener, None, edge(&backend), stop.clone()));
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http::<Body>();
    for (expected, forwarded) in [(false, None), (true, Some(("x-forwarded-for", "192.0.2.1")))] {
        let headers: Vec<_> = BROWSER.into_iter().chain(forwarded).collect();
        let mut request = web(&headers);
        *request.uri_mut() = format!("http://{address}/matyan.{SEARCH}").parse().unwrap();
        let response = client.request(request).await.unwrap().map(Body::new);
        assert_eq!(is_compressed(&response), expected, "{forwarded:?}");
        bytes(response).await;
    }
    drop(client);
    stop.cancel();
    timeout(STUCK, serving).await.expect("the server must stop").unwrap();
}
