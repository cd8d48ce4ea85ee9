//! A server in the hands of somebody else, to which a user was talked into sending data: it gets the token that is for it,
//! and neither the tokens of other servers, nor the memory of this process, nor its terminal.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use matyan_sdk::{
    AccessToken,
    http::{RestRequest, Timeouts},
    reading::{AskedToken, BackendClient, BackendOptions},
};

/// The heads of the requests that a server has got.
type Heads = Arc<Mutex<Vec<String>>>;

/// A server that answers every request in the same way, until it cannot write any more. Returns its URL.
fn server(answer: impl Fn(&mut TcpStream) + Send + 'static) -> (String, Heads) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("the listener has an address"));
    let heads = Heads::default();
    let seen = heads.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client connects");
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                head.push(byte[0]);
            }
            seen.lock().expect("no test has panicked").push(String::from_utf8_lossy(&head).to_lowercase());
            answer(&mut stream);
        }
    });
    (url, heads)
}

/// A server that sends this text.
fn server_with(answer: String) -> (String, Heads) {
    server(move |stream| {
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
    // A program that asks for a token sends none, also not the one that it has.
    AccessToken::new("mtk_that-has-ended").unwrap().use_for(&second);
    drop(client(&second).begin_login(AskedToken::default()));
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|head| !head.contains("authorization")), "{seen:?}");
}

#[test]
fn rule_74_an_endless_error_is_read_in_part() {
    let (url, _) = server(|stream| {
        let head = "HTTP/1.1 500 Internal Server Error\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        let mut is_open = stream.write_all(head.as_bytes()).is_ok();
        while is_open {
            is_open = stream.write_all(chunk.as_bytes()).is_ok();
        }
    });
    let error = error_of(&url);
    assert!(error.contains("500"), "{}", &error[..error.len().min(200)]);
    assert!(error.len() <= 128 << 10, "the error has {} bytes", error.len());
}

#[test]
fn rule_74_a_frame_that_is_announced_too_large_is_refused_before_it_arrives() {
    let (url, _) = server(|stream| {
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
