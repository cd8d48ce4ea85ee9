//! Gateways that speak the binary subprotocol, and say what no server of Matyan says.

use std::{
    io::Write as _,
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use matyan_proto::ingest::v1::{Rejection, StreamBatch, StreamRequest, StreamResponse, stream_request};
use matyan_tests::eventually_blocking;
use matyan_wire::headers::BINARY_SUBPROTOCOL;
use prost::Message as _;
use tokio_tungstenite::tungstenite::{
    self, Message, WebSocket,
    handshake::server::{ErrorResponse, Request, Response},
    http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::run;

/// Pause between two checks.
const PIECE: Duration = Duration::from_millis(20);

pub(crate) type Socket = WebSocket<TcpStream>;

/// A gateway that accepts connections with the binary subprotocol, and talks on each of them. Returns its URL.
pub(crate) fn socket_gateway(talk: impl Fn(&mut Socket) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("the listener has an address"));
    let talk = Arc::new(talk);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("a client connects");
            let talk = talk.clone();
            thread::spawn(move || {
                // Requests other than handshakes are ignored.
                if let Ok(mut socket) = tungstenite::accept_hdr(stream, choose_binary) {
                    talk(&mut socket);
                }
            });
        }
    });
    url
}

#[expect(clippy::result_large_err, reason = "the type is prescribed by the WebSocket library")]
fn choose_binary(_: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(BINARY_SUBPROTOCOL));
    Ok(response)
}

/// Returns the next batch of a client, or `None` if it has left.
fn next_batch(socket: &mut Socket) -> Option<StreamBatch> {
    loop {
        let Message::Binary(frame) = socket.read().ok()? else { continue };
        let request = StreamRequest::decode(frame).expect("the frame is valid").message;
        if let Some(stream_request::Message::Batch(batch)) = request {
            return Some(batch);
        }
    }
}

/// Answers every batch, until the client has left.
fn answer_batches(socket: &mut Socket, answer: impl Fn(u64) -> StreamResponse) {
    while let Some(batch) = next_batch(socket) {
        if socket.send(Message::binary(answer(batch.sequence).encode_to_vec())).is_err() {
            return;
        }
    }
}

fn stored(sequence: u64) -> StreamResponse {
    StreamResponse { sequence, ..StreamResponse::default() }
}

#[test]
fn rule_74_a_flood_of_messages_stops_no_other_run() {
    // Empty responses, pings and pongs.
    for message in [b"\x82\x00", b"\x89\x00", b"\x8a\x00"] {
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = is_over.clone();
        let hostile = socket_gateway(move |socket| {
            let messages = message.repeat(8 << 10);
            while !stop.load(Ordering::Relaxed) && socket.get_mut().write_all(&messages).is_ok() {}
        });
        let honest = socket_gateway(|socket| answer_batches(socket, stored));
        let spools = tempfile::tempdir().unwrap();
        let flooded = run(&hostile, spools.path());
        let other = run(&honest, spools.path());
        assert!(other.flush(Duration::from_secs(10)), "{:?}", other.health());
        eventually_blocking("the connection is given up", || {
            flooded.flush(PIECE);
            let health = flooded.health();
            let is_given_up = health.last_error.as_ref().is_some_and(|error| error.contains("nothing new"));
            if is_given_up { Ok(()) } else { Err(health) }
        });
        assert!(flooded.health().pending > 0, "{message:?}");
        is_over.store(true, Ordering::Relaxed);
    }
}

#[test]
fn rule_75_what_a_server_rejects_is_counted_and_reported_in_one_short_line() {
    let hostile = socket_gateway(|socket| {
        let Some(batch) = next_batch(socket) else { return };
        let reason = "no\nERROR\u{1b}[2J".repeat(1 << 16);
        let rejection = Rejection { count: 1, reason, ..Rejection::default() };
        let response = StreamResponse {
            rejections: vec![rejection],
            rejected_items: u32::MAX,
            ..stored(batch.sequence)
        };
        let reason = CloseFrame { code: CloseCode::Again, reason: "UNAVAILABLE: no\nERROR\u{1b}[2J".into() };
        let sent = socket.send(Message::binary(response.encode_to_vec()));
        // A client that has left needs no reason.
        drop(sent.and_then(|()| socket.close(Some(reason))));
        while socket.read().is_ok() {}
    });
    let spools = tempfile::tempdir().unwrap();
    let run = run(&hostile, spools.path());
    let error = eventually_blocking("the connection is closed", || {
        run.flush(PIECE);
        run.health().last_error.filter(|error| error.contains("UNAVAILABLE")).ok_or_else(|| run.health())
    });
    assert!(error.contains("no\\nERROR\\u{1b}[2J"), "{error}");
    // However many values it counts, there was only one.
    assert_eq!((run.health().pending, run.health().dropped), (0, 1));
    let notices = run.notices();
    assert!(notices.iter().any(|notice| notice.message.contains("no\\nERROR\\u{1b}")), "{notices:?}");
    let is_short_line = |message: &str| !message.contains(['\n', '\u{1b}']) && message.len() < 4 << 10;
    assert!(notices.iter().all(|notice| is_short_line(&notice.message)), "{notices:?}");
}

#[test]
fn rule_93_an_acknowledgement_of_what_was_never_sent_loses_nothing() {
    let is_honest = Arc::new(AtomicBool::new(false));
    let decided = is_honest.clone();
    let gateway = socket_gateway(move |socket| {
        // As if it were the last batch of all.
        let answer = |sequence| stored(if decided.load(Ordering::Relaxed) { sequence } else { u64::MAX });
        answer_batches(socket, answer);
    });
    let spools = tempfile::tempdir().unwrap();
    let run = run(&gateway, spools.path());
    eventually_blocking("the connection is given up", || {
        run.flush(PIECE);
        let health = run.health();
        let is_given_up = health.last_error.as_ref().is_some_and(|error| error.contains("never sent"));
        if is_given_up { Ok(()) } else { Err(health) }
    });
    assert!(run.health().pending > 0);
    is_honest.store(true, Ordering::Relaxed);
    assert!(run.flush(Duration::from_secs(30)), "{:?}", run.health());
}
