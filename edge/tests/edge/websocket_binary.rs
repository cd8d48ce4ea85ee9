//! The binary protocol: messages of the ingest stream, passed through.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use matyan_proto::ingest::v1::stream_request::Message as StreamMessage;
use matyan_proto::ingest::v1::*;
use prost::Message as _;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, http::HeaderValue};
use tonic::Status;

use super::server::{Client, Server};

async fn connect(server: &Server) -> Client {
    let mut request = format!("ws://{}/api/v1/ws/runs/r", server.address).into_client_request().unwrap();
    let protocols = HeaderValue::from_static("other, matyan.v1.binary");
    request.headers_mut().insert("sec-websocket-protocol", protocols);
    let (socket, response) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "matyan.v1.binary");
    // The SDK compares this version with its own.
    assert_eq!(response.headers()["matyan-version"], env!("CARGO_PKG_VERSION"));
    Client { socket }
}

async fn send(client: &mut Client, message: StreamMessage) {
    let request = StreamRequest { message: Some(message) };
    client.socket.send(Message::binary(request.encode_to_vec())).await.unwrap();
}

async fn open(client: &mut Client) {
    let open = StreamOpen { run_id: "other".into(), producer_id: vec![7; 16].into(), ..Default::default() };
    send(client, StreamMessage::Open(open)).await;
}

fn batch(sequence: u64) -> StreamMessage {
    let series = SeriesDef { name: format!("m{sequence}"), ..Default::default() };
    let points =
        Points { series: vec![sequence as u32 - 1], values: vec![sequence as f64], ..Default::default() };
    let batch = IngestionBatch {
        series: vec![series],
        series_base: sequence as u32 - 1,
        points: vec![points],
        ..Default::default()
    };
    StreamMessage::Batch(StreamBatch { sequence, batch: batch.encode_to_vec().into(), ..Default::default() })
}

async fn answer(client: &mut Client) -> StreamResponse {
    match client.message().await.unwrap().unwrap() {
        Message::Binary(bytes) => StreamResponse::decode(bytes).unwrap(),
        other => panic!("expected a response, found {other:?}"),
    }
}

#[tokio::test]
async fn batches_are_passed_on_and_acknowledged() {
    let server = Server::start().await;
    let mut client = connect(&server).await;
    open(&mut client).await;
    for sequence in 1..=300 {
        send(&mut client, batch(sequence)).await;
    }
    let mut acknowledged = 0;
    while acknowledged < 300 {
        acknowledged = answer(&mut client).await.sequence;
    }
    let received = server.frontier.received();
    assert_eq!(received.len(), 300);
    assert!(received.iter().all(|it| it.run_id == "r"), "the run must come from the URL");
    assert_eq!(received[299].batch.points[0].values, [300.0]);
}

#[tokio::test]
async fn a_question_and_its_answer_are_passed_on() {
    let server = Server::start().await;
    let mut client = connect(&server).await;
    let producer_id = vec![7; 16].into();
    let open = StreamOpen { producer_id, acknowledged: 5, asks_for_features: true, ..Default::default() };
    send(&mut client, StreamMessage::Open(open)).await;
    // Before any batch.
    let first = answer(&mut client).await;
    assert_eq!(first, StreamResponse { sequence: 5, takes_rows: true, ..Default::default() });
}

#[tokio::test]
async fn a_flood_of_repeats_is_acknowledged() {
    const REPEATS: usize = 20_000;
    let server = Server::start().await;
    let mut client = connect(&server).await;
    open(&mut client).await;
    send(&mut client, batch(1)).await;
    assert_eq!(answer(&mut client).await.sequence, 1);
    let StreamMessage::Batch(repeat) = batch(1) else { panic!("expected a batch") };
    let frame =
        Message::binary(StreamRequest { message: Some(StreamMessage::Batch(repeat)) }.encode_to_vec());
    let (mut sink, stream) = client.socket.split();
    let sending = tokio::spawn(async move {
        for _ in 0..REPEATS {
            sink.feed(frame.clone()).await.unwrap();
        }
        sink.flush().await.unwrap();
        sink
    });
    let answers = stream.filter(|message| std::future::ready(matches!(message, Ok(Message::Binary(_)))));
    assert_eq!(answers.take(REPEATS).count().await, REPEATS);
    drop(sending.await.unwrap());
    assert_eq!(server.frontier.received().len(), 1);
}

#[tokio::test]
async fn the_close_frame_contains_the_error_of_the_stream() {
    let server = Server::start().await;
    let check = async |status: Status, code: CloseCode| {
        let mut client = connect(&server).await;
        server.frontier.change(|it| it.fail_next = [status.clone()].into());
        open(&mut client).await;
        send(&mut client, batch(1)).await;
        let (closed, reason) = client.closed().await;
        assert_eq!(closed, code);
        assert!(reason.contains(status.message()), "{reason}");
    };
    check(Status::unavailable("the log is away"), CloseCode::Again).await;
    check(Status::failed_precondition("open a new stream"), CloseCode::Policy).await;
    check(Status::internal("broken"), CloseCode::Error).await;
}

#[tokio::test]
async fn protocol_violations_close_the_connection() {
    let server = Server::start().await;
    let check = async |message: Message, opened: bool, code: CloseCode, reason: &str| {
        let mut client = connect(&server).await;
        if opened {
            open(&mut client).await;
        }
        client.socket.send(message).await.unwrap();
        let (closed, text) = client.closed().await;
        assert_eq!((closed, text.contains(reason)), (code, true), "{text}");
    };
    let frame = |message: Option<StreamMessage>| Message::binary(StreamRequest { message }.encode_to_vec());
    check(Message::text("{}"), true, CloseCode::Unsupported, "binary").await;
    check(Message::Binary(Bytes::from_static(&[0xff])), true, CloseCode::Policy, "not a StreamRequest").await;
    check(frame(None), true, CloseCode::Policy, "unknown type").await;
    check(frame(Some(batch(1))), false, CloseCode::Policy, "must open").await;
    check(frame(Some(StreamMessage::Open(StreamOpen::default()))), true, CloseCode::Policy, "already open")
        .await;
}

#[tokio::test]
async fn shutdown_waits_for_acks() {
    let server = Server::start().await;
    let mut client = connect(&server).await;
    server.frontier.change(|it| it.hold = true);
    open(&mut client).await;
    send(&mut client, batch(1)).await;
    server.frontier.wait_for(1).await;
    server.stop();
    server.frontier.change(|it| it.hold = false);
    assert_eq!(answer(&mut client).await.sequence, 1);
    assert_eq!(client.closed().await.0, CloseCode::Restart);
    server.stopped().await;
}
