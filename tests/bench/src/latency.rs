//! Acknowledgement latency, at a light and at a heavy load.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use matyan_tests::{
    Server,
    binary::BinaryWriter,
    json::{Ack, JsonWriter},
};

use crate::{
    load,
    machine::Machine,
    table::{Budget, Table, Unit},
};

const CONNECTIONS: usize = 8;

/// An acknowledgement waits for at most two syncs: the sync in progress and its own.
pub(crate) async fn rows(table: &mut Table, machine: &Machine, scale: usize) {
    let quiet_budget = f64::max(3.0, 2.0 * machine.sync_p99 + 1.0);
    let work = "acknowledgement p99 at 10k points/s (JSON, 8 connections, 10 messages a frame)";
    table
        .row(work, Budget::AtMost(quiet_budget), Unit::Milliseconds, async || light_load(1_000 / scale).await)
        .await;
    let work = "acknowledgement p99 at 3M points/s (binary, 8 connections, 2,000 points a batch)";
    table.row(work, Budget::AtMost(12.0), Unit::Milliseconds, async || heavy_load(800 / scale).await).await;
}

/// The 99th percentile in milliseconds.
pub(crate) fn p99(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() * 99 / 100].as_secs_f64() * 1e3
}

async fn gather(tasks: Vec<tokio::task::JoinHandle<Vec<Duration>>>) -> f64 {
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("a writer does not panic"));
    }
    p99(times)
}

async fn light_load(frames: usize) -> f64 {
    light_acks(&Server::up().await, frames).await
}

/// The 99th percentile of acknowledgements at 10,000 points per second, in milliseconds.
pub(crate) async fn light_acks(server: &Server, frames: usize) -> f64 {
    const PER_FRAME: usize = 10;
    let texts = Arc::new(load::json_frames(frames, PER_FRAME, 4));
    let pause = Duration::from_secs_f64((CONNECTIONS * PER_FRAME) as f64 / 10e3);
    let tasks = (0..CONNECTIONS).map(|connection| {
        let texts = texts.clone();
        let base = server.ingest.clone();
        tokio::spawn(async move {
            let mut writer =
                JsonWriter::connect(&base, &format!("light-{connection}")).await.expect("listening");
            let mut clock = tokio::time::interval(pause);
            let mut times = Vec::with_capacity(texts.len());
            for text in texts.iter() {
                clock.tick().await;
                let start = Instant::now();
                assert_eq!(writer.send_text(text.clone()).await, Ok(Ack::Ok));
                times.push(start.elapsed());
            }
            times
        })
    });
    gather(tasks.collect()).await
}

async fn heavy_load(batches: usize) -> f64 {
    const POINTS: usize = 2_000;
    let server = Server::up().await;
    let load = Arc::new(load::binary_batches(batches, POINTS, 4));
    let pause = Duration::from_secs_f64((CONNECTIONS * POINTS) as f64 / 3e6);
    let tasks = (0..CONNECTIONS).map(|connection| {
        let load = load.clone();
        let base = server.ingest.clone();
        tokio::spawn(async move {
            let mut writer = BinaryWriter::new(&format!("heavy-{connection}"));
            writer.connect(&base).await.expect("listening");
            let mut clock = tokio::time::interval(pause);
            let mut times = Vec::with_capacity(load.len());
            for batch in load.iter() {
                clock.tick().await;
                let start = Instant::now();
                writer.send(batch).await.expect("the server takes the batch");
                writer.wait_for_acks(0).await.expect("the server acknowledges");
                times.push(start.elapsed());
            }
            times
        })
    });
    gather(tasks.collect()).await
}
