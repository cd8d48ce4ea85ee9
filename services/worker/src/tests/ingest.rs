//! Tests of the whole ingestion worker on the embedded log: read, apply, report, stop, restart.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use matyan_blob::{BlobKey, BlobMeta, Blobs, Content, Listing, PresignedUpload};
use matyan_log::{
    Append, Delivery, LogInspector, LogReader, LogWriter, NewRecord, StartPoint, Subscription, Topic,
    TopicInfo,
    layers::{Faults as LogFaults, FaultyReader, Rates},
};
use matyan_model::{
    ids::RunId,
    keys::LogTopic,
    position::{AppliedPosition, LogPosition, applied_get, applied_wait},
};
use matyan_proto::ingest::v1::event::Kind;
use matyan_store::layers::{Fault, Faults};
use prometheus::Registry;
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::harness::{P, TestEnv, TestRecord, record};
use crate::{
    Error, FoldThread, IngestSettings, IngestionWorker, Metrics, StoppedPartitions,
    record::tests::{PANIC_WHILE_DECODING, PANIC_WHILE_READING},
};

pub(super) fn settings() -> IngestSettings {
    IngestSettings { trim_every: Duration::from_millis(20), ..IngestSettings::default() }
}

/// A running worker.
pub(super) struct RunningWorker {
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
    fold: FoldThread,
    pub(super) metrics: Metrics,
    pub(super) stopped: StoppedPartitions,
}

impl TestEnv {
    pub(super) async fn work(&self) -> RunningWorker {
        self.work_with(settings()).await
    }

    pub(super) async fn work_with(&self, settings: IngestSettings) -> RunningWorker {
        let stop = CancellationToken::new();
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let (notices, fold) = FoldThread::start(self.deps.clone(), metrics.clone(), stop.clone()).unwrap();
        let ingestion =
            IngestionWorker::new(self.deps.clone(), settings, notices, metrics.clone()).await.unwrap();
        let stopped = ingestion.stopped_partitions();
        let task = tokio::spawn(ingestion.run(stop.clone()));
        RunningWorker { stop, task, fold, metrics, stopped }
    }

    /// Waits until the worker has reported this offset of the log as applied.
    pub(super) async fn applied(&self, log: u32, offset: u64) {
        let position = LogPosition { log, partition: 0, offset };
        let wait = applied_wait(self.store(), LogTopic::Ingestion, position);
        let done = tokio::time::timeout(Duration::from_secs(60), wait).await;
        if done.is_err() {
            panic!(
                "timed out waiting for {position:?} to be applied; progress is {:?}",
                self.progress().await
            );
        }
        done.unwrap().unwrap();
    }

    async fn progress(&self) -> Option<AppliedPosition> {
        applied_get(&*self.store().snapshot().await.unwrap(), LogTopic::Ingestion, 0).await.unwrap()
    }
}

impl RunningWorker {
    pub(super) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    pub(super) async fn stop(self) -> Result<(), Error> {
        self.stop.cancel();
        let worked = self.task.await.unwrap();
        self.fold.finish().await;
        worked
    }
}

fn metric(steps: std::ops::Range<i64>) -> TestRecord {
    let points: Vec<_> = steps.map(|step| (Some(step), step as f64 / 2.0)).collect();
    record(0).define(0, &["loss"]).points(0, &points)
}

#[tokio::test]
async fn a_worker_applies_reports_and_continues_after_a_restart() {
    let env = TestEnv::new().await;
    let worker = env.work().await;
    env.append([record(0).create(), metric(0..10), record(0).run("s").create().tag("t")]).await;
    env.applied(0, 2).await;
    assert_eq!(env.points("loss").await.len(), 10);
    assert_eq!(env.tags(&env.read_run("s").await.unwrap().props).await, [("t".to_owned(), 1)]);
    worker.stop().await.unwrap();

    env.append([metric(10..20)]).await;
    let worker = env.work().await;
    env.applied(0, 3).await;
    assert_eq!(env.points("loss").await.len(), 20);
    assert_eq!(worker.metrics.ingestion.records.get(), 1, "applied records are not read again");
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn many_runs_are_applied_concurrently_in_a_small_window() {
    let env = TestEnv::new().await;
    let settings =
        IngestSettings { window_bytes: 2_000, writer_cache_bytes: 10_000, ..IngestSettings::default() };
    let worker = env.work_with(settings).await;
    let runs: Vec<String> = (0..40).map(|number| format!("run-{number}")).collect();
    for round in 0..5 {
        env.append(runs.iter().map(|run| metric(round * 3..round * 3 + 3).run(run))).await;
    }
    env.applied(0, 199).await;
    for run in &runs {
        let read = env.read_run(run).await.unwrap();
        assert_eq!(read.metrics[0].1.steps, (0..15).collect::<Vec<_>>(), "{run}");
    }
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn rule_08_errors_of_the_store_are_retried() {
    let env = TestEnv::new().await;
    env.faults.set_faults(Faults::script(std::iter::repeat_n(Fault::Error, 12)));
    env.append([record(0).create(), metric(0..3)]).await;
    let worker = env.work().await;
    env.applied(0, 1).await;
    assert_eq!(env.points("loss").await.len(), 3);
    assert!(env.parked().await.is_empty());
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn rule_08_errors_of_the_store_are_retried_when_looking_up_a_project() {
    let env = TestEnv::new().await;
    let worker = env.work().await;
    env.append([record(0).create()]).await;
    env.applied(0, 0).await;
    env.faults.set_faults(Faults::errors(1, 1.0));
    let mut stranger = record(0).create();
    stranger.entry.project = "missing".into();
    env.append([stranger]).await;
    let records = worker.metrics.ingestion.records.clone();
    super::eventually("the record", || async { records.get() == 2 }).await;
    env.faults.set_faults(Faults::script([]));
    env.applied(0, 1).await;
    assert_eq!(env.parked_of_unknown_projects().await, ["project `missing` does not exist"]);
    worker.stop().await.unwrap();
}

/// Otherwise no alert would fire before the log drops records that were never applied.
#[tokio::test]
async fn the_age_of_waiting_records_is_reported_while_a_partition_cannot_start() {
    let env = TestEnv::new().await;
    env.append([record(0).create(), metric(0..3)]).await;
    env.faults.set_faults(Faults::errors(1, 1.0));
    let worker = env.work().await;
    let age = worker.metrics.ingestion.oldest_unapplied_seconds.clone();
    super::eventually("the age", async || {
        env.now_us.fetch_add(10_000_000, Ordering::Relaxed);
        age.get() >= 60.0
    })
    .await;
    env.faults.set_faults(Faults::script([]));
    env.applied(0, 1).await;
    super::eventually("no age", async || age.get() == 0.0).await;
    worker.stop().await.unwrap();
}

/// Even if nothing of the partition has been applied since the start.
#[tokio::test]
async fn the_lag_is_reported_from_the_beginning() {
    let env = TestEnv::new().await;
    let worker = env.work().await;
    let lag = worker.metrics.ingestion.lag_records.clone();
    super::eventually("a lag", async || {
        !prometheus::core::Collector::collect(&lag)[0].get_metric().is_empty()
    })
    .await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn rule_24_an_acknowledged_position_can_be_waited_for() {
    let env = TestEnv::new().await;
    let position = LogPosition { log: 0, partition: 0, offset: 0 };
    let early = applied_wait(env.store(), LogTopic::Ingestion, position);
    assert!(tokio::time::timeout(Duration::from_millis(50), early).await.is_err(), "nothing is applied yet");
    let worker = env.work().await;
    env.append([record(0).create()]).await;
    env.applied(0, 0).await;
    assert!(env.read().await.is_some());
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn rule_30_the_log_is_trimmed_up_to_what_is_durable() {
    let env = TestEnv::new().await;
    let worker = env.work().await;
    env.append([record(0).create(), metric(0..3)]).await;
    env.applied(0, 1).await;
    worker.stop().await.unwrap();
    let info = LogInspector::describe(&*env.log, Topic::Ingestion).await.unwrap();
    assert_eq!(info.partitions[0].first, 2);
}

#[tokio::test]
async fn rule_30_nothing_is_trimmed_while_the_store_cannot_be_synced() {
    let env = TestEnv::new().await;
    let settings = IngestSettings { trim_every: Duration::from_secs(3_600), ..IngestSettings::default() };
    let worker = env.work_with(settings).await;
    env.append([record(0).create()]).await;
    env.applied(0, 0).await;
    env.faults.set_faults(Faults::errors(1, 1.0));
    worker.stop().await.unwrap();
    let info = LogInspector::describe(&*env.log, Topic::Ingestion).await.unwrap();
    assert_eq!(info.partitions[0].first, 0);
}

#[tokio::test]
async fn rule_01_a_recreated_log_is_read_from_its_beginning() {
    let mut env = TestEnv::new().await;
    let worker = env.work().await;
    env.append([record(0).create(), metric(0..5), metric(5..10)]).await;
    env.applied(0, 2).await;
    worker.stop().await.unwrap();

    env.replace_log(1).await;
    let worker = env.work().await;
    env.append([metric(10..12)]).await;
    env.applied(1, 0).await;
    assert_eq!(env.points("loss").await.len(), 12);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn rule_42_a_recreated_log_longer_than_the_old_one_is_read_from_its_beginning() {
    let mut env = TestEnv::new().await;
    let worker = env.work().await;
    env.append([record(0).create(), metric(0..5)]).await;
    env.applied(0, 1).await;
    worker.stop().await.unwrap();

    env.replace_log(1).await;
    env.append((5..9).map(|step| metric(step..step + 1))).await;
    let worker = env.work().await;
    env.applied(1, 3).await;
    assert_eq!(env.points("loss").await.len(), 9);
    worker.stop().await.unwrap();
}

/// A log whose identity changes while it is read, like a topic that is recreated.
pub(super) struct RecreatedLog {
    pub(super) log: Arc<dyn LogWriter>,
    pub(super) is_recreated: AtomicBool,
}

#[async_trait::async_trait]
impl LogInspector for RecreatedLog {
    async fn describe(&self, topic: Topic) -> matyan_log::Result<TopicInfo> {
        let info = self.log.describe(topic).await?;
        let identity = if self.is_recreated.load(Ordering::Relaxed) { [9; 16] } else { info.identity };
        Ok(TopicInfo { identity, ..info })
    }
}

#[async_trait::async_trait]
impl LogWriter for RecreatedLog {
    fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Append {
        self.log.append(topic, records)
    }
}

/// A log that keeps everything.
pub(super) struct UntrimmedLog(pub(super) Arc<dyn LogReader>);

#[async_trait::async_trait]
impl LogReader for UntrimmedLog {
    async fn subscribe(&self, topic: Topic) -> matyan_log::Result<Box<dyn Subscription>> {
        self.0.subscribe(topic).await
    }

    async fn trim(&self, _: Topic, _: u32, _: u64) -> matyan_log::Result<()> {
        Ok(())
    }
}

/// The positions exist in the recreated log as well, so reading it gives no error.
#[tokio::test]
async fn rule_42_a_log_recreated_while_it_is_read_is_read_from_its_beginning() {
    let mut env = TestEnv::new().await;
    let log = Arc::new(RecreatedLog { log: env.log.clone(), is_recreated: AtomicBool::new(false) });
    env.deps.log_writer = log.clone();
    let settings = IngestSettings { trim_every: Duration::from_millis(10), ..IngestSettings::default() };
    env.deps.log_reader = Arc::new(UntrimmedLog(env.log.clone()));
    let worker = env.work_with(settings).await;
    env.append([record(0).create(), metric(0..5)]).await;
    env.applied(0, 1).await;
    log.is_recreated.store(true, Ordering::Relaxed);
    env.applied(1, 1).await;
    worker.stop().await.unwrap();

    // A client that still sees the earlier topic under the name is refused: the earlier positions are gone,
    // so records would be applied twice.
    log.is_recreated.store(false, Ordering::Relaxed);
    for _ in 0..2 {
        let refused = crate::log_number(env.store(), &*log).await.unwrap_err();
        assert!(matches!(refused, Error::Replaced), "{refused}");
    }
}

#[tokio::test]
async fn rule_01_a_log_has_its_number_before_any_worker_has_read_it() {
    let mut env = TestEnv::new().await;
    for (number, offset) in [(0, 1), (1, 1)] {
        for _ in 0..2 {
            assert_eq!(crate::log_number(env.store(), &*env.log).await.unwrap(), number);
        }
        let steps = i64::from(number) * 5;
        env.append([record(0).create(), metric(steps..steps + 5)]).await;
        let worker = env.work().await;
        env.applied(number, offset).await;
        worker.stop().await.unwrap();
        assert_eq!(env.points("loss").await.len() as i64, steps + 5);
        if number == 0 {
            env.replace_log(1).await;
        }
    }
}

/// Neither are the remaining records applied twice, nor are new records at the old offsets skipped.
#[tokio::test]
async fn rule_43_a_log_that_lost_its_tail_waits_for_a_decision() {
    let mut env = TestEnv::new().await;
    let automatic = || record(0).define(0, &["loss"]).points(0, &[(None, 1.0)]);
    let worker = env.work().await;
    env.append([automatic(), automatic(), automatic()]).await;
    env.applied(0, 2).await;
    worker.stop().await.unwrap();

    env.empty_log().await;
    env.append([automatic()]).await;
    for _ in 0..2 {
        assert_eq!(crate::log_number(env.store(), &*env.log).await.unwrap(), 0);
        let worker = env.work().await;
        super::eventually("an alarm", || async { worker.metrics.ingestion.partitions_lost.get() == 1 }).await;
        // New records appear at offsets that were applied, and after them.
        env.append([automatic(), automatic()]).await;
        worker.stop().await.unwrap();
    }
    assert_eq!(env.points("loss").await.len(), 3);
    let snapshot = env.store().snapshot().await.unwrap();
    let stopped = applied_get(&*snapshot, LogTopic::Ingestion, 0).await.unwrap().unwrap();
    assert_eq!((stopped.log, stopped.next, stopped.shortened_to), (0, 3, Some(1)));
}

/// A log in which a later leader has replaced the records from offset 3 on.
struct CutLog(Arc<dyn LogWriter>);

#[async_trait::async_trait]
impl LogInspector for CutLog {
    async fn describe(&self, topic: Topic) -> matyan_log::Result<TopicInfo> {
        self.0.describe(topic).await
    }

    async fn lost_tail(&self, _: Topic, _: u32, _: StartPoint) -> matyan_log::Result<Option<u64>> {
        Ok(Some(3))
    }
}

#[async_trait::async_trait]
impl LogWriter for CutLog {
    fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Append {
        self.0.append(topic, records)
    }
}

#[tokio::test]
async fn rule_43_records_before_a_lost_tail_are_applied() {
    let mut env = TestEnv::new().await;
    let automatic = || record(0).define(0, &["loss"]).points(0, &[(None, 1.0)]);
    let worker = env.work().await;
    env.append([automatic()]).await;
    env.applied(0, 0).await;
    worker.stop().await.unwrap();

    env.deps.log_writer = Arc::new(CutLog(env.log.clone()));
    env.append([automatic(), automatic(), automatic(), automatic()]).await;
    for _ in 0..2 {
        let worker = env.work().await;
        super::eventually("an alarm", || async { worker.metrics.ingestion.partitions_lost.get() == 1 }).await;
        env.applied(0, 2).await;
        worker.stop().await.unwrap();
        assert_eq!(env.points("loss").await.len(), 3);
        let snapshot = env.store().snapshot().await.unwrap();
        let stopped = applied_get(&*snapshot, LogTopic::Ingestion, 0).await.unwrap().unwrap();
        assert_eq!((stopped.log, stopped.next, stopped.shortened_to), (0, 3, Some(3)));
    }
}

/// A log that reports, once it is cut, that its partition has lost all records from the second on. Counts
/// how often the log is trimmed after that.
struct CutReader {
    log: Arc<dyn LogReader>,
    cut: Arc<Notify>,
    is_cut: AtomicBool,
    trims: AtomicU64,
}

struct CutSubscription {
    log: Box<dyn Subscription>,
    cut: Arc<Notify>,
}

#[async_trait::async_trait]
impl LogReader for CutReader {
    async fn subscribe(&self, topic: Topic) -> matyan_log::Result<Box<dyn Subscription>> {
        let log = self.log.subscribe(topic).await?;
        Ok(Box::new(CutSubscription { log, cut: self.cut.clone() }))
    }

    async fn trim(&self, _: Topic, _: u32, _: u64) -> matyan_log::Result<()> {
        if self.is_cut.load(Ordering::Relaxed) {
            self.trims.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl Subscription for CutSubscription {
    async fn next(&mut self) -> matyan_log::Result<Delivery> {
        tokio::select! {
            delivery = self.log.next() => delivery,
            () = self.cut.notified() => {
                Err(matyan_log::Error::Replaced { partition: 0, requested: 3, end: 1 })
            }
        }
    }

    async fn start(&mut self, partition: u32, point: StartPoint) -> matyan_log::Result<()> {
        self.log.start(partition, point).await
    }
}

/// Records that a later leader has written at the lost offsets must not be deleted.
#[tokio::test]
async fn rule_43_a_lost_tail_is_not_trimmed() {
    let mut env = TestEnv::new().await;
    let reader = Arc::new(CutReader {
        log: env.log.clone(),
        cut: Arc::default(),
        is_cut: AtomicBool::new(false),
        trims: AtomicU64::new(0),
    });
    env.deps.log_reader = reader.clone();
    let automatic = || record(0).define(0, &["loss"]).points(0, &[(None, 1.0)]);
    // Trims only at the start and at the end.
    let settings = IngestSettings { trim_every: Duration::from_hours(1), ..IngestSettings::default() };
    let worker = env.work_with(settings).await;
    env.append([automatic(), automatic(), automatic()]).await;
    env.applied(0, 2).await;
    reader.is_cut.store(true, Ordering::Relaxed);
    reader.cut.notify_one();
    super::eventually("an alarm", || async { worker.metrics.ingestion.partitions_lost.get() == 1 }).await;
    worker.stop().await.unwrap();
    assert_eq!(reader.trims.load(Ordering::Relaxed), 0);
}

/// The records before the first one of a producer are gone, and it had sent more before they were
/// answered.
#[tokio::test]
async fn rule_43_a_log_read_from_its_middle_keeps_pipelined_producers() {
    let env = TestEnv::new().await;
    let sent = |producer, sequence: u64| {
        record(0).sent(producer, sequence, 0).define(0, &["loss"]).points(0, &[(None, sequence as f64)])
    };
    env.append([record(0).create(), sent(1, 1), sent(1, 2), sent(1, 3), sent(2, 7), sent(1, 4)]).await;
    LogReader::trim(&*env.log, Topic::Ingestion, 0, 3).await.unwrap();
    // Repeated and skipped sequence numbers are recognized.
    env.append([sent(1, 3), sent(1, 6), sent(1, 5)]).await;
    let worker = env.work().await;
    worker.stops_at_a_loss().await;
    env.skip_head(3).await;
    env.applied(0, 8).await;
    worker.stop().await.unwrap();
    let read = env.read().await.unwrap();
    assert_eq!(read.metrics[0].1.values, [3.0, 7.0, 4.0, 5.0]);
}

#[tokio::test]
async fn runs_are_folded_while_they_are_written() {
    let env = TestEnv::new().await;
    let worker = env.work().await;
    env.append([metric(0..50_000), metric(50_000..100_000)]).await;
    env.applied(0, 1).await;
    let folds = worker.metrics.folds.runs.clone();
    super::eventually("a fold", || async { folds.get() > 0 }).await;
    assert_eq!(env.points("loss").await.len(), 100_000);
    worker.stop().await.unwrap();

    let number = env.read().await.unwrap().number;
    let snapshot = env.store().snapshot().await.unwrap();
    let unfolded = matyan_model::keys::unfolded(P, number);
    let blocks = snapshot.scan(&matyan_model::keys::blocks(P, number), Default::default()).await.unwrap();
    assert_eq!(snapshot.get(&unfolded).await.unwrap().is_some(), !blocks.rows.is_empty());
    assert_eq!(env.points("loss").await.len(), 100_000);
    assert!(matyan_model::run::run_id_get(&*snapshot, P, number).await.unwrap() == Some(RunId::new("r")));
}

/// All silent runs are folded eventually, even the runs after a run that cannot be folded.
#[tokio::test]
async fn a_run_that_cannot_be_folded_does_not_block_others() {
    let env = TestEnv::new().await;
    let runs = ["bad", "a", "b", "c", "d"];
    for (run, offset) in runs.into_iter().zip(0..) {
        let ended = record(offset)
            .run(run)
            .define(0, &["loss"])
            .points(0, &[(Some(0), 1.0)])
            .event(Kind::FinishRun(Default::default()));
        env.apply_with(&mut env.writer(run), vec![ended]).await;
    }
    let bad = env.read_run("bad").await.unwrap().number;
    let mut batch = matyan_store::Batch::default();
    batch.set(matyan_model::keys::block(P, bad, 0), vec![0xff; 9]);
    env.store().commit(batch).await.unwrap();
    let worker = env.work().await;
    for run in &runs[1..] {
        let number = env.read_run(run).await.unwrap().number;
        super::eventually(run, || async {
            let snapshot = env.store().snapshot().await.unwrap();
            snapshot.get(&matyan_model::keys::unfolded(P, number)).await.unwrap().is_none()
        })
        .await;
    }
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_panic_of_the_fold_thread_is_noticed() {
    let mut env = TestEnv::new().await;
    env.deps.clock = Arc::new(|| panic!("the clock panics in this test"));
    let stop = CancellationToken::new();
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let (_notices, fold) = FoldThread::start(env.deps.clone(), metrics, stop).unwrap();
    super::ends("folding", fold.ended()).await;
    fold.finish().await;
}

/// A blob store that blocks uploads and lists until it is opened.
pub(super) struct GatedBlobs {
    pub(super) inner: Arc<dyn Blobs>,
    pub(super) opened: tokio::sync::Semaphore,
    pub(super) is_reached: AtomicBool,
}

impl GatedBlobs {
    pub(super) fn closed(inner: Arc<dyn Blobs>) -> Arc<Self> {
        Arc::new(Self { inner, opened: tokio::sync::Semaphore::new(0), is_reached: AtomicBool::new(false) })
    }

    async fn pass(&self) {
        self.is_reached.store(true, Ordering::Relaxed);
        drop(self.opened.acquire().await.unwrap());
    }
}

#[async_trait::async_trait]
impl Blobs for GatedBlobs {
    async fn presign(
        &self,
        key: &BlobKey,
        content_type: &str,
        size: Option<u64>,
    ) -> matyan_blob::Result<PresignedUpload> {
        self.inner.presign(key, content_type, size).await
    }

    async fn put(
        &self,
        key: &BlobKey,
        content_type: &str,
        size: Option<u64>,
        content: Content,
    ) -> matyan_blob::Result<u64> {
        self.pass().await;
        self.inner.put(key, content_type, size, content).await
    }

    async fn read(
        &self,
        key: &BlobKey,
        range: Option<std::ops::Range<u64>>,
    ) -> matyan_blob::Result<Option<(BlobMeta, Content)>> {
        self.inner.read(key, range).await
    }

    async fn describe(&self, key: &BlobKey) -> matyan_blob::Result<Option<BlobMeta>> {
        self.inner.describe(key).await
    }

    async fn delete(&self, keys: &[BlobKey]) -> matyan_blob::Result<Vec<(BlobKey, matyan_blob::Error)>> {
        self.inner.delete(keys).await
    }

    async fn list(&self, prefix: &str, from: Option<&BlobKey>) -> matyan_blob::Result<Listing> {
        self.pass().await;
        self.inner.list(prefix, from).await
    }
}

/// Injects all kinds of faults from a seed: the log repeats records, revokes partitions, and
/// fails; the store fails.
async fn nothing_is_lost_or_doubled(seed: u64) {
    let mut env = TestEnv::new().await;
    let rates = Rates { delivery_error: 0.2, repeat: 0.2, reassign: 0.2, ..Rates::default() };
    let faults = Arc::new(LogFaults::seeded(seed, rates, Duration::from_secs(1)));
    env.deps.log_reader = Arc::new(FaultyReader::new(env.log.clone(), faults));
    env.faults.set_faults(Faults::errors(seed, 0.1));
    let worker = env.work().await;
    let runs = ["a", "b", "c"];
    for round in 0..30_u64 {
        let record = |run: &str| {
            // Each connection sends its batch twice, and leaves the numbering of
            // steps to the worker.
            let base =
                record(0).run(run).sent(1, round + 1, 0).points(0, &[(None, round as f64), (None, 0.5)]);
            if round == 0 { base.define(0, &["loss"]).tag("t") } else { base.object("o", None, "x").tag("t") }
        };
        env.append(runs.iter().flat_map(|run| [record(run), record(run)])).await;
    }
    env.applied(0, 179).await;
    worker.stop().await.unwrap();
    for run in runs {
        let read = env.read_run(run).await.unwrap();
        let expected: Vec<f64> = (0..30).flat_map(|round| [f64::from(round), 0.5]).collect();
        assert_eq!(read.metrics[0].1.values, expected, "seed {seed}, run {run}");
        assert_eq!(read.metrics[0].1.steps, (0..60).collect::<Vec<_>>(), "seed {seed}, run {run}");
        let steps: Vec<i64> = read.objects[0].1.iter().map(|object| object.step).collect();
        assert_eq!(steps, (0..29).collect::<Vec<_>>(), "seed {seed}, run {run}");
        assert_eq!(env.tags(&read.props).await, [("t".to_owned(), 3)], "seed {seed}");
    }
    assert!(env.parked().await.is_empty(), "seed {seed}");
}

#[tokio::test]
async fn faults_neither_lose_nor_duplicate_anything() {
    futures::future::join_all((1..=4).map(nothing_is_lost_or_doubled)).await;
}

/// In the task that reads the log, and in the task that applies the run's records.
#[tokio::test]
async fn rule_40_a_panic_while_decoding_parks_the_record_and_nothing_else() {
    let env = TestEnv::new().await;
    let mut undecodable = record(0).line(1, "never");
    undecodable.entry.caller = PANIC_WHILE_DECODING.into();
    let unreadable = NewRecord { key: PANIC_WHILE_READING.into(), ..record(0).line(2, "never").new_record() };
    env.append([record(0).line(0, "first")]).await;
    env.log.append(Topic::Ingestion, vec![unreadable]).await.unwrap();
    env.append([undecodable, record(0).line(3, "last")]).await;
    let worker = env.work().await;
    env.applied(0, 3).await;
    worker.stop().await.unwrap();
    let lines: Vec<i64> = env.read_run("r").await.unwrap().lines.iter().map(|line| line.number).collect();
    assert_eq!(lines, [0, 3]);
    let parked = env.parked().await;
    let mut found: Vec<_> =
        parked.iter().map(|item| (item.run_id.as_str(), item.at.offset, item.reason.as_str())).collect();
    found.sort_unstable_by_key(|(_, offset, _)| *offset);
    let reason = "decoding the record panicked: a test asked for it";
    assert_eq!(found, [(PANIC_WHILE_READING, 1, reason), ("r", 2, reason)]);
}
