//! The JSON protocol: acks, repeats, holding, invalid input, limits, keep-alive, and shutdown.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use matyan_edge::Settings;
use matyan_proto::ingest::v1::Rejection;
use matyan_proto::ingest::v1::event::Kind;
use matyan_wire::rows;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::frontier::Received;
use super::server::{Client, Server};

fn metric(name: &str, value: impl std::fmt::Display) -> String {
    format!(
        r#"{{"type": "log_metric", "name": "{name}", "value": {value}, "step": 1, "epoch": null, "context": null,
           "dtype": "float", "client_datetime": "2024-01-02T03:04:05+00:00"}}"#
    )
}

fn tag(name: &str) -> String {
    format!(r#"{{"type": "add_tag", "tag_name": "{name}"}}"#)
}

#[tokio::test]
async fn every_frame_gets_its_ack_in_order() {
    let server = Server::start().await;
    let mut client = server.connect("run_1").await;
    client.send(&tag("a")).await;
    client.send("{bad").await;
    client.send(&format!("[{}, {}]", metric("m", 0.5), metric("n", "NaN"))).await;
    client.send("[]").await;
    client.ok().await;
    assert!(client.error().await.contains("not JSON"));
    client.ok().await;
    client.ok().await;
    let received = server.frontier.received();
    assert_eq!(received.len(), 2);
    assert!(received.iter().all(|it| it.run_id == "run_1"));
    assert!(matches!(&received[0].batch.events[0].kind, Some(Kind::AddTag(tag)) if tag.name == "a"));
    let points = &received[1].batch.points[0];
    assert_eq!(points.series, [0, 1]);
    assert_eq!(points.values[0], 0.5);
    assert_eq!(points.values[1].to_bits(), f64::NAN.to_bits());
    assert_eq!(server.frontier.streams(), 1);
}

#[tokio::test]
async fn the_path_is_normalized_and_decoded() {
    let server = Server::start().await;
    let mut client = server.connect_to("//api/v1/ws/runs/a%20b").await.unwrap();
    client.send(&tag("a")).await;
    client.ok().await;
    assert_eq!(server.frontier.received()[0].run_id, "a b");
}

#[tokio::test]
async fn a_foreign_page_cannot_open_a_socket() {
    let server = Server::start().await;
    let connect = async |origin: &str| {
        let url = format!("ws://{}/api/v1/ws/runs/r", server.address);
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("origin", origin.parse().unwrap());
        tokio_tungstenite::connect_async(request).await
    };
    for own in [&format!("http://{}", server.address), "http://localhost:3000"] {
        connect(own).await.unwrap();
    }
    let refused = connect("http://evil.example").await;
    let Err(Error::Http(answer)) = refused else { panic!("expected an HTTP error, found {refused:?}") };
    assert_eq!(answer.status(), 403);
    let text = String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default()).into_owned();
    assert!(text.contains("http://evil.example") && text.contains("CORS_ORIGINS"), "{text}");
}

#[tokio::test]
async fn a_socket_under_a_foreign_name_is_refused() {
    let server = Server::start().await;
    let connect = async |host: &str| {
        let url = format!("ws://{}/api/v1/ws/runs/r", server.address);
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("host", host.parse().unwrap());
        tokio_tungstenite::connect_async(request).await
    };
    connect("localhost").await.unwrap();
    let refused = connect("evil.example").await;
    let Err(Error::Http(answer)) = refused else { panic!("expected an HTTP error, found {refused:?}") };
    assert_eq!(answer.status(), 421);
}

#[tokio::test]
async fn rule_06_a_repeated_frame_shares_the_ack_of_the_first() {
    let server = Server::start().await;
    let mut client = server.connect("r").await;
    server.frontier.change(|it| it.hold = true);
    for _ in 0..3 {
        client.send(&tag("a")).await;
    }
    client.send(&tag("b")).await;
    server.frontier.wait_for(2).await;
    server.frontier.change(|it| it.hold = false);
    client.ok().await;
    client.ok().await;
    // After its ack the same frame is new.
    client.send(&tag("b")).await;
    client.ok().await;
    let names: Vec<String> =
        server.frontier.received().iter().map(|it| format!("{:?}", it.batch.events[0].kind)).collect();
    assert_eq!(names.len(), 3);
    assert_eq!(names[1], names[2]);
    assert_eq!(server.metric("matyan_ws_resent_frames_total").await, "2");
}

/// A frame with this many long names.
fn names(prefix: &str, count: usize) -> String {
    let long = "n".repeat(1_000);
    let metrics: Vec<_> =
        (0..count).map(|number| metric(&format!("{prefix}{long}{number}"), number)).collect();
    format!("[{}]", metrics.join(","))
}

#[tokio::test]
async fn a_dictionary_over_the_budget_starts_again() {
    let server = Server::start_with(Settings { dictionary_bytes: 0, ..Settings::default() }).await;
    let mut client = server.connect("r").await;
    // The first names need no budget. The next ones do, and are forgotten after their frame.
    for frame in [names("a", 20), names("b", 100), names("b", 100), names("a", 20)] {
        client.send(&frame).await;
        client.ok().await;
    }
    let received = server.frontier.received();
    let places: Vec<_> =
        received.iter().map(|it| (it.sequence, it.batch.series_base, it.batch.series.len())).collect();
    assert_eq!(places, [(1, 0, 20), (2, 20, 100), (1, 0, 100), (1, 0, 20)]);
    let producers: BTreeSet<_> = received.iter().map(|it| it.producer_id.clone()).collect();
    assert_eq!(producers.len(), 3);
    assert_eq!(
        received.iter().map(|it| rows::count(&it.batch.points[0])).collect::<Vec<_>>(),
        [20, 100, 100, 20]
    );
}

#[tokio::test]
async fn the_largest_dictionary_makes_room_for_others() {
    let server = Server::start_with(Settings { dictionary_bytes: 1_400_000, ..Settings::default() }).await;
    let mut idle = server.connect("idle").await;
    let mut other = server.connect("other").await;
    let producers = |run_id: &str| {
        let received = server.frontier.received().into_iter().filter(|it| it.run_id == run_id);
        received.map(|it| it.producer_id).collect::<Vec<_>>()
    };
    let large = names("a", 900);
    for _ in 0..2 {
        idle.send(&large).await;
        idle.ok().await;
    }
    let before = producers("idle");
    assert_eq!(BTreeSet::from_iter(&before).len(), 1, "it has room while it is alone");
    // They fit once the largest dictionary is gone.
    for _ in 0..3 {
        for prefix in ["x", "y"] {
            other.send(&names(prefix, 300)).await;
            other.ok().await;
        }
    }
    let [.., first, second] = &producers("other")[..] else { panic!("six batches") };
    assert_eq!(first, second);
    idle.send(&large).await;
    idle.ok().await;
    assert_ne!(producers("idle").last(), before.last());
}

/// A frame of `bytes` bytes with one item.
fn line(bytes: usize) -> String {
    let frame = r#"{"type": "log_terminal_line", "step": 0, "line": ""}"#;
    frame.replace("\"\"}", &format!("\"{}\"}}", "x".repeat(bytes - frame.len())))
}

#[tokio::test]
async fn rule_06_while_a_frame_waits_pings_are_answered_and_a_repeat_shares_its_ack() {
    for bytes in [100, 5 << 20, 16 << 20] {
        let server = Server::start().await;
        let mut client = server.connect("r").await;
        server.frontier.change(|it| it.hold = true);
        let frame = line(bytes);
        client.send(&frame).await;
        server.frontier.wait_for(1).await;
        for _ in 0..2 {
            client.send(&frame).await;
            client.socket.send(Message::Ping(Bytes::from_static(b"x"))).await.unwrap();
            assert_eq!(client.message().await.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"x")));
        }
        server.frontier.change(|it| it.hold = false);
        client.ok().await;
        // The next ack belongs to the next frame.
        client.send("{bad").await;
        client.error().await;
        assert_eq!(server.frontier.received().len(), 1);
        assert_eq!(server.metric("matyan_ws_resent_frames_total").await, "2");
    }
}

#[tokio::test]
async fn invalid_input_gets_an_error_ack_and_the_connection_stays_open() {
    let server = Server::start().await;
    let mut client = server.connect("r").await;
    let mut check = async |frame: Message, expected: &str| {
        client.socket.send(frame).await.unwrap();
        let error = client.error().await;
        assert!(error.contains(expected), "{error}");
    };
    check(Message::text("5"), "not an integer").await;
    check(Message::text("\"x\""), "not text").await;
    check(Message::text("null"), "not null").await;
    check(Message::text(""), "not JSON").await;
    check(Message::text("[1]"), "item 0: a message is an object").await;
    check(Message::binary(vec![0, 1]), "JSON text").await;
    check(Message::text(r#"{"type": "nope"}"#), "item 0: type: no message type").await;
    let frame = format!("[{}, {}, {}]", metric("m", 1), metric("m", "\"x\""), metric("m", 2));
    check(Message::text(frame), "item 1: value: expected a number").await;
    client.send(r#"{"type":"add_tag","tag_name":"\ud800"}"#).await;
    client.ok().await;
    let received = server.frontier.received();
    assert_eq!(received[0].batch.points[0].values, [1.0, 2.0]);
    assert!(matches!(&received[1].batch.events[0].kind, Some(Kind::AddTag(tag)) if tag.name == "\u{fffd}"));
    assert_eq!(server.metric("matyan_ws_error_acks_total").await, "8");
}

#[tokio::test]
async fn items_rejected_by_the_frontier_are_reported_by_their_index_in_the_frame() {
    let server = Server::start().await;
    let mut client = server.connect("r").await;
    // In the batch: the tag is item 0, then the points of items 0, 2 and 3.
    let frame = format!("[{}, {}, {}, {}]", metric("a", 1), tag("t"), metric("b", 2), metric("c", 3));
    server.frontier.change(|it| {
        let rejection = |item, count, field: &str| Rejection {
            item,
            count,
            field: field.into(),
            reason: "is too long".into(),
        };
        it.reject_next = vec![rejection(0, 1, "name"), rejection(2, 2, "series")];
    });
    client.send(&frame).await;
    assert_eq!(
        client.error().await,
        "item 1: name: is too long; item 2: series: is too long (the same in item 3)"
    );
    client.send(&frame).await;
    client.ok().await;

    // Rejections by the edge and the frontier are combined, in the order of the frame.
    server.frontier.change(|it| {
        it.reject_next =
            vec![Rejection { item: 0, count: 1, field: "name".into(), reason: "is too long".into() }];
    });
    client.send(&format!("[{}, 5]", tag("t"))).await;
    assert_eq!(
        client.error().await,
        "item 0: name: is too long; item 1: a message is an object, not an integer"
    );
}

#[tokio::test]
async fn a_failed_stream_is_reopened_and_unacknowledged_batches_are_resent() {
    let server = Server::start().await;
    let mut client = server.connect("r").await;
    client.send(&metric("a", 1)).await;
    client.ok().await;
    server.frontier.change(|it| {
        it.hold = true;
        it.fail_next = [Status::unavailable("the log is away")].into();
    });
    client.send(&metric("a", 2)).await;
    client.send("{bad").await;
    client.send(&metric("b", 3)).await;
    server.frontier.wait_for(3).await;
    server.frontier.change(|it| it.hold = false);
    client.ok().await;
    client.error().await;
    client.ok().await;
    let received = server.frontier.received();
    let text: Vec<_> = received.iter().map(|it| (it.stream, it.sequence, it.batch.series_base)).collect();
    assert_eq!(text, [(0, 1, 0), (0, 2, 1), (0, 3, 1), (1, 2, 1), (1, 3, 1)]);
    assert_eq!(received[3].batch, received[1].batch);
    assert_eq!(received[4].batch, received[2].batch);
    assert_eq!(producers(&received), 1, "the log can only drop repeats of the same producer");
    assert_eq!(server.metric("matyan_ws_reopened_streams_total").await, "1");
}

/// Sends two frames, whose stream fails before it has answered, so that the log may have both; the next streams
/// end as given.
async fn send_two_in_doubt(server: &Server, client: &mut Client, ends: Vec<Status>) {
    client.send(&metric("a", 1)).await;
    client.ok().await;
    server.frontier.change(|it| {
        it.hold = true;
        it.fail_next = [Status::unavailable("the log is away")].into();
        it.fail_next.extend(ends);
    });
    client.send(&metric("b", 2)).await;
    client.send(&metric("c", 3)).await;
    server.frontier.wait_for(3).await;
    server.frontier.change(|it| it.hold = false);
}

/// The log may have the refused frame, although no stream that reports this is ever acknowledged. The time for which
/// frames are held is 40 s, which no answer may take.
#[tokio::test]
async fn rule_89_a_refused_frame_in_doubt_lets_later_frames_pass() {
    let server = Server::start().await;
    let mut client = server.connect("r").await;
    send_two_in_doubt(&server, &mut client, vec![Status::failed_precondition("no more")]).await;
    assert_eq!(client.error().await, "no more");
    client.ok().await;
    let received = server.frontier.received();
    let text: Vec<_> = received.iter().map(|it| (it.stream, it.sequence, it.batch.points.len())).collect();
    // The log drops the batches that it has already, and finds no gap: the refused frame is sent without its point.
    assert_eq!(text, [(0, 1, 1), (0, 2, 1), (0, 3, 1), (1, 2, 1), (1, 3, 1), (2, 2, 0), (2, 3, 1)]);
    let defined: Vec<_> = received[5].batch.series.iter().map(|series| series.name.as_str()).collect();
    assert_eq!(defined, ["b"], "the frame after it counts on its series");
    assert_eq!(producers(&received), 1, "the log can only drop repeats of the same producer");
    client.send(&metric("b", 4)).await;
    client.ok().await;
    assert_eq!(server.frontier.received()[7].sequence, 4);
}

#[tokio::test]
async fn rule_89_a_producer_of_which_nothing_is_accepted_is_given_up() {
    let server = Server::start().await;
    let mut client = server.connect("r").await;
    let refused = Status::failed_precondition("no more");
    send_two_in_doubt(&server, &mut client, vec![refused.clone(), refused]).await;
    assert_eq!(client.error().await, "no more");
    assert_eq!(client.error().await, "no more");
    client.send(&metric("b", 4)).await;
    client.ok().await;
    let received = server.frontier.received();
    let last = received.last().unwrap();
    assert_eq!((last.sequence, last.batch.series_base, producers(&received)), (1, 0, 2));
}

/// Number of distinct producers; each id has 16 bytes.
fn producers(received: &[Received]) -> usize {
    assert!(received.iter().all(|it| it.producer_id.len() == 16));
    received.iter().map(|it| &it.producer_id).collect::<BTreeSet<_>>().len()
}

/// Sends two frames, the second long after the first, while the frontier answers neither, until
/// the first is rejected two seconds after its hold time.
async fn first_given_up(server: &Server, client: &mut Client) {
    server.frontier.change(|it| it.hold = true);
    client.send(&metric("m", 1)).await;
    server.frontier.wait_for(1).await;
    tokio::time::sleep(HOLD).await;
    client.send(&metric("m", 2)).await;
    server.frontier.wait_for(2).await;
    assert!(client.error().await.contains("not stored within"));
}

/// Far longer than it takes to transmit a frame.
const HOLD: Duration = Duration::from_secs(4);

#[tokio::test]
async fn rule_06_a_frame_after_a_rejected_one_is_not_duplicated() {
    let server = Server::start_with(Settings { hold: HOLD, ..Default::default() }).await;
    let mut client = server.connect("r").await;
    first_given_up(&server, &mut client).await;
    server.frontier.change(|it| it.hold = false);
    client.ok().await;
    // Both were already in the log, and are sent again as repeats.
    let received = server.frontier.received();
    let text: Vec<_> = received.iter().map(|it| (it.stream, it.sequence)).collect();
    assert_eq!(text, [(0, 1), (0, 2), (1, 1), (1, 2)]);
    assert_eq!(producers(&received), 1);
    // Later frames get a new producer, because the client may resend what was reported as
    // failed.
    client.send(&metric("m", 1)).await;
    client.ok().await;
    let received = server.frontier.received();
    assert_eq!((received[4].sequence, received[4].batch.series_base, producers(&received)), (1, 0, 2));
}

#[tokio::test]
async fn a_frame_after_an_error_waits_for_those_of_the_previous_producer() {
    let server = Server::start_with(Settings { hold: HOLD, ..Default::default() }).await;
    let mut client = server.connect("r").await;
    first_given_up(&server, &mut client).await;
    server.frontier.wait_for(4).await;
    client.send(&metric("m", 3)).await;
    client.send("{bad").await;
    server.frontier.change(|it| it.hold = false);
    client.ok().await;
    client.ok().await;
    assert!(client.error().await.contains("not JSON"));
    let received = server.frontier.received();
    assert_eq!((received.len(), producers(&received)), (5, 2));
    assert_eq!((received[4].sequence, received[4].batch.points[0].values[0]), (1, 3.0));
}

#[tokio::test]
async fn a_permanently_rejected_frame_is_not_retried() {
    let server = Server::start().await;
    let mut client = server.connect("..").await;
    server.frontier.change(|it| it.fail_next = [Status::invalid_argument("`run_id` is `..`")].into());
    client.send(&tag("a")).await;
    assert_eq!(client.error().await, "`run_id` is `..`");
    client.send(&tag("b")).await;
    client.ok().await;
    assert_eq!(server.frontier.received().len(), 2);
}

/// A rejection would make the client drop the frame.
#[tokio::test]
async fn rule_55_a_socket_ends_without_a_rejection_when_its_token_or_its_role_is_revoked() {
    let message = "it was revoked";
    let refusals = [
        Status::unauthenticated(message),
        Status::permission_denied(message),
        // The last role of the project.
        Status::not_found(message),
    ];
    for refused in refusals {
        let server = Server::start().await;
        let mut client = server.connect("r").await;
        server.frontier.change(|it| it.fail_next = [refused].into());
        client.send(&tag("a")).await;
        let (code, reason) = client.closed().await;
        assert_eq!((code, reason.as_str()), (CloseCode::Policy, message));
    }
}

#[tokio::test]
async fn a_frame_is_rejected_after_the_hold_time_and_later_frames_succeed() {
    let hold = Duration::from_millis(200);
    let server = Server::start_with(Settings { hold, ..Default::default() }).await;
    let mut client = server.connect("r").await;
    server.frontier.change(|it| it.hold = true);
    client.send(&tag("a")).await;
    assert!(client.error().await.contains("not stored within"));
    server.frontier.change(|it| it.hold = false);
    client.send(&tag("b")).await;
    client.ok().await;
}

#[tokio::test]
async fn an_unavailable_log_leads_to_an_error_ack() {
    let hold = Duration::from_millis(300);
    let server = Server::start_with(Settings { hold, ..Default::default() }).await;
    let mut client = server.connect("r").await;
    let away = server.frontier.clone();
    // Every stream fails at its first batch.
    let failing = tokio::spawn(async move {
        loop {
            away.change(|it| it.fail_next = [Status::unavailable("away")].into());
            tokio::task::yield_now().await;
        }
    });
    client.send(&tag("a")).await;
    assert!(client.error().await.contains("not stored within 0 s: away"));
    failing.abort();
    assert!(server.frontier.received().len() > 2, "the batch must be retried meanwhile");
}

#[tokio::test]
async fn a_flood_is_read_only_up_to_the_limit() {
    let server = Server::start().await;
    let client = server.connect("r").await;
    server.frontier.change(|it| it.hold = true);
    let (mut sink, mut stream) = client.socket.split();
    let sending = tokio::spawn(async move {
        for number in 0..2000 {
            sink.send(Message::text(tag(&number.to_string()))).await.unwrap();
        }
        sink
    });
    server.frontier.wait_for(128).await;
    server.frontier.change(|it| it.hold = false);
    for _ in 0..2000 {
        while !matches!(stream.next().await.unwrap().unwrap(), Message::Text(_)) {}
    }
    drop(sending.await.unwrap());
    assert!(server.frontier.most_waiting() <= 128, "{}", server.frontier.most_waiting());
    let tags: Vec<String> = server
        .frontier
        .received()
        .iter()
        .map(|it| match &it.batch.events[0].kind {
            Some(Kind::AddTag(tag)) => tag.name.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(tags, (0..2000).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_memory_budget_bounds_all_connections_together() {
    // Room for one of the largest frames. A connection that waits for room must not be
    // considered dead.
    let ping_interval = Duration::from_millis(250);
    let server = Server::start_with(Settings { total_bytes: 0, ping_interval, ..Default::default() }).await;
    let mut first = server.connect("first").await;
    server.frontier.change(|it| it.hold = true);
    first.send(&line(5 << 20)).await;
    server.frontier.wait_for(1).await;
    let first = tokio::spawn(async move { first.ok().await });
    let second = server.connect("second").await;
    let (mut sink, mut answers) = second.socket.split();
    let second = tokio::spawn(async move {
        sink.send(Message::text(line(5 << 20))).await.unwrap();
        // Reading answers the pings.
        while !matches!(answers.next().await.unwrap().unwrap(), Message::Text(_)) {}
    });
    // Meanwhile, small frames are read on any connection.
    let mut small = server.connect("small").await;
    small.send(&tag("a")).await;
    server.frontier.wait_for(2).await;
    for _ in 0..6 {
        let ping = small.message().await.unwrap().unwrap();
        assert!(matches!(ping, Message::Ping(_)), "{ping:?}");
    }
    assert_eq!(server.frontier.received().len(), 2, "the second large frame must not be read yet");
    server.frontier.change(|it| it.hold = false);
    small.ok().await;
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(server.frontier.received().len(), 3);
}

#[tokio::test]
async fn frames_up_to_the_limit_are_accepted_and_larger_ones_close_the_connection() {
    let server = Server::start().await;
    let mut client = server.connect("r").await;
    let largest = line(16 << 20);
    assert_eq!(largest.len(), 16 << 20);
    client.send(&largest).await;
    client.ok().await;
    // The server may close the connection before it has read the whole frame.
    let sent = client.socket.send(Message::text(line((16 << 20) + 1))).await;
    let (code, reason) = client.closed().await;
    assert_eq!(code, CloseCode::Size, "{sent:?}");
    assert!(reason.contains("16777216 bytes"), "{reason}");
}

#[tokio::test]
async fn a_dead_peer_is_disconnected_and_a_live_one_is_kept() {
    let ping_interval = Duration::from_millis(100);
    let server = Server::start_with(Settings { ping_interval, ..Default::default() }).await;
    let mut alive = server.connect("alive").await;
    // A peer that answers no pings: a raw socket that only performs the handshake.
    let mut silent = tokio::net::TcpStream::connect(&server.address).await.unwrap();
    let handshake = "GET /api/v1/ws/runs/silent HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                     sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut silent, handshake.as_bytes()).await.unwrap();
    let mut everything = Vec::new();
    let ended = tokio::io::AsyncReadExt::read_to_end(&mut silent, &mut everything);
    let keeping = async {
        // Reading answers the pings.
        for _ in 0..6 {
            assert!(matches!(alive.message().await.unwrap().unwrap(), Message::Ping(_)));
        }
    };
    let (ended, ()) = tokio::join!(ended, keeping);
    assert!(ended.is_ok());
    alive.send(&tag("a")).await;
    alive.ok().await;
}

#[tokio::test]
async fn shutdown_acknowledges_received_frames_and_closes_with_the_last_ack() {
    let server = Server::start().await;
    let mut busy = server.connect("busy").await;
    let mut idle = server.connect("idle").await;
    idle.send(&tag("i")).await;
    idle.ok().await;
    server.frontier.change(|it| it.hold = true);
    busy.send(&tag("a")).await;
    server.frontier.wait_for(2).await;
    server.stop();
    assert_eq!(idle.closed().await.0, CloseCode::Restart);
    // The port accepts no connections while the frame is still waiting.
    assert!(matches!(server.connect_to("/api/v1/ws/runs/late").await, Err(Error::Io(_))));
    server.frontier.change(|it| it.hold = false);
    busy.ok().await;
    assert_eq!(busy.closed().await.0, CloseCode::Restart);
    server.stopped().await;
}

#[tokio::test]
async fn shutdown_accepts_a_frame_that_has_begun() {
    let server = Server::start().await;
    let mut writing = server.connect("writing").await;
    let mut idle = server.connect("idle").await;
    let text = tag("last");
    // A client frame with a mask of zeros, which changes nothing.
    let frame = [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat();
    let (begin, end) = frame.split_at(frame.len() / 2);
    writing.socket.get_mut().write_all(begin).await.unwrap();
    server.stop();
    // A connection without an unfinished frame is closed immediately.
    assert_eq!(idle.closed().await.0, CloseCode::Restart);
    writing.socket.get_mut().write_all(end).await.unwrap();
    writing.ok().await;
    assert_eq!(writing.closed().await.0, CloseCode::Restart);
    assert_eq!(server.frontier.received().len(), 1);
    server.stopped().await;
}

async fn refusal(server: &Server) -> u16 {
    match server.connect_to("/api/v1/ws/runs/r").await {
        Err(Error::Http(response)) => response.status().as_u16(),
        Ok(_) => panic!("the connection was accepted"),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn load_is_shed_with_503() {
    let server = Server::start_with(Settings { max_connections: 1, ..Default::default() }).await;
    let mut only: Client = server.connect("r").await;
    assert_eq!(refusal(&server).await, 503);
    only.send(&tag("a")).await;
    only.ok().await;

    let server = Server::start().await;
    server.frontier.change(|it| it.not_ready = true);
    assert_eq!(refusal(&server).await, 503);
    assert_eq!(server.metric("matyan_ws_refused_total").await, "1");
}

/// The refusal of a project that has used up a quota.
fn used_up() -> Status {
    let metadata =
        [("quota", "bytes"), ("limit", "1")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let details = ErrorDetails::with_error_info("UNAVAILABLE", "matyan", HashMap::from(metadata));
    Status::with_error_details(tonic::Code::Unavailable, "the quota is used up", details)
}

#[tokio::test]
async fn rule_132_a_socket_is_refused_with_503_while_a_quota_is_used_up() {
    let server = Server::start().await;
    server.frontier.change(|it| it.refusal = Some(used_up()));
    let refused = server.connect_to("/api/v1/ws/runs/r").await.map(drop);
    let Err(Error::Http(answer)) = refused else { panic!("expected an HTTP error, found {refused:?}") };
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "30");
    let text = String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default()).into_owned();
    assert!(text.contains("the quota is used up"), "{text}");
    // Any other refusal is the answer to the first frame.
    server.frontier.change(|it| it.refusal = Some(Status::not_found("no such project")));
    server.connect("r").await;
}

/// An error ack would make the client drop the frame, and so would holding the frame for longer than the hold time.
#[tokio::test]
async fn rule_132_a_socket_ends_without_a_rejection_when_a_quota_is_used_up() {
    let server = Server::start().await;
    let mut client = server.connect("r").await;
    server.frontier.change(|it| it.fail_next = [used_up()].into());
    client.send(&tag("a")).await;
    let (code, reason) = client.closed().await;
    assert_eq!((code, reason.as_str()), (CloseCode::Again, "the quota is used up"));
}

#[tokio::test]
async fn a_disconnected_client_leaves_no_open_connection() {
    let server = Server::start().await;
    let mut client = server.connect("r").await;
    server.frontier.change(|it| it.hold = true);
    client.send(&tag("a")).await;
    server.frontier.wait_for(1).await;
    drop(client);
    server.frontier.change(|it| it.hold = false);
    server.stop();
    let metrics = server.edge.clone();
    server.stopped().await;
    let request = http::Request::get("/metrics").body(axum::body::Body::empty()).unwrap();
    let response = metrics.answer(request).await;
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    assert!(String::from_utf8(body.to_vec()).unwrap().contains("matyan_ws_connections_active 0"));
}
