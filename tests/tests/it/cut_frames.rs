//! Connections that end inside a frame, and frames that arrive more than once: a cut at every
//! byte, with an orderly close and with a reset; the same sequence numbers again on the same
//! connection, on a new one, and on two concurrently.

use matyan_proto::ingest::v1::{
    IngestionBatch, Points, SeriesDef, StreamBatch, StreamOpen, stream_request::Message,
};
use matyan_tests::{
    Reader, Server, eventually,
    json::{Ack, JsonWriter, metric},
    raw::{self, Kind, RawSocket},
};
use prost::Message as _;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message as Frame;

const NAME: &str = "automatic";

/// Values of the run's only series, whose steps the server assigns, once the given number of acknowledged
/// values is stored. Frames that were cut have negative values, which may be stored as well.
async fn values(reader: &Reader, run_id: &str, acknowledged: usize) -> Vec<f64> {
    let points = eventually("everything acknowledged is applied", async || {
        let points = reader.points(run_id, NAME, "").await.map_err(|status| status.to_string())?;
        let applied = points.iter().filter(|point| point.value >= 0.0).count();
        if applied >= acknowledged { Ok(points) } else { Err(applied.to_string()) }
    })
    .await;
    assert!(points.iter().enumerate().all(|(at, point)| point.step == at as i64), "steps have a gap");
    points.iter().map(|point| point.value).collect()
}

#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
fn value(number: usize) -> f64 {
    number as f64
}

#[tokio::test]
async fn a_json_frame_cut_at_every_byte_is_stored_completely_or_not_at_all() {
    let mut server = Server::up().await;
    let cut_item =
        |at: usize| raw::frame(Kind::Text, metric(NAME, -value(at) - 1.0, None).to_string().as_bytes());
    let length = cut_item(999).len();
    let mut acknowledged = Vec::new();
    for at in 0..=length {
        let mut socket = RawSocket::json(&server.ingest, "json").await;
        let frame = cut_item(at);
        socket.write(&frame[..at.min(frame.len())]).await.expect("the server reads");
        socket.disconnect(at % 2 == 1);
        let mut writer = JsonWriter::connect(&server.ingest, "json").await.expect("the server still accepts");
        assert_eq!(writer.send(&metric(NAME, value(at), None)).await, Ok(Ack::Ok), "after a cut at {at}");
        acknowledged.push(value(at));
    }
    server.check_alive();
    let found = values(&Reader::connect(&server.query).await, "json", acknowledged.len()).await;
    let (whole, cut): (Vec<f64>, Vec<f64>) = found.iter().partition(|value| **value >= 0.0);
    assert_eq!(whole, acknowledged, "lost, duplicated or out of order");
    // Only the last cuts came after the final byte, so only these frames may be stored.
    assert!(cut.iter().all(|cut| cut_item((-cut) as usize - 1).len() < (-cut) as usize), "{cut:?}");
    println!(
        "{} cuts of a JSON frame; {} frames acknowledged, 0 lost, 0 duplicated",
        length + 1,
        acknowledged.len()
    );
}

/// One point without a step. The first batch of a producer defines the series.
fn batch(sequence: u64) -> StreamBatch {
    let series = SeriesDef { name: NAME.into(), ..SeriesDef::default() };
    #[expect(clippy::cast_precision_loss, reason = "sequences are small")]
    let points = Points { series: vec![0], values: vec![sequence as f64], ..Points::default() };
    let batch = IngestionBatch {
        series: if sequence == 1 { vec![series] } else { Vec::new() },
        points: vec![points],
        ..IngestionBatch::default()
    };
    StreamBatch { sequence, batch: batch.encode_to_vec().into(), ..StreamBatch::default() }
}

fn open(acknowledged: u64) -> Message {
    let series = SeriesDef { name: NAME.into(), ..SeriesDef::default() };
    let known = if acknowledged == 0 { Vec::new() } else { vec![series] };
    let known = IngestionBatch { series: known, ..IngestionBatch::default() };
    Message::Open(StreamOpen {
        producer_id: vec![7; 16].into(),
        acknowledged,
        dictionary: known.encode_to_vec().into(),
        ..StreamOpen::default()
    })
}

async fn acknowledged(socket: &mut RawSocket, sequence: u64) {
    loop {
        let answer = socket.response().await.expect("the stream continues");
        assert!(answer.sequence <= sequence && answer.rejected_items == 0, "{answer:?}");
        if answer.sequence == sequence {
            return;
        }
    }
}

#[tokio::test]
async fn a_binary_frame_cut_at_every_byte_and_resent_is_stored_once() {
    let mut server = Server::up().await;
    let frame = |sequence| raw::frame(Kind::Binary, &raw::encoded(Message::Batch(batch(sequence))));
    // The opening message is cut as well.
    let opening = raw::frame(Kind::Binary, &raw::encoded(open(0)));
    for at in 0..=opening.len() {
        let mut socket = RawSocket::binary(&server.ingest, "binary").await;
        socket.write(&opening[..at]).await.expect("the server reads");
        socket.disconnect(at % 2 == 1);
    }
    let longest = frame(1).len().max(frame(100).len());
    let mut sequence = 0;
    for at in 0..=longest {
        sequence += 1;
        let mut socket = RawSocket::binary(&server.ingest, "binary").await;
        socket.request(open(sequence - 1)).await.expect("the server reads");
        let frame = frame(sequence);
        socket.write(&frame[..at.min(frame.len())]).await.expect("the server reads");
        socket.disconnect(at % 2 == 1);
        let mut socket = RawSocket::binary(&server.ingest, "binary").await;
        socket.request(open(sequence - 1)).await.expect("the server reads");
        socket.request(Message::Batch(batch(sequence))).await.expect("the server reads");
        acknowledged(&mut socket, sequence).await;
    }
    server.check_alive();
    let expected: Vec<f64> = (1..=longest + 1).map(value).collect();
    assert_eq!(values(&Reader::connect(&server.query).await, "binary", expected.len()).await, expected);
    println!(
        "{} cuts of binary frames; {sequence} batches, 0 lost, 0 duplicated",
        opening.len() + longest + 2
    );
}

#[tokio::test]
async fn rule_05_resent_batches_are_acknowledged_and_stored_once() {
    let server = Server::up().await;
    let mut socket = RawSocket::binary(&server.ingest, "run").await;
    socket.request(open(0)).await.expect("the server reads");
    let send = async |socket: &mut RawSocket, sequences: &[u64]| {
        for sequence in sequences {
            socket.request(Message::Batch(batch(*sequence))).await.expect("the server reads");
        }
    };
    // On the same connection, while the batches are in flight and after they are durable.
    send(&mut socket, &[1, 2, 2, 1, 3, 3]).await;
    acknowledged(&mut socket, 3).await;
    send(&mut socket, &[2]).await;
    acknowledged(&mut socket, 3).await;
    send(&mut socket, &[1, 3, 4]).await;
    acknowledged(&mut socket, 4).await;

    // On a new connection, by a client that received no acknowledgment.
    let mut second = RawSocket::binary(&server.ingest, "run").await;
    second.request(open(0)).await.expect("the server reads");
    send(&mut second, &[1, 2, 3, 4, 5]).await;
    acknowledged(&mut second, 5).await;

    // On two connections concurrently: the client considers the first one dead, but the
    // server does not.
    send(&mut socket, &[5, 6]).await;
    send(&mut second, &[6, 7]).await;
    acknowledged(&mut socket, 6).await;
    acknowledged(&mut second, 7).await;

    // Also after a restart of the server.
    let mut server = server;
    assert!(server.terminate().await.success(), "{}", server.log());
    server.start().await;
    let mut third = RawSocket::binary(&server.ingest, "run").await;
    third.request(open(0)).await.expect("the server reads");
    send(&mut third, &[1, 2, 3, 4, 5, 6, 7, 8]).await;
    acknowledged(&mut third, 8).await;
    let expected: Vec<f64> = (1..=8).map(value).collect();
    assert_eq!(values(&Reader::connect(&server.query).await, "run", 8).await, expected);
}

/// A JSON client has no ids: the same bytes count as a resend while the first ones are
/// unacknowledged, and as new data afterwards. In both cases there are as many points as
/// acknowledgments.
#[tokio::test]
async fn rule_06_a_resent_json_frame_is_stored_as_often_as_it_is_acknowledged() {
    const ROUNDS: usize = 50;
    let server = Server::up().await;
    let mut socket = RawSocket::json(&server.ingest, "run").await;
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let again = raw::frame(Kind::Text, metric(NAME, value(round), None).to_string().as_bytes());
        let marker = raw::frame(Kind::Text, json!({"type": "marker"}).to_string().as_bytes());
        socket
            .write(&[again.clone(), again.clone(), again, marker].concat())
            .await
            .expect("the server reads");
        loop {
            let Ok(Frame::Text(text)) = socket.next().await else { panic!("the connection stays open") };
            if text.contains("\"error\":null") {
                acknowledged.push(value(round));
            } else {
                break;
            }
        }
    }
    assert!((ROUNDS..3 * ROUNDS).contains(&acknowledged.len()), "{} acknowledgments", acknowledged.len());
    let reader = Reader::connect(&server.query).await;
    assert_eq!(values(&reader, "run", acknowledged.len()).await, acknowledged);
    println!("{} frames, {} acknowledged, all stored once", 3 * ROUNDS, acknowledged.len());
}
