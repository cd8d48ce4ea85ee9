use std::future::poll_fn;
use std::io;

use futures::StreamExt;
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::slow_sender::WINDOW;
use crate::unread_response::{UNREAD, drop_if_unread};

/// A smallest possible budget, and a connection.
fn budget() -> (BodyBudget, ConnectionBudget) {
    let budget = BodyBudget::new(0);
    let connection = budget.of_connection();
    (budget, connection)
}

/// A body that is sent by the test.
fn sent_body() -> (mpsc::Sender<Bytes>, Body) {
    let (sender, pieces) = mpsc::channel(1_000);
    (sender, Body::from_stream(ReceiverStream::new(pieces).map(Ok::<_, io::Error>)))
}

fn prefix(bytes: u32) -> Bytes {
    let mut prefix = vec![0];
    prefix.extend_from_slice(&bytes.to_be_bytes());
    prefix.into()
}

/// The body of a call with many messages.
fn metered_messages(body: Body, budget: &BodyBudget, connection: &ConnectionBudget) -> Body {
    let share = BodyShare::new(budget.clone(), Some(connection));
    metered(body, CallShare::new(Mutex::new(share)), Messages::Many)
}

#[test]
fn messages_are_followed_over_frames() {
    let mut framing = Framing::default();
    let check = |framing: &mut Framing, bytes: &[u8], expected: (usize, Option<usize>), is_between: bool| {
        assert_eq!((framing.follow(bytes), framing.is_between_messages()), (expected, is_between));
    };
    check(&mut framing, &[0, 0], (2, None), false);
    check(&mut framing, &[0, 0, 3], (3, Some(3)), false);
    check(&mut framing, &[1, 1], (2, None), false);
    // The end of a message, before the next one starts.
    check(&mut framing, &[1, 0], (1, None), true);
    check(&mut framing, &[0, 0, 0, 0, 2, 1, 1, 0], (7, Some(2)), true);
    check(&mut framing, &[0, 0, 0, 0, 0, 0], (5, Some(0)), true);
    check(&mut framing, &[0, 0, 0, 0, 9, 1], (6, Some(9)), false);
}

#[tokio::test]
async fn a_connection_waits_for_its_own_bodies_and_others_do_not() {
    let (budget, connection) = budget();
    let begin = async |connection: &ConnectionBudget| {
        let (sender, body) = sent_body();
        let mut body = metered_messages(body, &budget, connection);
        sender.send(prefix(MESSAGE_BYTES as u32)).await.unwrap();
        sender.send(vec![0; MESSAGE_BYTES - 1].into()).await.unwrap();
        body.frame().await.unwrap().unwrap();
        (sender, body)
    };
    let (first_sender, mut first) = begin(&connection).await;
    first.frame().await.unwrap().unwrap();
    // A message of maximum size is the whole share of its connection.
    let (_sender, mut second) = begin(&connection).await;
    assert!(futures::poll!(std::pin::pin!(second.frame())).is_pending());
    let (_sender, mut other) = begin(&budget.of_connection()).await;
    other.frame().await.unwrap().unwrap();
    // The service has the whole message, and keeps it until it asks for another. It arrived
    // together with the start of the next message.
    first_sender.send([&[0][..], &prefix(1)].concat().into()).await.unwrap();
    assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap().len(), 1);
    assert!(futures::poll!(std::pin::pin!(second.frame())).is_pending());
    assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap().len(), PREFIX_BYTES);
    second.frame().await.unwrap().unwrap();
}

#[tokio::test]
async fn small_bodies_wait_for_small_ones_of_their_connection_only() {
    let (budget, connection) = budget();
    let message = |bytes: usize| [&prefix(bytes as u32)[..], &vec![0; bytes]].concat();
    let take = async |bytes: usize, connection: &ConnectionBudget| {
        let share = BodyShare::new(budget.clone(), Some(connection));
        let share = CallShare::new(Mutex::new(share));
        let body = metered(message(bytes).into(), share.clone(), Messages::One);
        body.collect().await.unwrap();
        share
    };
    let mut held = Vec::new();
    let share = take(SMALL_BYTES / 2, &connection).await;
    assert!(share.lock().take_large().is_none());
    for _ in 0..SMALL_BUDGET_BYTES / CONNECTION_PART / SMALL_BYTES {
        held.push(take(SMALL_BYTES - PREFIX_BYTES, &connection).await);
    }
    assert!(futures::poll!(Box::pin(take(SMALL_BYTES / 2, &connection))).is_pending());
    take(TINY_BYTES - PREFIX_BYTES, &connection).await;
    take(SMALL_BYTES, &budget.of_connection()).await;
    take(MESSAGE_BYTES - PREFIX_BYTES, &connection).await;
    drop(held);
    take(SMALL_BYTES / 2, &connection).await;
}

/// The next message may have started in the same frame.
#[tokio::test]
async fn a_small_message_of_many_keeps_its_memory_until_more_is_asked_for() {
    let (budget, connection) = budget();
    let message = [&prefix(60_000)[..], &vec![0; 60_000]].concat();
    let mut body = metered_messages(message.repeat(2).into(), &budget, &connection);
    let left = || connection.small.available_permits();
    let all = left();
    for _ in 0..2 {
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), message.len());
        assert_eq!(left(), all - 60_000);
    }
    assert!(body.frame().await.is_none());
    assert_eq!(left(), all);
}

#[tokio::test]
async fn a_body_of_unknown_size_is_small_until_it_is_large() {
    let (budget, connection) = budget();
    let mut share = BodyShare::new(budget.clone(), Some(&connection));
    let left = || [&connection.small, &connection.large].map(|it| it.available_permits());
    let [small, large] = left();
    for (received, expected) in [
        (TINY_BYTES, [small, large]),
        (1, [small - SMALL_BYTES, large]),
        (SMALL_BYTES - TINY_BYTES, [small, large - MESSAGE_BYTES]),
    ] {
        share.received(received);
        poll_fn(|context| share.poll_take(context)).await.unwrap();
        assert_eq!(left(), expected, "{}", share.bytes);
    }
    drop(share);
    assert_eq!(left(), [small, large]);
}

#[tokio::test]
async fn a_message_of_any_number_of_frames_is_passed_on_whole() {
    let (budget, connection) = budget();
    let messages: Vec<u8> = [3, 2 * SMALL_BYTES, 0, SMALL_BYTES, 2 * SMALL_BYTES, 1]
        .into_iter()
        .flat_map(|bytes| [&prefix(bytes as u32)[..], &vec![7; bytes]].concat())
        .collect();
    for frame_bytes in [1 << 10, 100_001, usize::MAX] {
        let frames: Vec<_> = messages.chunks(frame_bytes.min(messages.len())).collect();
        let frames = frames.into_iter().map(|it| Ok::<_, io::Error>(Bytes::copy_from_slice(it)));
        let body = Body::from_stream(futures::stream::iter(frames.collect::<Vec<_>>()));
        let passed = metered_messages(body, &budget, &connection).collect().await.unwrap().to_bytes();
        assert!(passed == messages, "{frame_bytes}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_keeps_the_memory_of_its_request_while_it_is_read() {
    let (budget, connection) = budget();
    // The service reads the call to its end before it handles it.
    let call = async || {
        let share = BodyShare::new(budget.clone(), Some(&connection));
        let share = CallShare::new(Mutex::new(share));
        let message = [&prefix(MESSAGE_BYTES as u32)[..], &vec![0; MESSAGE_BYTES]].concat();
        metered(message.into(), share.clone(), Messages::One).collect().await.unwrap();
        share.lock().take_large()
    };
    let is_free =
        async || budget.clone().take(connection.clone(), BodySize::Large, MESSAGE_BYTES).await.is_ok();
    let complete = drop_if_unread("answer".into(), call().await);
    assert!(is_free().await, "the service has dropped the request");
    drop(complete);

    let (sender, stream) = sent_body();
    let mut response = drop_if_unread(stream, call().await);
    for _ in 0..3 {
        sleep(UNREAD * 9 / 10).await;
        assert!(!is_free().await);
        sender.send("piece".into()).await.unwrap();
        response.frame().await.unwrap().unwrap();
    }
    assert!(timeout(10 * UNREAD, response.frame()).await.is_err());
    assert!(!is_free().await, "the client waits for the service");
    sender.send("piece".into()).await.unwrap();
    response.frame().await.unwrap().unwrap();
    sleep(UNREAD).await;
    assert!(is_free().await, "the client does not read");
    assert!(sender.is_closed(), "the rest is dropped");
    assert!(response.frame().await.unwrap().is_err());

    drop(drop_if_unread(sent_body().1, call().await));
    assert!(is_free().await);
}

#[tokio::test(start_paused = true)]
async fn a_body_does_not_wait_forever_for_others_of_its_connection() {
    let (budget, connection) = budget();
    let bodies = [(); 2].map(|()| {
        let (sender, body) = sent_body();
        sender.try_send(prefix(MESSAGE_BYTES as u32)).unwrap();
        sender.try_send(vec![0; MESSAGE_BYTES - 1].into()).unwrap();
        (sender, metered_messages(body, &budget, &connection))
    });
    let [(_first_sender, mut first), (_second_sender, mut second)] = bodies;
    for _ in 0..2 {
        first.frame().await.unwrap().unwrap();
    }
    second.frame().await.unwrap().unwrap();
    let error = second.frame().await.unwrap().unwrap_err();
    let status = Status::from_error(error.into());
    assert_eq!((status.code(), status.message()), (tonic::Code::Unavailable, CONNECTION_FULL));
}

#[tokio::test(start_paused = true)]
async fn a_slow_sender_loses_its_share_if_others_wait() {
    let (budget, _) = budget();
    let mut slow = Vec::new();
    let mut connections = Vec::new();
    for _ in 0..CONNECTION_PART {
        let (sender, body) = sent_body();
        let connection = budget.of_connection();
        let mut body = metered_messages(body, &budget, &connection);
        connections.push(connection);
        sender.send(prefix(MESSAGE_BYTES as u32)).await.unwrap();
        sender.send(vec![0; MESSAGE_BYTES - 1].into()).await.unwrap();
        body.frame().await.unwrap().unwrap();
        body.frame().await.unwrap().unwrap();
        slow.push((sender, body));
    }
    let (_, stalled) = &mut slow[0];
    let patient = tokio::time::timeout(100 * WINDOW, stalled.frame()).await;
    assert!(patient.is_err(), "no other body waits");

    let (sender, body) = sent_body();
    let mut body = metered_messages(body, &budget, &budget.of_connection());
    sender.send(prefix(MESSAGE_BYTES as u32)).await.unwrap();
    sender.send(vec![0; MESSAGE_BYTES - 1].into()).await.unwrap();
    body.frame().await.unwrap().unwrap();
    let waiting = tokio::spawn(async move { body.frame().await.unwrap().is_ok() });
    let (_stalled_sender, mut stalled) = slow.swap_remove(0);
    // Its data may be stuck in the connection, after the data of a body which waits for it.
    let waiting_body = connections.swap_remove(0).demand.wait(1);
    let patient = tokio::time::timeout(10 * WINDOW, stalled.frame()).await;
    assert!(patient.is_err(), "it cannot send");
    drop(waiting_body);
    let error = stalled.frame().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("50 kB/s"), "{error}");
    drop(stalled);
    assert!(waiting.await.unwrap(), "its memory is free");
}
