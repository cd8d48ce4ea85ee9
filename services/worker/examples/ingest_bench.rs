//! Benchmark of applying a log to the store, on the embedded substrates: `cargo run --release
//! -p matyan-worker --example ingest_bench [directory]`. It prints a table and checks nothing;
//! neither a network nor the frontier is involved.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use matyan_blob::{UrlSigner, fs::FsBlobs};
use matyan_log::{LogWriter, NewRecord, Topic, embedded::EmbeddedLog};
use matyan_model::{
    keys::LogTopic,
    position::{LogPosition, applied_wait},
};
use matyan_proto::{
    ingest::v1::{IngestionBatch, Points, SeriesDef},
    log::v1::LogEntry,
};
use matyan_store::embedded::EmbeddedStore;
use matyan_worker::{Deps, FoldThread, IngestSettings, IngestionWorker, Metrics};
use prost::Message;
use tokio_util::sync::CancellationToken;

/// Number of appends in flight.
const APPENDS: usize = 16;

fn now_us() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros() as i64
}

struct Load {
    name: &'static str,
    runs: usize,
    series: usize,
    /// Number of frames per run, and of points per series in a frame.
    frames: usize,
    points: usize,
}

const LOADS: [Load; 5] = [
    Load { name: "1 run, 20 series, 2,000 points a frame", runs: 1, series: 20, frames: 3_000, points: 100 },
    Load { name: "8 runs, 20 series, 2,000 points a frame", runs: 8, series: 20, frames: 500, points: 100 },
    Load { name: "1 run, 10,000 series x 1 point a step", runs: 1, series: 10_000, frames: 600, points: 1 },
    Load { name: "8 runs, 1 series, 100 points a frame", runs: 8, series: 1, frames: 5_000, points: 100 },
    Load { name: "8 runs, 1 series, 1 point a frame", runs: 8, series: 1, frames: 10_000, points: 1 },
];

fn value(run: usize, sequence: usize, load: &Load) -> Bytes {
    let names = (0..load.series).map(|at| SeriesDef { name: format!("metric {at}"), ..SeriesDef::default() });
    let count = load.series * load.points;
    let first = (sequence - 1) * load.points;
    let noise = |at: usize| (((at * 2_654_435_761 + run) % 1_000_003) as f32 / 1e6) as f64;
    let batch = IngestionBatch {
        series: if sequence == 1 { names.collect() } else { Vec::new() },
        points: vec![Points {
            series: (0..count).map(|at| (at % load.series) as u32).collect(),
            values: (0..count).map(|at| noise(at + sequence * count)).collect(),
            steps: (0..count).map(|at| (first + at / load.series) as i64).collect(),
            epochs: Vec::new(),
            times_us: (0..count)
                .map(|at| 1_700_000_000_000_000 + ((first + at / load.series) * 1_000) as i64)
                .collect(),
            ..Points::default()
        }],
        ..IngestionBatch::default()
    };
    let entry = LogEntry {
        run_id: format!("run-{run}"),
        received_us: now_us(),
        producer_id: vec![run as u8 + 1; 16].into(),
        sequence: sequence as u64,
        batch: batch.encode_to_vec().into(),
        ..LogEntry::default()
    };
    [vec![1], entry.encode_to_vec()].concat().into()
}

async fn play(directory: &Path, load: &Load) -> Result<(), Box<dyn std::error::Error>> {
    let store = Arc::new(EmbeddedStore::open(directory.join("store"), Default::default()).await?);
    let log = Arc::new(EmbeddedLog::open(directory.join("log"), Default::default()).await?);
    let signer = UrlSigner::new(b"secret", Duration::from_secs(60), Arc::new(now_us));
    let deps = Deps {
        store: store.clone(),
        log_reader: log.clone(),
        log_writer: log.clone(),
        blobs: Arc::new(FsBlobs::open(&directory.join("blobs"), signer, Arc::new(now_us))?),
        clock: Arc::new(now_us),
        random: Arc::new(|| *uuid::Uuid::new_v4().as_bytes()),
    };
    let stop = CancellationToken::new();
    let metrics = Metrics::new(&prometheus::Registry::new())?;
    let (notices, fold) = FoldThread::start(deps.clone(), metrics.clone(), stop.clone())?;
    let worker = IngestionWorker::new(deps, IngestSettings::default(), notices, metrics).await?;
    let worker = tokio::spawn(worker.run(stop.clone()));

    // Encoded in advance, because in production clients do that.
    let mut records = Vec::new();
    for sequence in 1..=load.frames {
        for run in 0..load.runs {
            let key = Bytes::from(format!("run-{run}"));
            let value = value(run, sequence, load);
            records.push(NewRecord { key, value, headers: Vec::new() });
        }
    }
    let count = records.len();
    let bytes = records.iter().map(|record| record.value.len()).sum::<usize>();
    let started = Instant::now();
    let mut answers = std::collections::VecDeque::new();
    let mut last = 0;
    for record in records {
        if answers.len() == APPENDS {
            let answer: matyan_log::Append = answers.pop_front().expect("the queue is full");
            last = answer.await?[0].offset;
        }
        answers.push_back(log.append(Topic::Ingestion, vec![record]));
    }
    for answer in answers {
        last = answer.await?[0].offset;
    }
    let appended = started.elapsed();
    let end = LogPosition { log: 0, partition: 0, offset: last };
    applied_wait(&*store, LogTopic::Ingestion, end).await?;
    let applied = started.elapsed();
    let points = (count * load.series * load.points) as f64;
    let seconds = applied.as_secs_f64();
    eprintln!(
        "| {} | {:.2}M points/s | {:.0} frames/s | appended in {:.2} s, applied in {seconds:.2} s | {:.1} MB |",
        load.name,
        points / seconds / 1e6,
        count as f64 / seconds,
        appended.as_secs_f64(),
        bytes as f64 / 1e6,
    );
    stop.cancel();
    worker.await??;
    fold.finish().await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parent = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into);
    for load in &LOADS {
        let directory = tempfile::tempdir_in(&parent)?;
        play(directory.path(), load).await?;
    }
    Ok(())
}
