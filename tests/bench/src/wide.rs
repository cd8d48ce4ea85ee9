//! Very wide runs: a point in each of 10,000 series at every step.

use std::{sync::Arc, time::Instant};

use matyan_tests::{
    Server,
    binary::BinaryWriter,
    json::{Ack, JsonWriter},
};

use crate::{
    ingest::{send_batches, until_readable},
    load,
    table::{Budget, Table, Unit},
};

const SERIES: usize = 10_000;

pub(crate) async fn rows(table: &mut Table, scale: usize) {
    let work = "10,000 series × 1 point a step, binary, until readable";
    table
        .row(work, Budget::AtLeast(1_000.0), Unit::PerSecond("steps"), async || binary(400 / scale).await)
        .await;
    let work = "10,000 series × 1 point a step, JSON over 8 connections, until readable";
    table.row(work, Budget::AtLeast(250.0), Unit::PerSecond("steps"), async || json(120 / scale).await).await;
}

async fn binary(steps: usize) -> f64 {
    let server = Server::up().await;
    let load = Arc::new(load::wide_batches(steps, SERIES));
    let mut writer = BinaryWriter::new("bench-0");
    writer.connect(&server.ingest).await.expect("the server listens");
    let start = Instant::now();
    send_batches(writer, load).await;
    until_readable(&server, 1, steps * SERIES, start).await / SERIES as f64
}

/// Each connection writes its share of the series, in frames of 100 messages.
async fn json(steps: usize) -> f64 {
    const CONNECTIONS: usize = 8;
    const PER_FRAME: usize = 100;
    let share = SERIES / CONNECTIONS / PER_FRAME * PER_FRAME;
    let server = Server::up().await;
    let texts = Arc::new(load::json_frames(steps * share / PER_FRAME, PER_FRAME, share));
    let start = Instant::now();
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|connection| {
            let texts = texts.clone();
            let base = server.ingest.clone();
            tokio::spawn(async move {
                let mut writer =
                    JsonWriter::connect(&base, &format!("bench-{connection}")).await.expect("listening");
                for text in texts.iter() {
                    assert_eq!(writer.send_text(text.clone()).await, Ok(Ack::Ok));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a writer does not panic");
    }
    until_readable(&server, CONNECTIONS, steps * share, start).await / SERIES as f64
}
