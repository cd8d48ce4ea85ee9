//! Routes of the ingest side over plain HTTP: exact responses, CORS, errors, uploads.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request};
use matyan_edge::Settings;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error;

use super::server::{Answer, STUCK, Server};

async fn presign(server: &Server, body: &str) -> Answer {
    let request = Request::post("/api/v1/rest/artifacts/presign").header("host", "here:53801");
    server.http(request.body(Body::from(body.to_owned())).unwrap()).await
}

#[tokio::test]
async fn presigning_returns_three_members() {
    let server = Server::start().await;
    let answer = presign(&server, r#"{"run_id": "r", "artifact_path": "a/b c.png", "other": 1}"#).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        std::str::from_utf8(&answer.body).unwrap(),
        r#"{"upload_url":"http://here:53801/api/v1/rest/blobs/r/a/b%20c.png?expires=1&signature=s","s3_key":"r/a/b c.png","headers":null}"#
    );
    let answer = presign(&server, r#"{"run_id": "r", "artifact_path": "x", "content_type": "azure"}"#).await;
    assert_eq!(answer.json()["headers"], json!({"x-ms-blob-type": "BlockBlob"}));
}

#[tokio::test]
async fn an_upload_url_has_the_scheme_reported_by_the_proxy() {
    let server = Server::start().await;
    for (forwarded, scheme) in
        [("https", "https"), ("HTTPS, http", "https"), ("http", "http"), ("javascript:x//", "http")]
    {
        let request = Request::post("/api/v1/rest/artifacts/presign")
            .header("host", "here")
            .header("x-forwarded-proto", forwarded)
            .body(Body::from(r#"{"run_id": "r", "artifact_path": "x"}"#))
            .unwrap();
        let url = server.http(request).await.json()["upload_url"].as_str().unwrap().to_owned();
        assert!(url.starts_with(&format!("{scheme}://here/")), "{forwarded}: {url}");
    }
}

#[tokio::test]
async fn a_request_for_an_upload_url_is_small() {
    let server = Server::start().await;
    let request = |padding: usize| {
        format!(r#"{{"run_id": "r", "artifact_path": "x", "other": "{}"}}"#, "x".repeat(padding))
    };
    assert_eq!(presign(&server, &request(60 << 10)).await.status, 200);
    let answer = presign(&server, &request(64 << 10)).await;
    assert_eq!(answer.status, 413);
    assert!(String::from_utf8(answer.body).unwrap().contains("larger than 65536 bytes"));
}

#[tokio::test]
async fn presigning_lists_invalid_fields_as_details() {
    let server = Server::start().await;
    for body in [
        "{",
        r#"{"run_id": "r"}"#,
        r#"{"run_id": 5, "artifact_path": "x"}"#,
        r#"{"run_id": "r", "artifact_path": "../x"}"#,
    ] {
        let answer = presign(&server, body).await;
        assert_eq!(answer.status, 422, "{body}");
        let json = answer.json();
        assert!(json["detail"].as_array().is_some_and(|it| !it.is_empty()), "{json}");
        assert_eq!(json["error"]["code"], "validation_error");
    }
    let answer = presign(&server, r#"{"run_id": "r"}"#).await;
    assert_eq!(answer.json()["detail"][0]["loc"], json!(["body", "artifact_path"]));
}

#[tokio::test]
async fn large_artifacts_are_uploaded_in_parts() {
    let server = Server::start().await;
    let post = async |path: &str, more: serde_json::Value| {
        let mut body = json!({"run_id": "r", "artifact_path": "a.bin", "size": 7, "upload_id": "id"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let request = Request::post(format!("/api/v1/rest/artifacts/uploads{path}")).header("host", "here:1");
        server.http(request.body(Body::from(body.to_string())).unwrap()).await
    };
    let begun = post("", json!({})).await;
    assert_eq!(
        begun.json(),
        json!({"upload_id": "id", "s3_key": "r/a.bin", "part_bytes": 4, "is_sequential": true})
    );
    let part = post("/part", json!({"part_number": 2})).await.json();
    let url = "http://here:1/api/v1/rest/blobs/r/a.bin?upload=id&offset=4&length=3&expires=1&signature=2";
    let headers = json!({"content-range": "bytes 4-6/7"});
    assert_eq!(part, json!({"upload_url": url, "headers": headers, "offset": 4, "length": 3}));
    let put = Request::put(url.strip_prefix("http://here:1").unwrap()).body(Body::from("abc")).unwrap();
    let sent = server.http(put).await;
    assert_eq!((sent.status, sent.header("etag")), (200, Some("\"confirmed\"")));
    let complete = async |etags| post("/complete", json!({"etags": etags})).await.status;
    assert_eq!(complete(vec!["\"confirmed\""]).await, 200);
    assert_eq!(complete(vec!["x"]).await, 400);
    assert_eq!(complete(vec![]).await, 404);
    assert_eq!(post("/abort", json!({})).await.status, 200);

    let refused = post("", json!({"size": 0})).await;
    assert_eq!((refused.status, &refused.json()["detail"][0]["msg"]), (422, &json!("`size` is 0")));
    let refused = post("/part", json!({"part_number": -1})).await;
    assert_eq!((refused.status, &refused.json()["detail"][0]["loc"]), (422, &json!(["body", "part_number"])));
}

#[tokio::test]
async fn every_path_is_answered_with_and_without_trailing_slash() {
    let server = Server::start().await;
    for path in ["/api/v1/rest/version", "/api/v1/rest/version/", "//api//v1/rest/version//"] {
        let answer = server.get(path).await;
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({"version": "1.2.3", "component": "frontier"}))
        );
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("x-request-id").unwrap().len(), 36);
    }
    assert_eq!(server.get("/health/live/").await.json(), json!({"status": "ok"}));
}

#[tokio::test]
async fn rule_75_readiness_reports_log_and_blobs_without_their_messages() {
    let server = Server::start().await;
    let ready = server.get("/health/ready/").await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.json(), json!({"status": "ok", "checks": {"kafka": "ok", "blob": "failed"}}));
    server.frontier.change(|it| it.not_ready = true);
    let degraded = server.get("/health/ready").await;
    assert_eq!(degraded.status, 503);
    assert_eq!(
        degraded.json(),
        json!({"status": "degraded", "checks": {"kafka": "failed", "blob": "failed"}})
    );
}

#[tokio::test]
async fn unknown_paths_and_methods_get_the_error_envelope() {
    let server = Server::start().await;
    for path in ["/nope", "/api/v1/ws/runs/abc", "/api/v1/rest/nope/"] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(
            answer.json(),
            json!({"error": {"code": "not_found", "message": "Not Found"}, "detail": "Not Found", "message": "Not Found"})
        );
    }
    let answer = server.get("/api/v1/rest/artifacts/presign").await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    assert_eq!(answer.json()["detail"], "Method Not Allowed");
    let head = Request::head("/health/live").body(Body::empty()).unwrap();
    assert_eq!(server.http(head).await.status, 405);
    let options = Request::options("/health/live").body(Body::empty()).unwrap();
    assert_eq!(server.http(options).await.status, 405);
}

fn preflight(origin: &str) -> Request<Body> {
    Request::options("/api/v1/rest/artifacts/presign")
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type, x-a")
        .body(Body::empty())
        .unwrap()
}

#[tokio::test]
async fn preflights_report_what_is_allowed() {
    let server = Server::start().await;
    let allowed = server.http(preflight("http://localhost:3000")).await;
    assert_eq!((allowed.status, allowed.body.as_slice()), (200, b"OK".as_slice()));
    assert_eq!(allowed.header("access-control-allow-origin"), Some("http://localhost:3000"));
    assert_eq!(allowed.header("access-control-allow-headers"), Some("content-type, x-a"));
    assert_eq!(allowed.header("access-control-max-age"), Some("600"));
    assert_eq!(allowed.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(allowed.header("x-request-id"), None);

    let foreign = server.http(preflight("http://evil.example")).await;
    assert_eq!((foreign.status, foreign.body.as_slice()), (400, b"Disallowed CORS origin".as_slice()));
    assert_eq!(foreign.header("access-control-allow-origin"), None);

    let simple = |origin: &str| Request::get("/nope").header("origin", origin).body(Body::empty()).unwrap();
    let allowed = server.http(simple("http://localhost:3000")).await;
    assert_eq!((allowed.status, allowed.header("vary")), (404, Some("Origin")));
    assert_eq!(allowed.header("access-control-allow-origin"), Some("http://localhost:3000"));
    let foreign = server.http(simple("http://evil.example")).await;
    assert_eq!((foreign.status, foreign.header("access-control-allow-origin")), (403, None));
}

#[tokio::test]
async fn foreign_pages_cannot_write() {
    let server = Server::start().await;
    let from = |origin: &str| {
        Request::post("/api/v1/rest/artifacts/presign")
            .header("host", "here:1")
            .header("content-type", "text/plain")
            .header("origin", origin)
            .body(Body::from(r#"{"run_id": "r", "artifact_path": "x"}"#))
            .unwrap()
    };
    for own in ["http://here:1", "http://localhost:3000"] {
        assert_eq!(server.http(from(own)).await.status, 200, "{own}");
    }
    let foreign = server.http(from("http://evil.example")).await;
    assert_eq!((foreign.status, foreign.header("access-control-allow-origin")), (403, None));
    assert_eq!(foreign.json()["error"]["code"], "forbidden");
    let text = foreign.json()["detail"].as_str().unwrap().to_owned();
    assert!(text.contains("http://evil.example") && text.contains("CORS_ORIGINS"), "{text}");
    let counted =
        "matyan_http_requests_total{method=\"POST\",path_template=\"unmatched\",status_class=\"4xx\"}";
    assert_eq!(server.metric(counted).await, "1");
}

fn upload(body: Body) -> Request<Body> {
    Request::put("/api/v1/rest/blobs/r/a%20b//c?expires=1&signature=s")
        .header("content-type", "image/png")
        .body(body)
        .unwrap()
}

#[tokio::test]
async fn an_upload_is_passed_on_in_chunks() {
    let server = Server::start().await;
    let content = Bytes::from((0..3_000_000_u32).map(|it| it as u8).collect::<Vec<_>>());
    let mut request = upload(Body::from(content.clone()));
    request.headers_mut().insert("content-length", content.len().into());
    let answer = server.http(request).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"size": 3_000_000})));
    let (open, sizes, received, complete) = server.frontier.wait_for_upload().await;
    assert_eq!((open.key.as_str(), open.token.as_str()), ("r/a b//c", "expires=1&signature=s"));
    assert_eq!((open.content_type.as_str(), open.content_length), ("image/png", Some(3_000_000)));
    assert!(sizes.iter().all(|size| *size <= 1 << 20), "{sizes:?}");
    assert!(complete && received == content);
}

#[tokio::test]
async fn an_upload_without_a_length_is_passed_on() {
    let server = Server::start().await;
    let pieces = [Bytes::from_static(b"begin"), Bytes::from_static(b"end")].map(Ok::<_, std::io::Error>);
    let answer = server.http(upload(Body::from_stream(futures::stream::iter(pieces)))).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"size": 8})));
    let (open, _, received, complete) = server.frontier.wait_for_upload().await;
    assert_eq!((open.content_length, received.as_slice(), complete), (None, &b"beginend"[..], true));
}

#[tokio::test]
async fn an_interrupted_upload_is_never_complete() {
    let server = Server::start().await;
    let pieces = [Ok(Bytes::from_static(b"begin")), Err(std::io::Error::other("gone"))];
    let answer = server.http(upload(Body::from_stream(futures::stream::iter(pieces)))).await;
    assert_eq!(answer.status, 400);
    let (_, _, _, complete) = server.frontier.wait_for_upload().await;
    assert!(!complete);
}

#[tokio::test]
async fn a_rejected_upload_returns_the_reason() {
    let server = Server::start().await;
    let request = Request::put("/api/v1/rest/blobs/r/x?signature=forged").body(Body::from("x")).unwrap();
    let answer = server.http(request).await;
    assert_eq!((answer.status, answer.json()["message"].clone()), (403, json!("the signature is wrong")));
}

#[tokio::test]
async fn requests_are_counted_by_route() {
    let server = Server::start().await;
    server.get("/health/live").await;
    server.get("/health/live/").await;
    server.get("/some/secret").await;
    let count = |method: &str, template: &str, class: &str| {
        format!(
            "matyan_http_requests_total{{method=\"{method}\",path_template=\"{template}\",status_class=\"{class}\"}}"
        )
    };
    assert_eq!(server.metric(&count("GET", "/health/live/", "2xx")).await, "2");
    assert_eq!(server.metric(&count("GET", "unmatched", "4xx")).await, "1");
    for method in ["BREW", "WHEN", "TRACE"] {
        let request = Request::builder().method(method).uri("/health/live").body(Body::empty()).unwrap();
        assert_eq!(server.http(request).await.status, 405, "{method}");
    }
    assert_eq!(server.metric(&count("other", "/health/live/", "4xx")).await, "3");
    let text = server.get("/metrics/").await;
    assert_eq!(text.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(!String::from_utf8(text.body).unwrap().contains("BREW"));
}

#[tokio::test]
async fn the_api_describes_itself() {
    let server = Server::start().await;
    let description = server.get("/openapi.json").await.json();
    let presign = &description["paths"]["/api/v1/rest/artifacts/presign/"]["post"];
    let schema = &presign["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(schema["required"], json!(["run_id", "artifact_path"]));
    // The key of a blob is the rest of the path: a trailing slash would make it a different
    // key.
    let upload = &description["paths"]["/api/v1/rest/blobs/{key}"]["put"];
    let names = upload["parameters"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["key", "upload", "offset", "length", "expires", "signature"]);
    for status in ["200", "403", "501"] {
        assert!(upload["responses"][status].is_object(), "{status}");
    }
    assert!(description["paths"]["/health/live/"]["get"]["responses"]["503"].is_object());
    let page = server.get("/docs").await;
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(String::from_utf8(page.body).unwrap().contains("/api/v1/rest/artifacts/presign/"));
    // Every JSON response has a schema, except the description itself.
    let mut ids = std::collections::BTreeSet::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            for (status, answer) in operation["responses"].as_object().unwrap() {
                let schema = &answer["content"]["application/json"]["schema"];
                assert_ne!(schema, &json!({}), "{method} {path} {status}");
            }
            assert!(ids.insert(operation["operationId"].to_string()), "{method} {path}");
        }
    }
    // Every described operation has a route, and no route rejects its own method.
    for (path, item) in description["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let path = path.replace(['{', '}'], "x");
            let method: Method = method.to_uppercase().parse().unwrap();
            let request = Request::builder().method(method.clone()).uri(&path).body(Body::empty()).unwrap();
            let answer = server.http(request).await;
            assert!(answer.status != 405, "{method} {path}");
        }
    }
}

/// Sends a request, and returns the start of the response.
async fn ask(stream: &mut TcpStream) -> std::io::Result<[u8; 12]> {
    // A refused connection fails when it is read.
    stream.write_all(b"GET /health/live/ HTTP/1.1\r\nhost: localhost\r\n\r\n").await.ok();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.map(|_| answer)
}

#[tokio::test]
async fn connections_of_one_address_above_three_quarters_of_the_limit_are_closed() {
    let settings = matyan_edge::Settings { max_open: 4, max_connections: 4, ..Default::default() };
    let server = Server::start_with(settings).await;
    let port = server.address.rsplit_once(':').unwrap().1.parse().unwrap();
    let open = async |from: &str| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect(([127, 0, 0, 1], port).into()).await.unwrap()
    };
    let mut connections = Vec::new();
    for _ in 0..3 {
        connections.push(open("127.0.0.2").await);
        assert_eq!(&ask(connections.last_mut().unwrap()).await.unwrap(), b"HTTP/1.1 200");
    }
    ask(&mut open("127.0.0.2").await).await.unwrap_err();
    assert_eq!(server.metric("matyan_connections_refused_total").await, "1");
    let mut other = open("127.0.0.3").await;
    assert_eq!(&ask(&mut other).await.unwrap(), b"HTTP/1.1 200");
    drop((connections, other));

    // WebSockets have their own limit.
    let upgrade = async |from: &str| {
        let url = format!("ws://{}/api/v1/ws/runs/r", server.address);
        loop {
            let stream = open(from).await;
            match tokio_tungstenite::client_async(&url, stream).await {
                // The server notices the ends of the connections above in its own time.
                Err(Error::Io(_) | Error::Protocol(_)) => {}
                answered => return answered,
            }
        }
    };
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(upgrade("127.0.0.2").await.unwrap());
    }
    let Err(Error::Http(refused)) = upgrade("127.0.0.2").await else { panic!("one more is refused") };
    let text = String::from_utf8_lossy(refused.body().as_deref().unwrap_or_default()).into_owned();
    assert_eq!(refused.status(), 503);
    assert!(text.contains("your address"), "{text}");
    upgrade("127.0.0.3").await.unwrap();
}

#[tokio::test]
async fn connections_above_the_limit_are_closed() {
    let server = Server::start_with(matyan_edge::Settings { max_open: 1, ..Default::default() }).await;
    let open = async || TcpStream::connect(&server.address).await.unwrap();
    let mut first = open().await;
    assert_eq!(&ask(&mut first).await.unwrap(), b"HTTP/1.1 200");
    let mut second = open().await;
    ask(&mut second).await.unwrap_err();
    assert_eq!(server.metric("matyan_connections_refused_total").await, "1");
    drop(first);
    let mut third = open().await;
    // The server notices the end of the first one in its own time.
    while ask(&mut third).await.is_err() {
        third = open().await;
    }
}

/// Sends a request with a body, and a second one on the same connection. Returns the responses.
async fn ask_twice(server: &Server, first: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    stream.write_all(first.as_bytes()).await.unwrap();
    // The response is ready before the body has arrived.
    let is_answered = async || {
        let metrics = server.get("/metrics").await.body;
        String::from_utf8(metrics).unwrap().lines().any(|line| line.contains(r#"status_class="4xx""#))
    };
    while !is_answered().await {
        tokio::task::yield_now().await;
    }
    stream.write_all(body).await.unwrap();
    let mut answers = String::new();
    let second = b"GET /health/live/ HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n";
    // The server may have closed the connection, as it announced.
    let _closed = stream.write_all(second).await;
    let _reset = timeout(STUCK, stream.read_to_string(&mut answers)).await.unwrap();
    answers
}

async fn waiting_for_bodies(unread_body_wait: Duration) -> Server {
    let allowed_hosts = vec!["here".to_owned()];
    Server::start_with(Settings { allowed_hosts, unread_body_wait, ..Settings::default() }).await
}

#[tokio::test]
async fn rule_92_a_close_before_a_body_that_is_late_is_announced() {
    for (status, head) in REFUSED {
        let server = waiting_for_bodies(Duration::ZERO).await;
        let first = format!("{head}content-length: 2000\r\n\r\n");
        let answers = ask_twice(&server, &first, b"").await;
        assert!(answers.starts_with(&format!("HTTP/1.1 {status}")), "{answers}");
        assert!(answers.contains("connection: close"), "{answers}");
    }
}

#[tokio::test]
async fn rule_92_a_connection_outlives_a_small_body_that_was_not_read() {
    for (status, head) in REFUSED {
        // On a busy machine, the client may take long.
        let server = waiting_for_bodies(STUCK).await;
        let first = format!("{head}content-length: 2000\r\n\r\n");
        let answers = ask_twice(&server, &first, &[b' '; 2000]).await;
        assert!(answers.starts_with(&format!("HTTP/1.1 {status}")), "{answers}");
        assert!(!answers[..answers.find("\r\n\r\n").unwrap()].contains("connection: close"), "{answers}");
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 1, "{answers}");
    }
}

/// A foreign page, a wrong method, a wrong path, and a foreign host name.
const REFUSED: [(&str, &str); 4] = [
    ("403", "POST /api/v1/rest/artifacts/presign/ HTTP/1.1\r\nhost: here\r\norigin: http://elsewhere\r\n"),
    ("405", "PUT /api/v1/rest/artifacts/presign/ HTTP/1.1\r\nhost: here\r\n"),
    ("404", "POST /api/v1/rest/nothing/ HTTP/1.1\r\nhost: here\r\n"),
    ("421", "POST /api/v1/rest/artifacts/presign/ HTTP/1.1\r\nhost: elsewhere\r\n"),
];

#[tokio::test]
async fn rule_92_a_close_after_a_large_body_that_was_not_read_is_announced() {
    for (status, head) in REFUSED {
        let server = Server::start().await;
        let first = format!("{head}content-length: 10000000000\r\n\r\n");
        let answers = ask_twice(&server, &first, b"").await;
        assert!(answers.starts_with(&format!("HTTP/1.1 {status}")), "{answers}");
        assert!(answers.contains("connection: close"), "{answers}");
    }
}

#[tokio::test]
async fn rule_92_a_body_that_is_announced_as_too_large_is_refused_before_it_arrives() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    let request =
        "POST /api/v1/rest/artifacts/presign/ HTTP/1.1\r\nhost: here\r\ncontent-length: 10000000000\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(STUCK, stream.read_to_string(&mut answer)).await.expect("it is answered at once").unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("connection: close") && answer.contains("larger than 65536 bytes"), "{answer}");
}

/// A frame of HTTP/2.
struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

async fn read_frame(stream: &mut TcpStream) -> Frame {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await.unwrap();
    Frame { kind: head[3], stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload }
}

/// Otherwise the client would send the rest of the body, or wait for room to send it.
#[tokio::test]
async fn rule_92_a_stream_of_http2_that_is_answered_early_is_reset_without_an_error() {
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const NO_ERROR: [u8; 4] = [0; 4];
    let server = Server::start().await;
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    let path = b"/api/v1/rest/nothing/";
    // POST over http, then the path and the host as literals.
    let mut headers = vec![0x83, 0x86, 0x04, path.len() as u8];
    headers.extend_from_slice(path);
    headers.extend_from_slice(b"\x01\x04here");
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // The end of the headers, but not of the stream.
    sent.extend_from_slice(&[0, 0, headers.len() as u8, HEADERS, 0x04, 0, 0, 0, 1]);
    sent.extend_from_slice(&headers);
    stream.write_all(&sent).await.unwrap();
    let mut kinds = Vec::new();
    let reset = loop {
        let frame = timeout(STUCK, read_frame(&mut stream)).await.expect("the stream is reset");
        if frame.stream == 1 {
            kinds.push(frame.kind);
        }
        if frame.kind == RST_STREAM {
            break frame;
        }
    };
    assert_eq!(kinds.first(), Some(&HEADERS));
    assert_eq!((reset.stream, reset.payload.as_slice()), (1, &NO_ERROR[..]));
}
