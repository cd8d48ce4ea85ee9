//! A server in the hands of somebody else, to which a user was talked into sending data: it gets the token that is for it,
//! and neither the tokens of other servers, nor the memory of this process, nor its terminal.

pub(crate) mod sockets;

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use matyan_sdk::{
    AccessToken, Config, Content, Run, RunOptions,
    http::{RestRequest, Timeouts},
    reading::{AskedToken, BackendClient, BackendOptions},
};
use matyan_tests::eventually_blocking;

/// The heads of the requests that a server has got.
type Heads = Arc<Mutex<Vec<String>>>;

/// A server that answers requests by their heads, in lower case, until it cannot write any more. Returns its URL.
fn server(answer: impl Fn(&str, &mut TcpStream) + Send + 'static) -> (String, Heads) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("the listener has an address"));
    let heads = Heads::default();
    let seen = heads.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client connects");
            let head = read_request(&mut stream);
            seen.lock().expect("no test has panicked").push(head.clone());
            answer(&head, &mut stream);
        }
    });
    (url, heads)
}

/// Reads a request with its body. Returns its head in lower case.
fn read_request(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = std::io::Read::take(stream, length.unwrap_or(0));
    // A client that has left is noticed when the answer is written.
    let _left = std::io::copy(&mut body, &mut std::io::sink());
    head
}

/// A server that sends this text.
fn server_with(answer: String) -> (String, Heads) {
    server(move |_, stream| {
        // A client that has seen enough closes the connection.
        let _closed = stream.write_all(answer.as_bytes());
    })
}

fn client(url: &str) -> BackendClient {
    let timeouts = Timeouts { request: Duration::from_secs(30), ..Timeouts::default() };
    let options = BackendOptions { timeouts, interrupted: || false, runtime: matyan_sdk::io_runtime };
    BackendClient::new(url, options).expect("the options are valid")
}

fn error_of(url: &str) -> String {
    client(url)
        .send(RestRequest::get("/api/v1/rest/projects/"))
        .expect_err("the server is hostile")
        .to_string()
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

#[test]
fn rule_74_a_token_does_not_follow_a_redirect_to_another_server() {
    let (other, seen) = server_with(answer("200 OK", "content-type: application/json\r\n", "{}"));
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let (url, own) = server_with(answer(status, &format!("location: {other}/elsewhere\r\n"), ""));
        AccessToken::new("mtk_of-the-first-server").unwrap().use_for(&url);
        // Whether the redirect is followed is the business of the client; the token stays here.
        drop(client(&url).send(RestRequest::get("/api/v1/rest/projects/")));
        let own = own.lock().unwrap().join("");
        assert!(own.contains("authorization: bearer mtk_of-the-first-server"), "{status}: {own}");
        let elsewhere = seen.lock().unwrap().join("");
        assert!(!elsewhere.contains("authorization"), "{status}: {elsewhere}");
    }
}

#[test]
fn rule_74_a_server_does_not_get_the_token_of_another_one() {
    let (first, _) = server_with(answer("200 OK", "", "{}"));
    let (second, seen) = server_with(answer("200 OK", "content-type: application/json\r\n", "{}"));
    AccessToken::new("mtk_of-the-first-server").unwrap().use_for(&first);
    drop(client(&second).send(RestRequest::get("/api/v1/rest/projects/")));
    // A program that asks for a token sends none, not even the token that it has.
    AccessToken::new("mtk_that-has-ended").unwrap().use_for(&second);
    drop(client(&second).begin_login(AskedToken::default()));
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|head| !head.contains("authorization")), "{seen:?}");
}

/// Answers with a body that ends when the client leaves.
fn write_without_end(stream: &mut TcpStream, status: &str) {
    let head = format!("HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let mut is_open = stream.write_all(head.as_bytes()).is_ok();
    while is_open {
        is_open = stream.write_all(chunk.as_bytes()).is_ok();
    }
}

#[test]
fn rule_74_an_endless_error_is_read_in_part() {
    let (url, _) = server(|_, stream| write_without_end(stream, "500 Internal Server Error"));
    let error = error_of(&url);
    assert!(error.contains("500"), "{}", &error[..error.len().min(200)]);
    assert!(error.len() <= 128 << 10, "the error has {} bytes", error.len());
}

#[test]
fn rule_74_a_frame_that_is_announced_too_large_is_refused_before_it_arrives() {
    let (url, _) = server(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc-web+proto\r\ntransfer-encoding: chunked\r\n\r\n";
        let frame: &[u8] = b"5\r\n\x00\xff\xff\xff\xff\r\n";
        let _closed = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(frame));
        // Nothing follows until the client leaves.
        let _left = stream.read(&mut [0]);
    });
    let error =
        client(&url).begin_login(AskedToken::default()).expect_err("the server is hostile").to_string();
    assert!(error.contains(&url) && !error.contains("within"), "{error}");
}

#[test]
fn rule_74_a_login_that_is_no_login_keeps_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("matyan/tokens.json");
    for body in ["", "{}", "<html>", "\u{0}\u{0}\u{0}\u{0}\u{0}"] {
        for content_type in ["text/html", "application/grpc-web+proto"] {
            let headers = format!("content-type: {content_type}\r\n");
            let (url, _) = server_with(answer("200 OK", &headers, body));
            drop(client(&url).keep_login("mtk_pasted", &file).unwrap_err());
            assert!(!file.exists(), "{content_type} {body:?}");
        }
    }
    let denied = "content-type: application/grpc-web+proto\r\ngrpc-status: 16\r\ngrpc-message: no\r\n";
    let (url, _) = server_with(answer("200 OK", denied, ""));
    drop(client(&url).keep_login("mtk_pasted", &file).unwrap_err());
    assert!(!file.exists());
}

/// A gateway that refuses sockets, and answers the calls of uploads with the text for their path.
fn gateway(answer_to: impl Fn(&str) -> String + Send + 'static) -> (String, Heads) {
    server(move |head, stream| {
        let text = match head.split(' ').nth(1).unwrap_or_default() {
            path if path.contains("/ws/") => answer("404 Not Found", "", ""),
            path => answer("200 OK", "content-type: application/json\r\n", &answer_to(path)),
        };
        // A client that has seen enough closes the connection.
        let _closed = stream.write_all(text.as_bytes());
    })
}

/// A run that keeps its data in this directory.
pub(crate) fn run(gateway_url: &str, spools: &Path) -> Run {
    let gateway_url = gateway_url.to_owned();
    let config = Config { gateway_url, spool_dirs: vec![spools.to_owned()], ..Config::default() };
    Run::new(RunOptions { config, ..RunOptions::default() }).expect("the options are valid")
}

/// Logs content as an artifact, and waits until a notice says why it is not uploaded. It stays in the spool.
fn expect_refusal(gateway_url: &str, content: Content<'_>, reason: &str) {
    let spools = tempfile::tempdir().expect("the temporary directory is writable");
    let run = run(gateway_url, spools.path());
    run.log_artifact(content, "a.bin", None).expect("the path is valid");
    let mut messages = Vec::new();
    eventually_blocking("a notice", || {
        messages.extend(run.notices().into_iter().map(|notice| notice.message));
        let is_named = |message: &String| message.contains("a.bin") && message.contains(reason);
        if messages.iter().any(is_named) { Ok(()) } else { Err(format!("{reason}: {messages:?}")) }
    });
    assert_eq!(run.health().pending_uploads, 1, "{reason}");
}

fn assert_nothing_was_put(heads: &Heads) {
    let heads = heads.lock().expect("no test has panicked");
    assert!(heads.iter().all(|head| !head.starts_with("put ")), "{heads:?}");
}

#[test]
fn rule_74_a_run_uploads_nothing_to_a_wrong_place() {
    let (elsewhere, of_elsewhere) = server_with(answer("200 OK", "", ""));
    let with_header =
        format!(r#"{{"upload_url": "{elsewhere}/x", "headers": {{"Metadata-Flavor": "Google"}}}}"#);
    for (text, reason) in [
        (r#"{"upload_url": "file:///etc/passwd"}"#, "an `upload_url` with an unknown scheme"),
        (r#"{"upload_url": "gopher://192.0.2.1/x"}"#, "an `upload_url` with an unknown scheme"),
        (r#"{"upload_url": "/relative"}"#, "an `upload_url` that is not valid"),
        (r#"{"upload_url": 7}"#, "without a usable `upload_url`"),
        (&with_header, "no upload needs"),
        ("[]", "not a JSON object"),
        ("", "not a JSON object"),
    ] {
        let text = text.to_owned();
        let (url, heads) = gateway(move |_| text.clone());
        expect_refusal(&url, Content::Bytes(b"secret"), reason);
        assert_nothing_was_put(&heads);
    }
    assert!(of_elsewhere.lock().unwrap().is_empty());
}

#[test]
fn rule_74_the_token_of_a_gateway_does_not_go_where_it_sends_content() {
    let (store, of_store) = server_with(answer("200 OK", "", ""));
    let (url, own) = gateway(move |_| format!(r#"{{"upload_url": "{store}/x", "headers": null}}"#));
    AccessToken::new("mtk_of-the-gateway").unwrap().use_for(&url);
    let spools = tempfile::tempdir().unwrap();
    let run = run(&url, spools.path());
    run.log_artifact(Content::Bytes(b"content"), "a.bin", None).unwrap();
    let put = eventually_blocking("the content arrives", || {
        of_store.lock().unwrap().first().cloned().ok_or_else(|| run.health())
    });
    assert!(put.starts_with("put /x ") && !put.contains("mtk_of-the-gateway"), "{put}");
    assert!(own.lock().unwrap().iter().any(|head| head.contains("bearer mtk_of-the-gateway")));
}

#[test]
fn rule_74_an_endless_answer_about_an_upload_is_read_in_part() {
    let (url, heads) = server(|head, stream| {
        if head.contains("/ws/") {
            drop(stream.write_all(answer("404 Not Found", "", "").as_bytes()));
        } else {
            write_without_end(stream, "200 OK");
        }
    });
    expect_refusal(&url, Content::Bytes(b"x"), "a text of more than 1048576 bytes");
    assert_nothing_was_put(&heads);
}

/// Parts of 1 MiB would be more than any server has for a file of this size.
const MANY_PARTS: u64 = 10_001 << 20;

/// A sparse file of many parts: none of its bytes is on the disk.
fn large_file(folder: &Path) -> PathBuf {
    let path = folder.join("large.bin");
    File::create(&path).and_then(|file| file.set_len(MANY_PARTS)).expect("the file can be created");
    path
}

#[test]
fn rule_74_an_upload_has_neither_too_many_parts_nor_parts_of_a_wrong_size() {
    let folder = tempfile::tempdir().unwrap();
    let file = large_file(folder.path());
    for part_bytes in ["1048576", "0", "-1", "3", "1024", "4611686018427387904", "\"x\"", "null"] {
        let (url, heads) = gateway(move |_| format!(r#"{{"upload_id": "u", "part_bytes": {part_bytes}}}"#));
        expect_refusal(&url, Content::File(&file), "an answer that does not describe an upload");
        let heads = heads.lock().unwrap();
        assert!(heads.iter().all(|head| !head.contains("/uploads/part")), "{part_bytes}: {heads:?}");
    }
}

#[test]
fn rule_74_no_part_is_sent_to_a_wrong_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = large_file(folder.path());
    let (url, heads) = gateway(|path| {
        let answer = match path {
            "/api/v1/rest/artifacts/uploads" => r#"{"upload_id": "u", "part_bytes": 1073741824}"#,
            "/api/v1/rest/artifacts/uploads/part" => r#"{"upload_url": "file:///etc/passwd"}"#,
            _ => "{}",
        };
        answer.to_owned()
    });
    expect_refusal(&url, Content::File(&file), "an `upload_url` with an unknown scheme");
    assert_nothing_was_put(&heads);
}

#[test]
fn rule_74_ids_and_tags_of_an_upload_are_short() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("parts.bin");
    File::create(&file).and_then(|file| file.set_len(65 << 20)).unwrap();
    let answer_with_id = |id: &str| format!(r#"{{"upload_id": "{id}", "part_bytes": 33554432}}"#);
    let (url, _) = gateway(move |_| answer_with_id(&"u".repeat(5_000)));
    expect_refusal(&url, Content::File(&file), "an answer that does not describe an upload");
    let etag = format!("etag: {}\r\n", "e".repeat(2_000));
    let (store, _) = server_with(answer("200 OK", &etag, ""));
    let (url, _) = gateway(move |path| match path {
        "/api/v1/rest/artifacts/uploads" => answer_with_id("u"),
        "/api/v1/rest/artifacts/uploads/part" => format!(r#"{{"upload_url": "{store}/x"}}"#),
        _ => "{}".to_owned(),
    });
    expect_refusal(&url, Content::File(&file), "a part with a tag of 2000 bytes");
}

#[test]
fn rule_74_a_store_cannot_make_the_sdk_give_up_a_file() {
    for status in ["400 Bad Request", "413 Content Too Large", "422 Unprocessable Content"] {
        let error = r#"{"error": {"code": "TOO_LARGE", "message": "as the store says"}}"#;
        let (store, _) = server_with(answer(status, "content-type: application/json\r\n", error));
        let (url, _) = gateway(move |_| format!(r#"{{"upload_url": "{store}/x"}}"#));
        expect_refusal(&url, Content::Bytes(b"content"), "as the store says; will retry");
    }
}
