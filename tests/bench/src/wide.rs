//! Very wide runs: a point in each of 10,000 series at every step.

use std::{sync::Arc, time::Instant};

use matyan_proto::ingest::v1::IngestionBatch;
use matyan_tests::{
    Server,
    binary::BinaryWriter,
    json::{Ack, JsonWriter},
};

use crate::{
    ingest::{run_id, send_batches, until_readable},
    load,
    table::{Budget, Table, Unit},
};

const SERIES: usize = 10_000;

/// Connections of a group, which share the series of a step in JSON.
const CONNECTIONS: usize = 8;
const PER_FRAME: usize = 100;
/// Series of each connection, in whole frames.
const SHARE: usize = SERIES / CONNECTIONS / PER_FRAME * PER_FRAME;

pub(crate) async fn rows(table: &mut Table, scale: usize) {
    let work = "10,000 series × 1 point a step, binary, until readable";
    table
        .row(work, Budget::AtLeast(1_000.0), Unit::PerSecond("steps"), async || {
            let load = batches(400 / scale);
            binary(&Server::up().await, 1, load).await
        })
        .await;
    let work = "10,000 series × 1 point a step, JSON over 8 connections, until readable";
    table
        .row(work, Budget::AtLeast(250.0), Unit::PerSecond("steps"), async || {
            let texts = frames(120 / scale);
            json(&Server::up().await, 1, texts).await
        })
        .await;
}

/// Batches of a run with a point of each series at every step.
pub(crate) fn batches(steps: usize) -> Arc<Vec<IngestionBatch>> {
    Arc::new(load::wide_batches(steps, SERIES))
}

/// Writes the same steps to several runs at the same time, each over its own connection. Returns steps per second until
/// readable, of all runs together.
pub(crate) async fn binary(server: &Server, runs: usize, load: Arc<Vec<IngestionBatch>>) -> f64 {
    let start = Instant::now();
    let tasks: Vec<_> = (0..runs)
        .map(|run| {
            let load = load.clone();
            let base = server.ingest.clone();
            tokio::spawn(async move {
                let mut writer = BinaryWriter::new(&run_id(run));
                writer.connect(&base).await.expect("the server listens");
                send_batches(writer, load).await;
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a writer does not panic");
    }
    until_readable(server, runs, load.len() * SERIES, start).await / SERIES as f64
}

/// Frames of a connection that writes its share of the series.
pub(crate) fn frames(steps: usize) -> Arc<Vec<String>> {
    Arc::new(load::json_frames(steps * SHARE / PER_FRAME, PER_FRAME, SHARE))
}

/// Writes 10,000 series over each group of eight connections, all groups at the same time. Each connection sends the
/// same frames to its own run. Returns steps per second until readable, of all groups together.
pub(crate) async fn json(server: &Server, groups: usize, texts: Arc<Vec<String>>) -> f64 {
    let connections = groups * CONNECTIONS;
    let start = Instant::now();
    let tasks: Vec<_> = (0..connections)
        .map(|connection| {
            let texts = texts.clone();
            let base = server.ingest.clone();
            tokio::spawn(async move {
                let mut writer =
                    JsonWriter::connect(&base, &run_id(connection)).await.expect("the server listens");
                for text in texts.iter() {
                    assert_eq!(writer.send_text(text.clone()).await, Ok(Ack::Ok));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a writer does not panic");
    }
    until_readable(server, connections, texts.len() * PER_FRAME, start).await / SERIES as f64
}
