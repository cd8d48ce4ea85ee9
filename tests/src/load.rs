//! Writers that send continuously, and a comparison of the frames that were acknowledged to them with
//! the stored data: for tests that disturb the server in the meantime.
//!
//! Half of the writers behave like the published client: no ids, and nothing is resent. A
//! frame without an acknowledgment may be stored or not, but never in part. The other half use
//! the binary protocol and resend: all their data is stored exactly once.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use matyan_proto::ingest::v1::{Event, IngestionBatch, LogRecord, Points, event::Kind};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tonic::Status;

use crate::{
    Reader,
    binary::BinaryWriter,
    eventually,
    json::{Ack, JsonWriter, log_record, metric},
    reading::Point,
};

const OUTSTANDING: usize = 16;

/// Pause between attempts to connect.
const PAUSE: Duration = Duration::from_millis(5);

/// Shared state of the writers: the current address, whether to stop, and their progress.
struct LoadState {
    ingest: Mutex<String>,
    stopped: AtomicBool,
    acknowledged: AtomicU64,
    /// Pause of each writer after each frame.
    pause: Duration,
}

impl LoadState {
    fn ingest(&self) -> String {
        self.ingest.lock().expect("no writer panics while it holds the lock").clone()
    }

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    async fn pause(&self) {
        if !self.pause.is_zero() {
            tokio::time::sleep(self.pause).await;
        }
    }

    fn count(&self, acknowledged: usize) {
        self.acknowledged.fetch_add(acknowledged as u64, Ordering::Relaxed);
    }
}

/// Outcome of a frame of a JSON writer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FrameOutcome {
    Acknowledged,
    /// Rejected with an error: the writer knows that the frame may be lost.
    Refused,
    /// The connection ended before a response.
    Unknown,
}

pub struct Load {
    state: Arc<LoadState>,
    json: Vec<(String, JoinHandle<Vec<FrameOutcome>>)>,
    binary: Vec<(String, JoinHandle<i64>)>,
}

/// Counts of a comparison that found nothing lost, duplicated or out of order.
#[derive(Debug, Default)]
pub struct LoadSummary {
    /// JSON frames acknowledged.
    pub frames: usize,
    pub refused: usize,
    pub unknown: usize,
    /// Refused or unknown frames that were applied.
    pub applied_without_ack: usize,
    /// Binary batches. All were eventually acknowledged.
    pub batches: i64,
}

impl Load {
    /// Starts `per_kind` writers of each kind, each on its own run.
    pub fn start(ingest: &str, per_kind: usize) -> Self {
        Self::start_with(ingest, per_kind, Duration::ZERO)
    }

    /// Like `start`, but writers pause after each frame, because the backlog of a stopped
    /// worker has to be read repeatedly.
    pub fn start_with_pauses(ingest: &str, per_kind: usize) -> Self {
        Self::start_with(ingest, per_kind, Duration::from_millis(20))
    }

    fn start_with(ingest: &str, per_kind: usize, pause: Duration) -> Self {
        let state = Arc::new(LoadState {
            ingest: Mutex::new(ingest.to_owned()),
            stopped: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            pause,
        });
        let runs = |kind: &str| (0..per_kind).map(|number| format!("{kind}-{number}")).collect::<Vec<_>>();
        let json = runs("json").into_iter();
        let json = json.map(|run| (run.clone(), tokio::spawn(write_json(state.clone(), run)))).collect();
        let binary = runs("binary").into_iter();
        let binary =
            binary.map(|run| (run.clone(), tokio::spawn(write_binary(state.clone(), run)))).collect();
        Self { state, json, binary }
    }

    /// Switches the writers to a new address of the server.
    pub fn set_address(&self, ingest: &str) {
        ingest.clone_into(&mut self.state.ingest.lock().expect("no writer panics while it holds the lock"));
    }

    /// Number of frames and batches acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.state.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until `more` frames or batches have been acknowledged.
    pub async fn wait_for_acks(&self, more: u64) {
        let wanted = self.acknowledged() + more;
        eventually("more is acknowledged", async || match self.acknowledged() {
            enough if enough >= wanted => Ok(()),
            few => Err(format!("{few} of {wanted}")),
        })
        .await;
    }

    /// Stops the writers, waits until everything is applied, and compares.
    pub async fn finish(self, reader: &Reader) -> LoadSummary {
        self.state.stopped.store(true, Ordering::Relaxed);
        let mut compared = LoadSummary::default();
        for (run_id, writer) in self.json {
            let outcomes = writer.await.expect("the writer does not panic");
            compare_json(reader, &run_id, &outcomes, &mut compared).await;
        }
        for (run_id, writer) in self.binary {
            let written = writer.await.expect("the writer does not panic");
            let found = applied(reader, &run_id, written - 1).await;
            let expected: Vec<i64> = (0..written).collect();
            assert_eq!(found.explicit, expected, "{run_id}");
            assert_eq!(found.automatic, expected, "{run_id}: duplicated, lost or out of order");
            assert_eq!(found.records, expected, "{run_id}");
            compared.batches += written;
        }
        compared
    }
}

async fn compare_json(reader: &Reader, run_id: &str, outcomes: &[FrameOutcome], compared: &mut LoadSummary) {
    let of = |wanted: FrameOutcome| {
        (0..).zip(outcomes).filter(move |(_, outcome)| **outcome == wanted).map(|(number, _)| number)
    };
    let acknowledged: Vec<i64> = of(FrameOutcome::Acknowledged).collect();
    let found = applied(reader, run_id, *acknowledged.last().expect("something was acknowledged")).await;
    assert_eq!(found.automatic, found.explicit, "{run_id}: duplicated, lost or out of order");
    assert_eq!(
        found.records, found.explicit,
        "{run_id}: a frame was applied in part, or a record duplicated"
    );
    assert_eq!(found.lines, found.explicit, "{run_id}: a frame was applied in part");
    let lost: Vec<_> = acknowledged.iter().filter(|number| !found.explicit.contains(number)).collect();
    assert!(lost.is_empty(), "{run_id}: acknowledged but lost: {lost:?}");
    compared.frames += acknowledged.len();
    compared.refused += of(FrameOutcome::Refused).count();
    compared.unknown += of(FrameOutcome::Unknown).count();
    compared.applied_without_ack += found.explicit.len() - acknowledged.len();
}

/// A frame with one item of every kind whose loss or duplication can be detected.
fn frame(number: i64) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "frame numbers are small")]
    let value = number as f64;
    json!([
        metric("explicit", value, Some(number)),
        metric("automatic", value, None),
        log_record(&number.to_string(), value),
        {"type": "log_terminal_line", "line": number.to_string(), "step": number},
    ])
}

/// Writes until stopped. Returns the outcome of each frame.
async fn write_json(state: Arc<LoadState>, run_id: String) -> Vec<FrameOutcome> {
    let mut outcomes = Vec::new();
    while !state.stopped() {
        let Ok(mut writer) = JsonWriter::connect(&state.ingest(), &run_id).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        while !state.stopped() {
            state.pause().await;
            let number = i64::try_from(outcomes.len()).expect("few frames");
            let outcome = match writer.send(&frame(number)).await {
                Ok(Ack::Ok) => FrameOutcome::Acknowledged,
                Ok(Ack::Error(_)) => FrameOutcome::Refused,
                Err(_) => FrameOutcome::Unknown,
            };
            outcomes.push(outcome);
            match outcome {
                FrameOutcome::Acknowledged => state.count(1),
                FrameOutcome::Refused => {}
                // The connection is broken: reconnect.
                FrameOutcome::Unknown => break,
            }
        }
    }
    outcomes
}

/// Writes with up to 16 batches outstanding until stopped, then waits for the rest.
/// Returns the number of batches.
async fn write_binary(state: Arc<LoadState>, run_id: String) -> i64 {
    let mut writer = BinaryWriter::new(&run_id);
    let mut batches = 0;
    loop {
        if writer.connect(&state.ingest()).await.is_err() {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let written = async {
            while !state.stopped() {
                state.pause().await;
                let batch = binary_batch(&mut writer, batches);
                batches += 1;
                writer.send(&batch).await?;
                let before = writer.outstanding();
                writer.wait_for_acks(OUTSTANDING).await?;
                state.count(before - writer.outstanding());
            }
            writer.wait_for_acks(0).await
        };
        if written.await.is_ok() {
            return batches;
        }
    }
}

fn binary_batch(writer: &mut BinaryWriter, number: i64) -> IngestionBatch {
    let mut batch = IngestionBatch::default();
    let explicit = writer.series(&mut batch, "explicit");
    let automatic = writer.series(&mut batch, "automatic");
    #[expect(clippy::cast_precision_loss, reason = "batch numbers are small")]
    let value = number as f64;
    let points = Points { values: vec![value; 2], ..Points::default() };
    batch.points =
        vec![Points { series: vec![explicit, automatic], steps: vec![number, i64::MIN], ..points }];
    let record =
        LogRecord { message: number.to_string(), level: 20, timestamp: value, ..LogRecord::default() };
    batch.events = vec![Event { client_time_us: None, kind: Some(Kind::LogRecord(record)) }];
    batch
}

/// Numbers of the frames for which each kind of item is stored, in stored order.
struct StoredItems {
    explicit: Vec<i64>,
    automatic: Vec<i64>,
    records: Vec<i64>,
    lines: Vec<i64>,
}

async fn read_items(reader: &Reader, run_id: &str) -> Result<StoredItems, Status> {
    #[expect(clippy::cast_possible_truncation, reason = "the values are small whole numbers")]
    let values = |points: Vec<Point>| points.iter().map(|point| point.value as i64).collect();
    let number = |text: &String| text.parse::<i64>().expect("messages are numbers");
    let explicit = reader.points(run_id, "explicit", "").await?;
    assert!(explicit.iter().all(|point| point.step as f64 == point.value), "a point has the wrong value");
    let automatic = reader.points(run_id, "automatic", "").await?;
    assert!(
        automatic.iter().enumerate().all(|(at, point)| point.step == at as i64),
        "automatic steps have a gap"
    );
    Ok(StoredItems {
        explicit: values(explicit),
        automatic: values(automatic),
        records: reader.records(run_id).await?.iter().map(number).collect(),
        lines: reader.lines(run_id).await?.iter().map(|(_, text)| number(text)).collect(),
    })
}

/// Data stored for a run once its last acknowledged frame is applied.
async fn applied(reader: &Reader, run_id: &str, last: i64) -> StoredItems {
    eventually("the last acknowledged frame is applied", async || {
        let found = read_items(reader, run_id).await.map_err(|status| status.to_string())?;
        if found.explicit.contains(&last) { Ok(found) } else { Err(found.explicit.len().to_string()) }
    })
    .await
}
