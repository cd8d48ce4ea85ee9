//! Delay of a run of 100,000 points a second: from sending a batch until its points can be read, alone and next to a
//! run with as many series as a run may have.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use matyan_tests::{Reader, Server, binary::BinaryWriter, eventually};

use super::WideRun;
use crate::{
    ingest, load,
    table::{Budget, Table, Unit},
};

/// Series of the other run.
const SERIES: usize = 200_000;

const RUN: &str = "second";
const SERIES_OF_RUN: usize = 4;
/// Points of a batch.
const POINTS: usize = 2_000;
/// Time between two batches. At full speed, the delay would be the backlog of the run itself.
const BATCH_INTERVAL: Duration = Duration::from_millis(20);
const OUTSTANDING: usize = 8;

const SAMPLES: usize = 20;
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Longest median delay, in milliseconds, at which people call the run live.
const LIVE: f64 = 1_000.0;

pub(crate) async fn rows(table: &mut Table, scale: usize) {
    let rows = ["median", "slowest"].map(|what| {
        ["alone", "next to 200,000 series"]
            .map(|place| format!("a second run (100k points/s) until readable, {what}, {place}"))
    });
    if !rows.iter().flatten().any(|row| table.wants(row)) {
        return;
    }
    let samples = SAMPLES / scale;
    let mut figures: [[Vec<f64>; 2]; 2] = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
    for _ in 0..table.runs() {
        for (place, delays) in [alone(samples).await, next_to_a_wide_run(samples).await].iter().enumerate() {
            figures[0][place].push(delays[delays.len() / 2]);
            figures[1][place].push(delays[delays.len() - 1]);
        }
    }
    let budgets = [Budget::None, Budget::AtMost(LIVE), Budget::None, Budget::None];
    for ((row, figures), budget) in rows.iter().flatten().zip(figures.into_iter().flatten()).zip(budgets) {
        table.print(row, budget, Unit::Milliseconds, figures);
    }
}

async fn alone(samples: usize) -> Vec<f64> {
    delays(&Server::up().await, samples).await
}

async fn next_to_a_wide_run(samples: usize) -> Vec<f64> {
    let server = Server::up().await;
    let wide = WideRun::start(&server, SERIES);
    // The first step defines all series.
    let reader = Reader::connect(&server.query).await;
    eventually("all series of the other run exist", async || match reader.count("wide").await {
        Ok(count) if count >= SERIES as u64 => Ok(()),
        other => Err(format!("{other:?} of {SERIES}")),
    })
    .await;
    let delays = delays(&server, samples).await;
    wide.stop().await;
    delays
}

/// Milliseconds from sending a batch until its points were readable, in ascending order.
async fn delays(server: &Server, samples: usize) -> Vec<f64> {
    let sent = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(record(server.ingest.clone(), sent.clone(), stop.clone()));
    let reader = Reader::connect(&server.query).await;
    let mut clock = tokio::time::interval(SAMPLE_INTERVAL);
    // The first tick is immediate.
    clock.tick().await;
    let mut delays = Vec::with_capacity(samples);
    for _ in 0..samples {
        clock.tick().await;
        let points = sent.load(Ordering::Relaxed);
        let start = Instant::now();
        eventually("the batch is readable", async || match reader.count(RUN).await {
            Ok(count) if count >= points => Ok(()),
            other => Err(format!("{other:?} of {points}")),
        })
        .await;
        delays.push(start.elapsed().as_secs_f64() * 1e3);
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.expect("a writer does not panic");
    ingest::points_readable(server, RUN, sent.load(Ordering::Relaxed)).await;
    delays.sort_by(f64::total_cmp);
    delays
}

/// Records batches until it is stopped. `sent` is the number of points so far.
async fn record(ingest: String, sent: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let steps = POINTS / SERIES_OF_RUN;
    let mut writer = BinaryWriter::new(RUN);
    writer.connect(&ingest).await.expect("the server listens");
    let mut batch = load::binary_batch(0, steps, SERIES_OF_RUN);
    batch.series = load::definitions(0, SERIES_OF_RUN);
    let mut clock = tokio::time::interval(BATCH_INTERVAL);
    while !stop.load(Ordering::Relaxed) {
        clock.tick().await;
        writer.send(&batch).await.expect("the server takes the batch");
        sent.fetch_add(POINTS as u64, Ordering::Relaxed);
        writer.wait_for_acks(OUTSTANDING).await.expect("the server acknowledges");
        batch.series.clear();
        for group in &mut batch.points {
            group.steps.iter_mut().for_each(|step| *step += steps as i64);
            group.times_us.iter_mut().for_each(|time| *time += 1_000_000);
        }
    }
    writer.wait_for_acks(0).await.expect("the server acknowledges");
}
