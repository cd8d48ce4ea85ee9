//! Tests of the path from a client's stream to stored points while everything is slow and
//! failing: writing the log, reading it, and the store. Clients resend what was not
//! acknowledged; in the end everything is stored exactly once and in order.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use matyan_blob::{LimitedBlobs, OpenBucket, UploadLimits};
use matyan_frontier::{Deps, Frontier, Settings as FrontierSettings};
use matyan_log::layers::{AppendFault, Faults as LogFaults, FaultyReader, FaultyWriter, Rates};
use matyan_proto::ingest::v1::{
    self as pb, ingest_service_client::IngestServiceClient, stream_request::Message,
};
use matyan_store::layers::Faults;
use prometheus::Registry;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::harness::{TestEnv, record};

const BATCHES: u64 = 40;
const OUTSTANDING: usize = 8;

/// Time for which the frontier holds a batch while the log fails: long enough for a log that
/// responds late.
const HOLD: Duration = Duration::from_secs(2);

/// A client with a producer id: it resends unacknowledged batches on a new stream after one has
/// failed.
struct Client {
    frontier: Frontier,
    run: String,
    producer: u8,
    acknowledged: u64,
    waiting: VecDeque<pb::StreamBatch>,
    streams: u32,
}

impl Client {
    /// Points and an object, both without steps: duplication, loss, and reordering would
    /// all be visible.
    fn batch(&self, sequence: u64) -> pb::StreamBatch {
        let mut content = record(0).points(0, &[(None, sequence as f64), (None, 0.5)]).object("o", None, "x");
        if sequence == 1 {
            content = content.define(0, &["loss"]);
        }
        let batch = content.batch.encode_to_vec().into();
        pb::StreamBatch { sequence, batch, ..pb::StreamBatch::default() }
    }

    async fn write_all(&mut self) {
        while self.acknowledged < BATCHES {
            self.streams += 1;
            if let Err(status) = self.write().await {
                assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
            }
        }
    }

    /// Writes until everything is acknowledged, or the stream fails.
    async fn write(&mut self) -> Result<(), tonic::Status> {
        let (requests, receiver) = mpsc::channel(2 * OUTSTANDING + 1);
        let send = async |message| {
            // A failed stream accepts nothing; its response gives the reason.
            requests.send(pb::StreamRequest { message: Some(message) }).await.ok();
        };
        send(Message::Open(self.open())).await;
        for batch in &self.waiting {
            send(Message::Batch(batch.clone())).await;
        }
        let mut client = IngestServiceClient::new(self.frontier.ingest_server());
        let mut answers = client.stream(ReceiverStream::new(receiver)).await?.into_inner();
        let mut next = self.acknowledged + self.waiting.len() as u64 + 1;
        while self.acknowledged < BATCHES {
            while self.waiting.len() < OUTSTANDING && next <= BATCHES {
                let batch = self.batch(next);
                self.waiting.push_back(batch.clone());
                send(Message::Batch(batch)).await;
                next += 1;
            }
            let answer = answers.message().await?.expect("the server ends the stream only with an error");
            assert_eq!((answer.rejected_items, answer.sequence.cmp(&self.acknowledged).is_lt()), (0, false));
            self.acknowledged = answer.sequence;
            self.waiting.retain(|batch| batch.sequence > answer.sequence);
        }
        Ok(())
    }

    fn open(&self) -> pb::StreamOpen {
        let known = if self.acknowledged == 0 { record(0) } else { record(0).define(0, &["loss"]) };
        pb::StreamOpen {
            run_id: self.run.clone(),
            producer_id: Bytes::copy_from_slice(&[self.producer; 16]),
            acknowledged: self.acknowledged,
            dictionary: known.batch.encode_to_vec().into(),
            ..pb::StreamOpen::default()
        }
    }
}

/// Multipart uploads, which no test here makes.
fn no_uploads(env: &TestEnv) -> matyan_blob::fs::FsBlobs {
    let directory = tempfile::tempdir().unwrap();
    let signer = matyan_blob::UrlSigner::new(b"secret", Duration::from_secs(60), env.deps.clock.clone());
    matyan_blob::fs::FsBlobs::open(directory.path(), signer, env.deps.clock.clone()).unwrap()
}

fn frontier(env: &TestEnv, faults: Arc<LogFaults>) -> Frontier {
    let bucket = OpenBucket { blobs: env.deps.blobs.clone(), multipart: Arc::new(no_uploads(env)) };
    let deps = Deps {
        log: Arc::new(FaultyWriter::new(env.log.clone(), faults)),
        projects: None,
        blobs: Arc::new(LimitedBlobs::cloud(bucket, UploadLimits::default())),
        upload_signer: None,
        clock: env.deps.clock.clone(),
        new_id: env.deps.random.clone(),
        metrics: matyan_frontier::Metrics::new(&Registry::new()).unwrap(),
    };
    Frontier::new(deps, FrontierSettings { hold: HOLD, ..FrontierSettings::default() })
}

async fn everything_arrives_once(seed: u64) {
    let mut env = TestEnv::new().await;
    let late = Duration::from_millis(5);
    let writing = Rates { error_before: 0.03, error_after: 0.03, delay_up_to: late, ..Rates::default() };
    let reading =
        Rates { delivery_error: 0.1, repeat: 0.1, reassign: 0.1, delay_up_to: late, ..Rates::default() };
    let answers_late = LogFaults::seeded(seed, writing, HOLD * 100);
    // Some appends are made but never acknowledged: the streams that wait for them fail
    // after a while.
    answers_late.script_appends((0..60).map(|at| (at % 20 == 7).then_some(AppendFault::NoAnswer)));
    let frontier = frontier(&env, Arc::new(answers_late));
    let reading = LogFaults::seeded(seed, reading, Duration::from_secs(1));
    env.deps.log_reader = Arc::new(FaultyReader::new(env.log.clone(), Arc::new(reading)));
    env.faults.set_faults(Faults::seeded(seed, 0.05, late));
    let worker = env.work().await;

    let runs = ["a", "b", "c"];
    let mut clients: Vec<Client> = (1..)
        .zip(runs)
        .map(|(producer, run)| Client {
            frontier: frontier.clone(),
            run: run.to_owned(),
            producer,
            acknowledged: 0,
            waiting: VecDeque::new(),
            streams: 0,
        })
        .collect();
    futures::future::join_all(clients.iter_mut().map(Client::write_all)).await;
    frontier.drain().await;
    let streams: u32 = clients.iter().map(|client| client.streams).sum();
    assert!(streams > 3, "seed {seed}: no stream failed");

    let info = matyan_log::LogInspector::describe(&*env.log, matyan_log::Topic::Ingestion).await.unwrap();
    env.applied(0, info.partitions[0].end - 1).await;
    worker.stop().await.unwrap();
    for run in runs {
        let read = env.read_run(run).await.unwrap();
        let expected: Vec<f64> = (1..=BATCHES).flat_map(|sequence| [sequence as f64, 0.5]).collect();
        assert_eq!(read.metrics[0].1.values, expected, "seed {seed}, run {run}");
        assert_eq!(read.metrics[0].1.steps, (0..2 * BATCHES as i64).collect::<Vec<_>>(), "seed {seed}");
        let steps: Vec<i64> = read.objects[0].1.iter().map(|object| object.step).collect();
        assert_eq!(steps, (0..BATCHES as i64).collect::<Vec<_>>(), "seed {seed}, run {run}");
    }
    assert!(env.parked().await.is_empty(), "seed {seed}");
    println!(
        "seed {seed}: {} batches over {streams} streams became {} records; 0 lost, 0 duplicated",
        BATCHES * 3,
        info.partitions[0].end
    );
}

#[tokio::test]
async fn a_slow_and_failing_log_and_store_neither_lose_nor_duplicate_anything() {
    futures::future::join_all((1..=4).map(everything_arrives_once)).await;
}
