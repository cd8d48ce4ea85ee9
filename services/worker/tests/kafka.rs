//! Tests with two workers on one store and one topic of a real Apache Kafka. Partitions move
//! between the workers while records arrive, and one worker continues with its records long
//! after its partitions were reassigned. Every point is stored once and in order. The workers
//! share a process, because only then can they share an embedded store; to Kafka they are two
//! members of a group.

#[path = "kafka/zombie.rs"]
mod zombie;

use std::{
    pin::Pin,
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Duration,
};

use libtest_mimic::{Arguments, Trial};
use matyan_blob::{UrlSigner, fs::FsBlobs};
use matyan_log::{
    LogReader, LogWriter, NewRecord, Position, Topic,
    kafka::{CreateTopics, KafkaLog, Settings, TopicNames, topics_create},
};
use matyan_model::{
    ids::{Project, RunId},
    keys::LogTopic,
    metric::metric_series_list,
    position::{AppliedPosition, LogState, applied_put, log_get},
    run::run_find,
    series::{RunRef, RunSeries, StepRange},
};
use matyan_proto::{
    ingest::v1::{IngestionBatch, Points, SeriesDef},
    log::v1::LogEntry,
};
use matyan_servers::kafka::{Broker, unavailable_reason};
use matyan_store::{Batch, embedded::EmbeddedStore};
use matyan_tests::eventually;
use matyan_worker::{Deps, FoldThread, IngestionWorker, Metrics};
use prometheus::Registry;
use prost::Message;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use zombie::Zombie;

const P: Project = Project(0);
const PARTITIONS: u32 = 4;
const RUNS: usize = 16;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let unavailable_reason = unavailable_reason();
    // Started by the first test and stopped after the last.
    let broker = Arc::new(OnceLock::new());
    let trial = |name: &'static str, play: fn(TestEnv) -> Scene| {
        let broker = broker.clone();
        let trial = Trial::test(name, move || {
            run(broker.get_or_init(Broker::start), name, play);
            Ok(())
        });
        match &unavailable_reason {
            Some(reason) => trial.with_kind(reason.clone()).with_ignored_flag(true),
            None => trial,
        }
    };
    let shortened = Trial::test("rule_43_a_partition_that_lost_its_tail_stops", || {
        let mut broker = Broker::start();
        block_on(a_partition_that_lost_its_tail_stops(&mut broker));
        Ok(())
    });
    let shortened = match &unavailable_reason {
        Some(reason) => shortened.with_kind(reason.clone()).with_ignored_flag(true),
        None => shortened,
    };
    let trials = vec![
        shortened,
        trial("rule_43_a_topic_is_read_from_its_middle", |env| {
            Box::pin(a_topic_is_read_from_its_middle(env))
        }),
        trial("rule_04_partitions_move_under_load", |env| Box::pin(partitions_move_under_load(env))),
        trial("rule_04_a_zombie_changes_nothing", |env| Box::pin(a_zombie_changes_nothing(env))),
    ];
    let outcome = libtest_mimic::run(&arguments, trials);
    drop(broker);
    outcome.exit_code()
}

type Scene = Pin<Box<dyn Future<Output = ()>>>;

fn run(broker: &Broker, name: &str, play: fn(TestEnv) -> Scene) {
    block_on(async { play(TestEnv::new(broker, name).await).await });
}

fn block_on(scene: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("the runtime can be built").block_on(scene);
}

/// A store, and a log that the test writes to.
struct TestEnv {
    deps: Deps,
    log: Arc<KafkaLog>,
    settings: Settings,
    /// Number of records written per run so far.
    written: u64,
    _directory: tempfile::TempDir,
}

struct Worker {
    registry: Registry,
    stop: CancellationToken,
    task: JoinHandle<Result<(), matyan_worker::Error>>,
    fold: FoldThread,
    log: Arc<KafkaLog>,
}

impl TestEnv {
    /// Creates an environment with its own topics.
    async fn new(broker: &Broker, name: &str) -> Self {
        let topics = TopicNames {
            ingestion: format!("{name}-ingestion"),
            control: format!("{name}-control"),
            dead_letters: format!("{name}-dead-letters"),
        };
        let settings = Settings { topics, ..Settings::new(broker.address(), name) };
        let wanted =
            CreateTopics { ingestion_partitions: PARTITIONS, replication: 1, min_insync_replicas: 1 };
        topics_create(&settings, wanted).await.expect("the topics can be created");
        let log = Arc::new(KafkaLog::open(settings.clone()).await.expect("the log can be opened"));
        let directory = tempfile::tempdir().expect("a temporary directory can be created");
        let store = EmbeddedStore::open(directory.path().join("store"), Default::default()).await;
        let clock = Arc::new(|| 1_000_000_000_i64);
        let signer = UrlSigner::new(b"secret", Duration::from_secs(60), clock.clone());
        let blobs = FsBlobs::open(&directory.path().join("blobs"), signer, clock.clone());
        let deps = Deps {
            store: Arc::new(store.expect("the store can be opened")),
            log_reader: log.clone(),
            log_writer: log.clone(),
            blobs: Arc::new(blobs.expect("the blob store can be opened")),
            clock,
            random: Arc::new(rand::random::<[u8; 16]>),
        };
        Self { deps, log, settings, written: 0, _directory: directory }
    }

    /// Starts another member of the group, with separate connections.
    async fn worker(&self, reader: impl FnOnce(Arc<KafkaLog>) -> Arc<dyn LogReader>) -> Worker {
        let log = Arc::new(KafkaLog::open(self.settings.clone()).await.expect("the log can be opened"));
        let deps = Deps { log_reader: reader(log.clone()), log_writer: log.clone(), ..self.deps.clone() };
        let registry = Registry::new();
        let stop = CancellationToken::new();
        let metrics = Metrics::new(&registry).expect("the registry is empty");
        let (notices, fold) = FoldThread::start(deps.clone(), metrics.clone(), stop.clone())
            .expect("the thread can be started");
        let ingestion = IngestionWorker::new(deps, Default::default(), notices, metrics).await;
        let task = tokio::spawn(ingestion.expect("the worker can subscribe").run(stop.clone()));
        Worker { registry, stop, task, fold, log }
    }

    /// Writes this many records to every run. Each is one point without a step, so that
    /// duplicates are visible.
    async fn write(&mut self, rounds: u64) {
        for _ in 0..rounds {
            self.written += 1;
            let records = (0..RUNS).map(|run| record(&run_id(run), self.written)).collect();
            self.log.append(Topic::Ingestion, records).await.expect("the records can be appended");
        }
    }

    /// The row that `matyan partitions skip` writes for a partition whose first records are gone.
    async fn skip_head(&self, partition: u32, next: u64) {
        let snapshot = self.deps.store.snapshot().await.expect("the store can be read");
        let known = log_get(&*snapshot, LogTopic::Ingestion).await.expect("the row can be read");
        let LogState { number: log, identity, .. } = known.expect("the worker has seen the log");
        let middle = AppliedPosition::from_middle(log, next, identity);
        let mut batch = Batch::default();
        applied_put(&mut batch, LogTopic::Ingestion, partition, &middle);
        self.deps.store.commit(batch).await.expect("the row can be written");
    }

    async fn values(&self, run: usize) -> Vec<(i64, f64)> {
        let snapshot = self.deps.store.snapshot().await.expect("the store can be read");
        let Some((number, _)) =
            run_find(&*snapshot, P, &RunId::new(run_id(run))).await.expect("the run can be read")
        else {
            return Vec::new();
        };
        let series =
            RunSeries::open(&*snapshot, RunRef { project: P, number }).await.expect("the run can be read");
        let all = metric_series_list(&*snapshot, P, number).await.expect("the series can be read");
        let Some((metric, _)) = all.into_iter().next() else { return Vec::new() };
        let view = series.view(&*snapshot, metric).await.expect("the series can be read");
        let points = view
            .points(&*snapshot, StepRange::new(i64::MIN, i64::MAX))
            .await
            .expect("the points can be read");
        points.steps.iter().copied().zip(points.values.iter().copied()).collect()
    }

    /// Checks that a run has exactly the written points; returns the number of points so far if some are
    /// missing.
    async fn is_whole(&self, run: usize) -> Result<(), usize> {
        let found = self.values(run).await;
        for (place, (step, value)) in found.iter().enumerate() {
            assert_eq!(
                (*step, *value),
                (place as i64, (place + 1) as f64),
                "{run}: duplicated, lost, or out of order"
            );
        }
        if found.len() as u64 == self.written { Ok(()) } else { Err(found.len()) }
    }

    async fn all_are_whole(&self) {
        for run in 0..RUNS {
            eventually(&format!("run {run} is complete"), async || self.is_whole(run).await).await;
        }
    }

    /// Waits until any run is complete, and returns it.
    async fn one_is_whole(&self) -> usize {
        eventually("a run is complete", async || {
            let mut found = Vec::new();
            for run in 0..RUNS {
                match self.is_whole(run).await {
                    Ok(()) => return Ok(run),
                    Err(count) => found.push(count),
                }
            }
            Err(found)
        })
        .await
    }
}

impl Worker {
    fn counter(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).expect("the metric is registered");
        family.get_metric().iter().map(|metric| metric.get_counter().get_value()).sum()
    }

    /// Waits until the worker has taken records from the log.
    async fn is_at_work(&self) {
        eventually("the worker takes records", async || {
            match self.counter("matyan_ingestion_messages_consumed_total") {
                0.0 => Err(()),
                _ => Ok(()),
            }
        })
        .await;
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("the worker does not panic").expect("the worker stops without an error");
        self.fold.finish().await;
        self.log.close().await.expect("the log can be closed");
    }
}

fn run_id(run: usize) -> String {
    format!("run-{run}")
}

fn record(run_id: &str, number: u64) -> NewRecord {
    let series = SeriesDef { name: "loss".into(), ..SeriesDef::default() };
    let points =
        Points { series: vec![0], values: vec![number as f64], steps: vec![i64::MIN], ..Points::default() };
    let batch = IngestionBatch { series: vec![series], points: vec![points], ..IngestionBatch::default() };
    let entry =
        LogEntry { run_id: run_id.to_owned(), batch: batch.encode_to_vec().into(), ..LogEntry::default() };
    let value = [vec![1], entry.encode_to_vec()].concat();
    NewRecord { key: run_id.to_owned().into(), value: value.into(), headers: Vec::new() }
}

async fn partitions_move_under_load(mut env: TestEnv) {
    let first = env.worker(|log| log).await;
    env.write(20).await;
    first.is_at_work().await;
    let second = env.worker(|log| log).await;
    while second.counter("matyan_ingestion_messages_consumed_total") == 0.0 {
        env.write(5).await;
    }
    env.write(20).await;
    // The first worker stops in the middle of its work, and another one starts.
    first.stop().await;
    let third = env.worker(|log| log).await;
    while third.counter("matyan_ingestion_messages_consumed_total") == 0.0 {
        env.write(5).await;
    }
    env.write(20).await;
    env.all_are_whole().await;
    second.stop().await;
    third.stop().await;
}

async fn a_zombie_changes_nothing(mut env: TestEnv) {
    let (asleep, is_asleep) = tokio::sync::watch::channel(false);
    let (zombie, held) = Zombie::new(is_asleep);
    let dead = env.worker(|log| Arc::new(zombie.over(log))).await;
    env.write(10).await;
    env.all_are_whole().await;
    // From here on, it receives no updates about its partitions and does not process its
    // records.
    asleep.send(true).expect("the zombie is listening");
    env.write(10).await;
    eventually("the zombie has records of every run", async || match held.records() {
        enough if enough >= 10 * RUNS => Ok(()),
        few => Err(few),
    })
    .await;
    let living = env.worker(|log| log).await;
    env.write(10).await;
    // The active worker has taken over some partitions, and has passed the records that the zombie still
    // holds.
    let moved = env.one_is_whole().await;
    asleep.send(false).expect("the zombie is listening");
    eventually("the zombie has processed what it held", async || match held.records() {
        0 => Ok(()),
        left => Err(left),
    })
    .await;
    env.write(10).await;
    env.all_are_whole().await;
    assert_eq!(env.values(moved).await.len(), 40);
    dead.stop().await;
    living.stop().await;
}

/// The records that remain are not applied a second time, and the other partitions continue.
async fn a_partition_that_lost_its_tail_stops(broker: &mut Broker) {
    let mut env = TestEnv::new(broker, "shortened").await;
    let worker = env.worker(|log| log).await;
    env.write(10).await;
    env.all_are_whole().await;
    worker.stop().await;
    env.log.close().await.expect("the log can be closed");

    let partition = |run: usize| matyan_log::partition_of(run_id(run).as_bytes(), PARTITIONS as usize);
    let lost = partition(0);
    broker.kill();
    broker.forget_last_batch(&env.settings.topics.ingestion, lost);
    broker.restart();
    env.log = Arc::new(KafkaLog::open(env.settings.clone()).await.expect("the log can be opened"));
    let worker = env.worker(|log| log).await;
    eventually("an alarm", async || match worker.counter("matyan_ingestion_partitions_lost_total") {
        1.0 => Ok(()),
        found => Err(found),
    })
    .await;
    env.write(10).await;
    for run in 0..RUNS {
        if partition(run) != lost {
            eventually("the others continue", async || env.is_whole(run).await).await;
        }
    }
    assert_eq!(env.is_whole(0).await, Err(10), "nothing is applied until an operator decides");
    worker.stop().await;
}

/// An empty store next to a topic whose first records are gone.
async fn a_topic_is_read_from_its_middle(env: TestEnv) {
    let settings = Settings { delete_trimmed: true, ..env.settings.clone() };
    let log = KafkaLog::open(settings).await.expect("the log can be opened");
    let mut ends = Vec::new();
    // All records were in flight at once: none was acknowledged to their producer before the next was sent.
    for sequence in 1..=10 {
        let record = pipelined_record(&run_id(0), sequence);
        ends = log.append(Topic::Ingestion, vec![record]).await.expect("the record can be appended");
    }
    let Position { partition, offset } = ends[0];
    log.trim(Topic::Ingestion, partition, offset - 5).await.expect("the log can be trimmed");
    let worker = env.worker(|log| log).await;
    eventually("an alarm", async || match worker.counter("matyan_ingestion_partitions_lost_total") {
        1.0 => Ok(()),
        found => Err(found),
    })
    .await;
    assert_eq!(env.values(0).await, [], "nothing is applied until an operator decides");
    env.skip_head(partition, offset - 5).await;
    eventually("what remains is applied", async || match env.values(0).await.len() {
        6 => Ok(()),
        few => Err(few),
    })
    .await;
    let values: Vec<_> = env.values(0).await.into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, [5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
    worker.stop().await;
    log.close().await.expect("the log can be closed");
}

/// Like `record`, but of a producer that numbers its batches.
fn pipelined_record(run_id: &str, sequence: u64) -> NewRecord {
    let plain = record(run_id, sequence);
    let mut entry = LogEntry::decode(&plain.value[1..]).expect("it was just encoded");
    entry.producer_id = vec![7; 16].into();
    entry.sequence = sequence;
    NewRecord { value: [vec![1], entry.encode_to_vec()].concat().into(), ..plain }
}
