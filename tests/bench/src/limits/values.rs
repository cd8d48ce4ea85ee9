//! Sustained ingestion at full speed, while people look at the project.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use matyan_proto::ingest::v1::IngestionBatch;
use matyan_tests::{Server, binary::BinaryWriter};
use tokio::task::JoinSet;

use super::{
    content::Size,
    free_bytes,
    views::{Times, View, Viewer},
};
use crate::{load, load_threads, sweeps::until_applied};

/// Metrics of each run that is written, and steps of a batch.
const SERIES: usize = 50;
const STEPS: usize = 200;
const OUTSTANDING: usize = 8;

pub(super) struct Load {
    pub(super) duration: Duration,
    pub(super) connections: usize,
    /// Bytes of the disk that stay free.
    pub(super) reserve: u64,
}

/// Values that were readable at the end, and what people saw in the meantime.
pub(super) struct Sustained {
    pub(super) values: u64,
    pub(super) seconds: f64,
    /// Cores that the server kept busy.
    pub(super) cores: f64,
    pub(super) times: Times,
    /// Why it ended early.
    pub(super) ended: Option<String>,
}

impl Sustained {
    pub(super) fn values_a_minute(&self) -> f64 {
        self.values as f64 / self.seconds * 60.0
    }
}

/// Writes values until the time is over or the disk is short.
pub(super) async fn sustain(server: &Server, viewer: &mut Viewer, size: Size, load: &Load) -> Sustained {
    let stop = Arc::new(AtomicBool::new(false));
    let before = server.processor_time();
    let start = Instant::now();
    let writers = load_threads::start(async {
        let mut writers = JoinSet::new();
        for connection in 0..load.connections {
            let run = format!("values-{connection}");
            writers.spawn(write(server.ingest.clone(), run, stop.clone()));
        }
        writers
    });
    let mut times = Times::of(View::ALL.into_iter().filter(|view| size.of(view.dimension()) > 0));
    let mut ended = None;
    let mut sample = 0;
    while start.elapsed() < load.duration {
        if free_bytes(&server.data_dir()) < load.reserve {
            ended = Some(format!("the disk, after {:.0} s", start.elapsed().as_secs_f64()));
            break;
        }
        viewer.open(&mut times, sample, size).await;
        sample += 1;
    }
    stop.store(true, Ordering::Relaxed);
    let values: u64 = writers.join_all().await.into_iter().sum();
    until_applied(server).await;
    let seconds = start.elapsed().as_secs_f64();
    let cores = (server.processor_time() - before).as_secs_f64() / seconds;
    Sustained { values, seconds, cores, times, ended }
}

/// Writes to its own run until it is stopped. Returns the number of values.
async fn write(ingest: String, run: String, stop: Arc<AtomicBool>) -> u64 {
    let mut writer = BinaryWriter::new(&run);
    writer.connect(&ingest).await.expect("the server listens");
    let define = IngestionBatch { series: load::definitions(0, SERIES), ..IngestionBatch::default() };
    writer.send(&define).await.expect("the server takes the batch");
    let mut steps = 0_i64;
    while !stop.load(Ordering::Relaxed) {
        let batch = load::binary_batch(steps, STEPS, SERIES);
        writer.send(&batch).await.expect("the server takes the batch");
        writer.wait_for_acks(OUTSTANDING).await.expect("the server acknowledges");
        steps += STEPS as i64;
    }
    writer.wait_for_acks(0).await.expect("the server acknowledges");
    steps.cast_unsigned() * SERIES as u64
}
