//! Cost of a chart of a long series in a process that has read nothing yet.

use std::{sync::Arc, time::Instant};

use matyan_proto::common::v1::SeriesKey;
use matyan_tests::{Reader, Server, binary::BinaryWriter};

use crate::{
    ingest::{send_batches, until_readable},
    load,
    table::{Budget, Table, Unit},
};

const WORK: &str = "chart of 1,000 px of a 10M-point series, cold";

pub(crate) async fn rows(table: &mut Table, scale: usize) {
    if !table.wants(WORK) {
        return;
    }
    const POINTS: usize = 10_000;
    let batches = 1_000 / scale;
    let mut server = Server::up().await;
    let mut writer = BinaryWriter::new("bench-0");
    writer.connect(&server.ingest).await.expect("the server listens");
    let start = Instant::now();
    send_batches(writer, Arc::new(load::binary_batches(batches, POINTS, 1))).await;
    until_readable(&server, 1, batches * POINTS, start).await;
    table
        .row(WORK, Budget::AtMost(1.0), Unit::Milliseconds, async || {
            assert!(server.terminate().await.success(), "{}", server.log());
            server.start().await;
            read(&server).await
        })
        .await;
}

/// Milliseconds until the first chart is read, on an established connection.
async fn read(server: &Server) -> f64 {
    let key = SeriesKey { name: "metric_0".into(), context: r#"{"subset": "train"}"#.into() };
    let reader = Reader::connect(&server.query).await;
    reader.count("no such run").await.expect("the connection works");
    let start = Instant::now();
    let chart =
        reader.chart("bench-0", key, 1_000).await.expect("the chart is read").expect("the series exists");
    assert!(chart.index.len() > 250, "a chart of {} buckets", chart.index.len());
    start.elapsed().as_secs_f64() * 1e3
}
