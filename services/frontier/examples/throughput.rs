//! Benchmark of the frontier on one core and one connection, compared with the log alone. Run
//! it with `--release`. It prints seven lines and checks nothing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use matyan_blob::{LimitedBlobs, UploadLimits, UrlSigner, fs::FsBlobs};
use matyan_frontier::{Deps, Frontier, Metrics, Settings};
use matyan_log::{
    Append, LogInspector, LogWriter, NewRecord, Position, Result, Topic, TopicInfo,
    embedded::{EmbeddedLog, Settings as LogSettings},
};
use matyan_proto::ingest::v1::{
    self as pb, ingest_service_client::IngestServiceClient, stream_request::Message,
};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;

const SECONDS: Duration = Duration::from_secs(3);

/// A log that accepts everything immediately, to measure the frontier alone.
struct NoLog;

#[async_trait::async_trait]
impl LogInspector for NoLog {
    async fn describe(&self, _: Topic) -> Result<TopicInfo> {
        Ok(TopicInfo { identity: [0; 16], partitions: Vec::new() })
    }
}

#[async_trait::async_trait]
impl LogWriter for NoLog {
    fn append(&self, _: Topic, records: Vec<NewRecord>) -> Append {
        let positions = vec![Position { partition: 0, offset: 0 }; records.len()];
        Box::pin(std::future::ready(Ok(positions)))
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let directory = tempfile::tempdir().expect("a temporary directory can be created");
    let one_core = tokio::task::spawn_blocking(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("the runtime can be built");
        let directory = tempfile::tempdir().expect("a temporary directory can be created");
        runtime.block_on(async {
            let frames = stream(frontier(Arc::new(NoLog), directory.path()), columnar(2_000)).await;
            print("one core, no log, 2,000 points a frame", frames, 2_000);
            let frames = stream(frontier(Arc::new(NoLog), directory.path()), columnar(1)).await;
            print("one core, no log, 1 point a frame", frames, 1);
            let frames = local_stream(frontier(Arc::new(NoLog), directory.path()), columnar(1)).await;
            print("one core, no log, 1 point a frame, no gRPC", frames, 1);
        });
    });
    one_core.await.expect("the benchmark does not panic");

    let log = EmbeddedLog::open(
        directory.path().join("log"),
        LogSettings { max_unread_bytes: 1 << 40, ..LogSettings::default() },
    );
    let log = Arc::new(log.await.expect("the log can be opened"));
    let frames = appends(log.clone(), columnar(1)).await;
    print("the log alone, 1 point a record", frames, 1);
    let frames = stream(frontier(log.clone(), directory.path()), columnar(1)).await;
    print("one connection, 1 point a frame", frames, 1);
    let frames = local_stream(frontier(log.clone(), directory.path()), columnar(1)).await;
    print("one connection, 1 point a frame, no gRPC", frames, 1);
    let frames = stream(frontier(log, directory.path()), columnar(2_000)).await;
    print("one connection, 2,000 points a frame", frames, 2_000);
}

fn print(what: &str, frames_per_second: f64, points: u32) {
    let points_per_second = frames_per_second * f64::from(points);
    #[expect(clippy::print_stdout, reason = "printing is the purpose of this program")]
    {
        println!("{what:45} {frames_per_second:10.0} frames/s {points_per_second:12.0} points/s");
    }
}

fn frontier(log: Arc<dyn LogWriter>, directory: &std::path::Path) -> Frontier {
    let clock: matyan_frontier::Clock = Arc::new(|| 1_767_323_045_678_901);
    let signer = UrlSigner::new(b"secret", SECONDS, clock.clone());
    let blobs = FsBlobs::open(&directory.join("blobs"), signer, clock.clone());
    let blobs = Arc::new(blobs.expect("the blob store can be opened"));
    let deps = Deps {
        log,
        projects: None,
        blobs: Arc::new(LimitedBlobs::directory(blobs, UploadLimits::default())),
        upload_signer: None,
        clock,
        new_id: Arc::new(|| [1; 16]),
        metrics: Metrics::new(&prometheus::Registry::new()).expect("the registry is empty"),
    };
    Frontier::new(deps, Settings { run_bytes_per_second: 1 << 40, ..Settings::default() })
}

/// Points as an SDK sends them: 50 series, varying values and times, consecutive steps.
fn columnar(points: u32) -> Bytes {
    let batch = pb::IngestionBatch {
        series_base: 50,
        points: vec![pb::Points {
            series: (0..points).map(|point| point % 50).collect(),
            values: (0..points).map(|point| f64::from(point).sin()).collect(),
            steps: (0..points).map(|point| 100_000 + i64::from(point / 50)).collect(),
            epochs: Vec::new(),
            times_us: (0..points).map(|point| 1_767_323_045_678_901 + i64::from(point) * 137).collect(),
            ..pb::Points::default()
        }],
        ..Default::default()
    };
    batch.encode_to_vec().into()
}

fn definitions() -> Bytes {
    let series = |number: u32| pb::SeriesDef { name: format!("series {number}"), ..Default::default() };
    pb::IngestionBatch { series: (0..50).map(series).collect(), ..Default::default() }.encode_to_vec().into()
}

/// Returns the number of frames per second that are acknowledged to one client.
async fn stream(frontier: Frontier, frame: Bytes) -> f64 {
    let mut client = IngestServiceClient::new(frontier.ingest_server());
    let (requests, receiver) = open_requests();
    let mut answers =
        client.stream(ReceiverStream::new(receiver)).await.expect("the stream can be opened").into_inner();
    let start = Instant::now();
    let send = send_frames(requests, frame, start);
    let receive = async {
        let mut last = 0;
        while let Some(answer) = answers.message().await.expect("the stream does not fail") {
            last = answer.sequence;
        }
        last
    };
    let ((), last) = tokio::join!(send, receive);
    last as f64 / start.elapsed().as_secs_f64()
}

/// Returns the number of frames per second that are acknowledged to one client that does the work of its stream.
async fn local_stream(frontier: Frontier, frame: Bytes) -> f64 {
    let (requests, receiver) = open_requests();
    let opened = frontier.open_stream(&MetadataMap::new(), receiver).await;
    let (mut answers, work) = opened.expect("the stream can be opened");
    let start = Instant::now();
    let receive = async {
        let mut last = 0;
        while let Some(answer) = answers.recv().await {
            last = answer.expect("the stream does not fail").sequence;
        }
        last
    };
    let ((), (), last) = tokio::join!(send_frames(requests, frame, start), work, receive);
    last as f64 / start.elapsed().as_secs_f64()
}

/// The requests of a new stream, which begin with its first message.
fn open_requests() -> (mpsc::Sender<pb::StreamRequest>, mpsc::Receiver<pb::StreamRequest>) {
    let (requests, receiver) = mpsc::channel(256);
    let open = pb::StreamOpen { run_id: "run".into(), ..Default::default() };
    let open = pb::StreamRequest { message: Some(Message::Open(open)) };
    requests.try_send(open).expect("a new channel has room");
    (requests, receiver)
}

/// Sends frames until the time is over.
async fn send_frames(requests: mpsc::Sender<pb::StreamRequest>, frame: Bytes, start: Instant) {
    let mut sequence = 1;
    while start.elapsed() < SECONDS {
        let batch = if sequence == 1 { definitions() } else { frame.clone() };
        let batch = pb::StreamBatch { sequence, batch, traceparent: String::new() };
        let request = pb::StreamRequest { message: Some(Message::Batch(batch)) };
        requests.send(request).await.expect("the server is listening");
        sequence += 1;
    }
}

/// Returns the number of appends per second of one caller with as many in flight as a stream
/// allows.
async fn appends(log: Arc<dyn LogWriter>, value: Bytes) -> f64 {
    let record = NewRecord { key: Bytes::from_static(b"run"), value, headers: Vec::new() };
    let mut under_way = std::collections::VecDeque::new();
    let start = Instant::now();
    let mut done = 0;
    while start.elapsed() < SECONDS {
        under_way.push_back(log.append(Topic::Ingestion, vec![record.clone()]));
        if under_way.len() == Settings::default().stream_batches {
            under_way.pop_front().expect("the queue is full").await.expect("the append succeeds");
            done += 1;
        }
    }
    f64::from(done) / start.elapsed().as_secs_f64()
}
