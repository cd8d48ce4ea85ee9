//! The effects on others of a run of very many series at full speed, and of clients that ask for charts.
//! First the delay of a light run: from sending a point until it can be read, alone and next to a run of
//! 10,000 series.

pub(crate) mod chart_readers;
pub(crate) mod second_run;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use matyan_tests::{
    Reader, Server,
    binary::BinaryWriter,
    eventually,
    json::{Ack, JsonWriter, metric},
};
use tokio::task::JoinHandle;

use crate::{
    load,
    table::{Budget, Table, Unit},
};

const SERIES: usize = 10_000;
const POINT_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) async fn rows(table: &mut Table, scale: usize) {
    let points = 60 / scale;
    let rows = ["median", "slowest"].map(|what| {
        ["alone", "next to 10,000 series at full speed"]
            .map(|place| format!("a point a second until readable, {what}, {place}"))
    });
    if !rows.iter().flatten().any(|row| table.wants(row)) {
        return;
    }
    let mut figures: [[Vec<f64>; 2]; 2] = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
    for _ in 0..table.runs() {
        for (place, delays) in [alone(points).await, next_to_a_wide_run(points).await].iter().enumerate() {
            figures[0][place].push(delays[delays.len() / 2]);
            figures[1][place].push(delays[delays.len() - 1]);
        }
    }
    for (row, figures) in rows.iter().flatten().zip(figures.into_iter().flatten()) {
        table.print(row, Budget::None, Unit::Milliseconds, figures);
    }
}

async fn alone(points: usize) -> Vec<f64> {
    delays(&Server::up().await, points).await
}

async fn next_to_a_wide_run(points: usize) -> Vec<f64> {
    let server = Server::up().await;
    let wide = WideRun::start(&server, SERIES);
    let delays = delays(&server, points).await;
    wide.stop().await;
    delays
}

/// A run of many series that is recorded at full speed.
struct WideRun {
    stop: Arc<AtomicBool>,
    writer: JoinHandle<()>,
}

impl WideRun {
    fn start(server: &Server, series: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn(record_wide_run(server.ingest.clone(), series, stop.clone()));
        Self { stop, writer }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.writer.await.expect("a writer does not panic");
    }
}

/// Records a point of each series at every step until it is stopped.
async fn record_wide_run(ingest: String, series: usize, stop: Arc<AtomicBool>) {
    const OUTSTANDING: usize = 8;
    let mut batches = load::wide_batches(1, series);
    let mut batch = batches.remove(0);
    let mut writer = BinaryWriter::new("wide");
    writer.connect(&ingest).await.expect("the server listens");
    while !stop.load(Ordering::Relaxed) {
        writer.send(&batch).await.expect("the server takes the batch");
        writer.wait_for_acks(OUTSTANDING).await.expect("the server acknowledges");
        batch.series.clear();
        batch.points[0].steps[0] += 1;
        batch.points[0].times_us[0] += 1_000_000;
    }
    writer.wait_for_acks(0).await.expect("the server acknowledges");
}

/// Milliseconds from sending a point until it was readable, in ascending order.
async fn delays(server: &Server, points: usize) -> Vec<f64> {
    let reader = Reader::connect(&server.query).await;
    let mut writer = JsonWriter::connect(&server.ingest, "light").await.expect("the server listens");
    let mut clock = tokio::time::interval(POINT_INTERVAL);
    let mut delays = Vec::with_capacity(points);
    for count in 1..=points as u64 {
        clock.tick().await;
        let start = Instant::now();
        assert_eq!(writer.send(&metric("loss", 0.5, None)).await, Ok(Ack::Ok));
        eventually("the point is readable", async || match reader.count("light").await {
            Ok(read) if read == count => Ok(()),
            other => Err(format!("{other:?} of {count}")),
        })
        .await;
        delays.push(start.elapsed().as_secs_f64() * 1e3);
    }
    delays.sort_by(f64::total_cmp);
    delays
}
