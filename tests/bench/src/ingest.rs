//! End-to-end ingestion: from the first frame until every point can be read.

use std::{borrow::Borrow, sync::Arc, time::Instant};

use matyan_proto::ingest::v1::{Event, FinishRun, IngestionBatch, event::Kind};
use matyan_tests::{
    Reader, Server,
    binary::BinaryWriter,
    eventually,
    json::{Ack, JsonWriter},
};

use crate::{
    load,
    table::{Budget, Table, Unit},
};

const CONNECTIONS: usize = 8;

/// Metrics of each connection.
const SERIES: usize = 4;

/// Points of a binary batch.
const POINTS: usize = 2_000;

pub(crate) async fn rows(table: &mut Table, scale: usize) {
    for (per_frame, count, budget) in [(100, 2_000, 1.2e6), (10, 8_000, 170e3), (1, 8_000, 21e3)] {
        let work = format!(
            "WebSocket JSON, {CONNECTIONS} connections, {per_frame} messages a frame, until readable"
        );
        let count = count / scale;
        table
            .row(&work, Budget::AtLeast(budget), Unit::PerSecond("points"), async || {
                let texts = frames(count, per_frame);
                json(&Server::up().await, CONNECTIONS, texts, per_frame).await
            })
            .await;
    }
    let work = format!("binary WebSocket, {CONNECTIONS} connections, 2,000 points a batch, until readable");
    table
        .row(&work, Budget::AtLeast(7e6), Unit::PerSecond("points"), async || {
            let load = batches(1_000 / scale);
            binary(&Server::up().await, CONNECTIONS, load).await
        })
        .await;
}

pub(crate) fn run_id(connection: usize) -> String {
    format!("bench-{connection}")
}

/// Waits until every run has the given number of points, and returns the points per second
/// since `start`.
pub(crate) async fn until_readable(server: &Server, runs: usize, points_a_run: usize, start: Instant) -> f64 {
    for run in 0..runs {
        points_readable(server, &run_id(run), points_a_run as u64).await;
    }
    (runs * points_a_run) as f64 / start.elapsed().as_secs_f64()
}

/// Waits until a run has the given number of points.
pub(crate) async fn points_readable(server: &Server, run: &str, points: u64) {
    let reader = Reader::connect(&server.query).await;
    eventually("every point is readable", async || match reader.count(run).await {
        Ok(count) if count == points => Ok(()),
        other => Err(format!("{other:?} of {points}")),
    })
    .await;
}

/// Frames of a connection that sends JSON.
pub(crate) fn frames(count: usize, per_frame: usize) -> Arc<Vec<String>> {
    Arc::new(load::json_frames(count, per_frame, SERIES))
}

/// Sends the same frames over every connection, each to its own run. Returns points per second until
/// readable.
pub(crate) async fn json(
    server: &Server,
    connections: usize,
    texts: Arc<Vec<String>>,
    per_frame: usize,
) -> f64 {
    let mut writers = Vec::new();
    for connection in 0..connections {
        writers.push(
            JsonWriter::connect(&server.ingest, &run_id(connection)).await.expect("the server listens"),
        );
    }
    let start = Instant::now();
    let tasks: Vec<_> =
        writers.into_iter().map(|writer| tokio::spawn(send_all(writer, texts.clone()))).collect();
    for task in tasks {
        task.await.expect("a writer does not panic");
    }
    until_readable(server, connections, texts.len() * per_frame, start).await
}

async fn send_all(mut writer: JsonWriter, texts: Arc<Vec<String>>) {
    for text in texts.iter() {
        assert_eq!(writer.send_text(text.clone()).await, Ok(Ack::Ok));
    }
}

/// Batches of a connection.
pub(crate) fn batches(count: usize) -> Arc<Vec<IngestionBatch>> {
    Arc::new(load::binary_batches(count, POINTS, SERIES))
}

/// Sends the same batches over every connection, each to its own run. Returns points per second until
/// readable.
pub(crate) async fn binary(server: &Server, connections: usize, load: Arc<Vec<IngestionBatch>>) -> f64 {
    let mut writers = Vec::new();
    for connection in 0..connections {
        let mut writer = BinaryWriter::new(&run_id(connection));
        writer.connect(&server.ingest).await.expect("the server listens");
        writers.push(writer);
    }
    let start = Instant::now();
    let tasks: Vec<_> =
        writers.into_iter().map(|writer| tokio::spawn(send_batches(writer, load.clone()))).collect();
    for task in tasks {
        task.await.expect("a writer does not panic");
    }
    until_readable(server, connections, load.len() * POINTS, start).await
}

pub(crate) async fn send_batches(writer: BinaryWriter, load: Arc<Vec<IngestionBatch>>) {
    send_each(writer, load.iter()).await;
}

/// Finishes a run.
pub(crate) async fn finish(server: &Server, connection: usize) {
    let mut writer = BinaryWriter::new(&run_id(connection));
    writer.connect(&server.ingest).await.expect("the server listens");
    let event = Event { kind: Some(Kind::FinishRun(FinishRun::default())), ..Event::default() };
    let batch = IngestionBatch { events: vec![event], ..IngestionBatch::default() };
    send_each(writer, [batch].iter()).await;
}

/// Sends with a limited number of batches outstanding, and waits for the last acknowledgement.
pub(crate) async fn send_each(
    mut writer: BinaryWriter,
    batches: impl Iterator<Item = impl Borrow<IngestionBatch>>,
) {
    const OUTSTANDING: usize = 8;
    for batch in batches {
        writer.send(batch.borrow()).await.expect("the server takes the batch");
        writer.wait_for_acks(OUTSTANDING).await.expect("the server acknowledges");
    }
    writer.wait_for_acks(0).await.expect("the server acknowledges");
}
