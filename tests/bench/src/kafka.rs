//! The system over Apache Kafka, with a real broker on the same machine: a separate frontier
//! accepts frames, and workers apply them. Workers that share an embedded store must share a
//! process, so the workers of the first rows run in this process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use matyan_blob::{UrlSigner, fs::FsBlobs};
use matyan_log::{
    Topic,
    kafka::{KafkaLog, Settings, TopicNames},
};
use matyan_model::{keys::LogTopic, position::applied_get};
use matyan_servers::kafka::{Broker, unavailable_reason};
use matyan_store::embedded::EmbeddedStore;
use matyan_tests::{
    Reader, eventually,
    json::{Ack, JsonWriter},
    kafka::scene::Scene,
};
use matyan_worker::{Deps, FoldThread, IngestionWorker, Metrics};
use prometheus::Registry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    load,
    table::{Budget, Table, Unit},
};

const CONNECTIONS: usize = 8;
const PARTITIONS: u32 = 6;
const PER_FRAME: usize = 100;

/// Interval between the frames of a connection while a worker is paused.
const PACE: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_secs(60);

pub(crate) async fn rows(table: &mut Table, scale: usize) {
    let loads = [
        ("1 partition, 1 worker", 1, 1, Budget::None),
        ("1 worker", PARTITIONS, 1, Budget::AtLeast(600e3)),
        ("2 workers", PARTITIONS, 2, Budget::AtLeast(800e3)),
    ];
    let works = loads.each_ref().map(|(who, ..)| {
        format!("Kafka, {CONNECTIONS} connections, {PER_FRAME} messages a frame, {who}, until applied")
    });
    let pause = PAUSE / scale as u32;
    let recovery = format!("Kafka, a worker pauses {} s under load, until it has caught up", pause.as_secs());
    if !works.iter().chain([&recovery]).any(|work| table.wants(work)) {
        return;
    }
    let waited = "Kafka, records accumulated in that pause, per second of catching up";
    if let Some(reason) = unavailable_reason() {
        for work in works.iter().filter(|work| table.wants(work)) {
            table.skip(work, &reason);
        }
        if table.wants(&recovery) {
            table.skip(&recovery, &reason);
            table.skip(waited, &reason);
        }
        return;
    }
    let broker = tokio::task::block_in_place(Broker::start);
    let mut scenes = 0..;
    for (work, (_, partitions, workers, budget)) in works.iter().zip(loads) {
        table
            .row(work, budget, Unit::PerSecond("points"), async || {
                let scene = new_scene(&broker, &mut scenes, partitions);
                end_to_end(scene, workers, 2_000 / scale).await
            })
            .await;
    }
    if table.wants(&recovery) {
        let scene = new_scene(&broker, &mut scenes, PARTITIONS);
        let (seconds, points) = caught_up(scene, pause).await;
        table.print(&recovery, Budget::None, Unit::Seconds, vec![seconds]);
        table.print(waited, Budget::None, Unit::PerSecond("points"), vec![points / seconds]);
    }
}

fn new_scene(broker: &Broker, numbers: &mut std::ops::RangeFrom<u32>, partitions: u32) -> Scene {
    let number = numbers.next().expect("the range is unbounded");
    Scene::prepare(broker, &format!("bench-{number}"), partitions, "protobuf")
}

fn run_id(connection: usize) -> String {
    format!("bench-{connection}")
}

fn settings(scene: &Scene) -> Settings {
    let topics = TopicNames {
        ingestion: scene.ingestion.clone(),
        control: scene.control.clone(),
        dead_letters: scene.dead_letters.clone(),
    };
    Settings { topics, ..Settings::new(scene.admin.servers(), &scene.group) }
}

async fn writers(scene: &Scene) -> Vec<JsonWriter> {
    let mut writers = Vec::new();
    for connection in 0..CONNECTIONS {
        let writer = JsonWriter::connect(scene.ingest(), &run_id(connection)).await;
        writers.push(writer.expect("the frontier listens"));
    }
    writers
}

/// Points per second, from the first frame until everything is in the store.
async fn end_to_end(mut scene: Scene, count: usize, frames: usize) -> f64 {
    scene.frontier.start().await;
    let folder = tempfile::tempdir().expect("the temporary directory is writable");
    let deps = deps(&scene, folder.path()).await;
    let mut workers = Vec::new();
    for _ in 0..count {
        workers.push(Worker::start(&scene, &deps).await);
    }
    let texts = Arc::new(load::json_frames(frames, PER_FRAME, 4));
    let writers = writers(&scene).await;
    let start = Instant::now();
    let sending: JoinSet<()> = writers.into_iter().map(|writer| send_all(writer, texts.clone())).collect();
    sending.join_all().await;
    all_applied(&deps).await;
    let figure = (CONNECTIONS * frames * PER_FRAME) as f64 / start.elapsed().as_secs_f64();
    for worker in workers {
        worker.stop().await;
    }
    assert!(scene.frontier.terminate().await.success(), "{}", scene.frontier.log());
    figure
}

async fn send_all(mut writer: JsonWriter, texts: Arc<Vec<String>>) {
    for text in texts.iter() {
        assert_eq!(writer.send_text(text.clone()).await, Ok(Ack::Ok));
    }
}

/// Waits until the store has everything. Acknowledged records are in the log, so the end of the
/// log is the target.
async fn all_applied(deps: &Deps) {
    let info = deps.log_writer.describe(Topic::Ingestion).await.expect("the log is described");
    for (partition, bounds) in (0..).zip(info.partitions).filter(|(_, bounds)| bounds.end > 0) {
        eventually("everything is applied", async || {
            let snapshot = deps.store.snapshot().await.map_err(|error| error.to_string())?;
            let applied = applied_get(&*snapshot, LogTopic::Ingestion, partition).await;
            match applied.map_err(|error| error.to_string())? {
                Some(applied) if applied.next >= bounds.end => Ok(()),
                applied => Err(format!("{applied:?} of {bounds:?}")),
            }
        })
        .await;
    }
}

async fn deps(scene: &Scene, folder: &std::path::Path) -> Deps {
    let log = Arc::new(KafkaLog::open(settings(scene)).await.expect("the topics exist"));
    let store = EmbeddedStore::open(folder.join("store"), Default::default()).await;
    let clock = Arc::new(|| load::time_us(0));
    let signer = UrlSigner::new(b"secret", Duration::from_secs(60), clock.clone());
    let blobs = FsBlobs::open(&folder.join("blobs"), signer, clock.clone());
    Deps {
        store: Arc::new(store.expect("the store is opened")),
        log_reader: log.clone(),
        log_writer: log,
        blobs: Arc::new(blobs.expect("the blobs are opened")),
        clock,
        random: Arc::new(rand::random::<[u8; 16]>),
    }
}

/// A member of the consumer group, with its own connections.
struct Worker {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), matyan_worker::Error>>,
    fold: FoldThread,
    log: Arc<KafkaLog>,
}

impl Worker {
    async fn start(scene: &Scene, deps: &Deps) -> Self {
        let log = Arc::new(KafkaLog::open(settings(scene)).await.expect("the topics exist"));
        let deps = Deps { log_reader: log.clone(), log_writer: log.clone(), ..deps.clone() };
        let stop = CancellationToken::new();
        let metrics = Metrics::new(&Registry::new()).expect("the registry is new");
        let fold = FoldThread::start(deps.clone(), metrics.clone(), stop.clone());
        let (notices, fold) = fold.expect("the thread starts");
        let ingestion = IngestionWorker::new(deps, Default::default(), notices, metrics).await;
        let task = tokio::spawn(ingestion.expect("the worker subscribes").run(stop.clone()));
        Self { stop, task, fold, log }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("the worker does not panic").expect("the worker ends without an error");
        self.fold.finish().await;
        self.log.close().await.expect("the group is left");
    }
}

/// Pauses the process that applies records while writers continue. Returns the seconds from the
/// end of the pause until less than a second of writing is unread, and the number of points
/// written during the pause.
async fn caught_up(mut scene: Scene, pause: Duration) -> (f64, f64) {
    scene.up.start().await;
    scene.frontier.start().await;
    let reader = scene.reader().await;
    let stop = CancellationToken::new();
    let sent = Arc::new(AtomicU64::new(0));
    let texts = Arc::new(load::json_frames(10_000, PER_FRAME, 4));
    let sending: JoinSet<()> = writers(&scene)
        .await
        .into_iter()
        .map(|writer| send_paced(writer, texts.clone(), sent.clone(), stop.clone()))
        .collect();
    let a_second = CONNECTIONS as f64 * PER_FRAME as f64 / PACE.as_secs_f64();
    until_waiting(&reader, &sent, a_second).await;
    let before = sent.load(Ordering::Relaxed);
    scene.up.suspend();
    // The pause is part of the measurement, not a wait for a state.
    tokio::time::sleep(pause).await;
    let start = Instant::now();
    scene.up.resume();
    let waited = (sent.load(Ordering::Relaxed) - before) as f64;
    until_waiting(&reader, &sent, a_second).await;
    let seconds = start.elapsed().as_secs_f64();
    stop.cancel();
    sending.join_all().await;
    scene.stop().await;
    (seconds, waited)
}

async fn send_paced(
    mut writer: JsonWriter,
    texts: Arc<Vec<String>>,
    sent: Arc<AtomicU64>,
    stop: CancellationToken,
) {
    let mut pace = tokio::time::interval(PACE);
    for text in texts.iter() {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = pace.tick() => {}
        }
        assert_eq!(writer.send_text(text.clone()).await, Ok(Ack::Ok));
        sent.fetch_add(PER_FRAME as u64, Ordering::Relaxed);
    }
}

/// Number of points that are acknowledged but cannot be read yet.
async fn waiting(reader: &Reader, sent: &AtomicU64) -> Result<f64, String> {
    let sent = sent.load(Ordering::Relaxed);
    let mut readable = 0;
    for connection in 0..CONNECTIONS {
        readable += reader.count(&run_id(connection)).await.map_err(|status| status.to_string())?;
    }
    Ok(sent.saturating_sub(readable) as f64)
}

async fn until_waiting(reader: &Reader, sent: &AtomicU64, most: f64) {
    eventually("the worker has caught up", async || match waiting(reader, sent).await {
        Ok(few) if few <= most => Ok(()),
        waiting => Err(waiting),
    })
    .await;
}
