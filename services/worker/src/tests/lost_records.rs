//! Partitions that have lost records continue when an operator says so, without a restart.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use matyan_log::{
    Append, Delivery, LogInspector, LogReader, LogWriter, NewRecord, StartPoint, Subscription, Topic,
    TopicInfo,
};
use matyan_model::{
    keys::LogTopic,
    position::{AppliedPosition, LogState, applied_get, applied_put, log_get, log_put},
};
use matyan_store::{Batch, Store};

use super::{
    harness::{TestEnv, TestRecord, record},
    ingest::{RecreatedLog, RunningWorker},
};
use crate::IngestSettings;

/// A point whose step the worker chooses, so that a repeated one is counted.
fn point() -> TestRecord {
    record(0).define(0, &["loss"]).points(0, &[(None, 1.0)])
}

async fn move_position(store: &dyn Store, next: u64) {
    let applied = applied_get(&*store.snapshot().await.unwrap(), LogTopic::Ingestion, 0).await;
    let mut batch = Batch::default();
    applied_put(&mut batch, LogTopic::Ingestion, 0, &AppliedPosition { next, ..applied.unwrap().unwrap() });
    store.commit(batch).await.unwrap();
}

impl TestEnv {
    /// One record is applied, and four more are in the log while no worker runs.
    async fn fall_behind(&self) {
        let worker = self.work().await;
        self.append([point()]).await;
        self.applied(0, 0).await;
        worker.stop().await.unwrap();
        self.append([point(), point(), point(), point()]).await;
    }

    /// The rows that `matyan partitions skip` writes for records that were deleted before this offset.
    async fn skip_to(&self, first: u64) {
        move_position(self.store(), first).await;
    }

    /// The row that the command writes for a partition from which nothing was applied, and whose first
    /// records are gone.
    pub(super) async fn skip_head(&self, first: u64) {
        let known = log_get(&*self.store().snapshot().await.unwrap(), LogTopic::Ingestion).await;
        let LogState { number: log, identity, .. } = known.unwrap().unwrap();
        let middle = AppliedPosition::from_middle(log, first, identity);
        let mut batch = Batch::default();
        applied_put(&mut batch, LogTopic::Ingestion, 0, &middle);
        self.store().commit(batch).await.unwrap();
    }

    /// The rows that the command writes for a tail that was lost from this offset on.
    async fn skip_lost_tail(&self, end: u64) {
        let known = log_get(&*self.store().snapshot().await.unwrap(), LogTopic::Ingestion).await;
        let state = known.unwrap().unwrap().renumbered([7; 16]);
        let mut batch = Batch::default();
        log_put(&mut batch, LogTopic::Ingestion, &state);
        let log = state.number;
        let identity = state.identity;
        let continued =
            AppliedPosition { log, next: end, identity, begins: Some(end), ..AppliedPosition::default() };
        applied_put(&mut batch, LogTopic::Ingestion, 0, &continued);
        self.store().commit(batch).await.unwrap();
    }
}

#[tokio::test]
async fn rule_03_a_partition_overtaken_by_retention_continues_without_a_restart() {
    let env = TestEnv::new().await;
    env.fall_behind().await;
    LogReader::trim(&*env.log, Topic::Ingestion, 0, 3).await.unwrap();

    let worker = env.work().await;
    let lost = worker.metrics.ingestion.partitions_lost.clone();
    let stopped = worker.metrics.ingestion.partitions_stopped.clone();
    super::eventually("an alarm", || async { lost.get() == 1 && stopped.get() == 1.0 }).await;
    assert_eq!(env.points("loss").await.len(), 1, "nothing is applied until an operator decides");
    env.skip_to(3).await;
    env.applied(0, 4).await;
    assert_eq!((env.points("loss").await.len(), lost.get()), (3, 1));
    super::eventually("the alarm ends", || async { stopped.get() == 0.0 }).await;
    worker.stop().await.unwrap();
}

impl RunningWorker {
    /// Waits until the worker has stopped the partition.
    pub(super) async fn stops_at_a_loss(&self) {
        let stopped = self.metrics.ingestion.partitions_stopped.clone();
        super::eventually("the partition is stopped", || async { stopped.get() == 1.0 }).await;
    }
}

/// Another store has applied the first records, or this store was lost.
#[tokio::test]
async fn rule_70_a_fresh_store_reads_a_log_without_its_first_records_only_on_request() {
    let env = TestEnv::new().await;
    env.append([record(0).create(), point(), point()]).await;
    LogReader::trim(&*env.log, Topic::Ingestion, 0, 2).await.unwrap();
    for _ in 0..2 {
        let worker = env.work().await;
        worker.stops_at_a_loss().await;
        let problem = worker.stopped.problem().unwrap();
        assert!(problem.contains("`matyan partitions skip 0`"), "{problem}");
        assert!(env.read().await.is_none(), "no run is created");
        // A restart asks again.
        worker.stop().await.unwrap();
    }
    let worker = env.work().await;
    worker.stops_at_a_loss().await;
    env.append([point()]).await;
    env.skip_head(2).await;
    env.applied(0, 3).await;
    assert_eq!(env.points("loss").await.len(), 2);
    super::eventually("the report ends", || async { worker.stopped.problem().is_none() }).await;
    worker.stop().await.unwrap();
    // The decision is made once.
    let worker = env.work().await;
    env.append([point()]).await;
    env.applied(0, 4).await;
    assert_eq!(worker.metrics.ingestion.partitions_lost.get(), 0);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn rule_42_a_stopped_partition_is_read_after_its_log_was_recreated() {
    let mut env = TestEnv::new().await;
    env.fall_behind().await;
    LogReader::trim(&*env.log, Topic::Ingestion, 0, 3).await.unwrap();
    let log = Arc::new(RecreatedLog { log: env.log.clone(), is_recreated: AtomicBool::new(false) });
    env.deps.log_writer = log.clone();

    let settings = IngestSettings { trim_every: Duration::from_millis(10), ..IngestSettings::default() };
    let worker = env.work_with(settings).await;
    let stopped = worker.metrics.ingestion.partitions_stopped.clone();
    super::eventually("an alarm", || async { stopped.get() == 1.0 }).await;
    log.is_recreated.store(true, Ordering::Relaxed);
    // The first records of this log are gone, too.
    super::eventually("the other log is seen", || async {
        let known = log_get(&*env.store().snapshot().await.unwrap(), LogTopic::Ingestion).await.unwrap();
        known.is_some_and(|known| known.number == 1)
    })
    .await;
    env.skip_head(3).await;
    env.applied(1, 4).await;
    super::eventually("the alarm ends", || async { stopped.get() == 0.0 }).await;
    assert_eq!(env.points("loss").await.len(), 3);
    worker.stop().await.unwrap();
}

/// A log whose partition has another owner. Right before the partition is started, the other owner applies
/// the records before an offset, and trims them.
struct OwnedLog {
    log: Arc<dyn LogReader>,
    store: Arc<dyn Store>,
    offset: u64,
}

struct OwnedSubscription {
    log: Box<dyn Subscription>,
    owner: Option<OwnedLog>,
}

#[async_trait::async_trait]
impl LogReader for OwnedLog {
    async fn subscribe(&self, topic: Topic) -> matyan_log::Result<Box<dyn Subscription>> {
        let Self { log, store, offset } = self;
        let owner = OwnedLog { log: log.clone(), store: store.clone(), offset: *offset };
        Ok(Box::new(OwnedSubscription { log: log.subscribe(topic).await?, owner: Some(owner) }))
    }

    async fn trim(&self, topic: Topic, partition: u32, offset: u64) -> matyan_log::Result<()> {
        self.log.trim(topic, partition, offset).await
    }
}

#[async_trait::async_trait]
impl Subscription for OwnedSubscription {
    async fn next(&mut self) -> matyan_log::Result<Delivery> {
        self.log.next().await
    }

    async fn start(&mut self, partition: u32, point: StartPoint) -> matyan_log::Result<()> {
        if let Some(OwnedLog { log, store, offset }) = self.owner.take() {
            move_position(&*store, offset).await;
            log.trim(Topic::Ingestion, partition, offset).await?;
        }
        self.log.start(partition, point).await
    }
}

#[tokio::test]
async fn rule_03_records_that_the_last_owner_applied_and_trimmed_are_not_lost() {
    let mut env = TestEnv::new().await;
    env.fall_behind().await;
    env.deps.log_reader =
        Arc::new(OwnedLog { log: env.log.clone(), store: env.deps.store.clone(), offset: 3 });
    let worker = env.work().await;
    env.applied(0, 4).await;
    assert_eq!(worker.metrics.ingestion.partitions_lost.get(), 0);
    assert_eq!(env.points("loss").await.len(), 3);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn rule_43_a_partition_that_has_lost_its_tail_continues_without_a_restart() {
    let mut env = TestEnv::new().await;
    let worker = env.work().await;
    env.append([point(), point(), point()]).await;
    env.applied(0, 2).await;
    worker.stop().await.unwrap();

    env.empty_log().await;
    env.append([point()]).await;
    let worker = env.work().await;
    let lost = worker.metrics.ingestion.partitions_lost.clone();
    super::eventually("an alarm", || async { lost.get() == 1 }).await;
    env.append([point(), point()]).await;
    env.skip_lost_tail(1).await;
    env.applied(1, 2).await;
    assert_eq!((env.points("loss").await.len(), lost.get()), (5, 1));
    worker.stop().await.unwrap();
}

/// A log in which, while it is cut, a later leader has replaced the records from offset 3 on.
struct CutLog {
    log: Arc<dyn LogWriter>,
    is_cut: AtomicBool,
}

#[async_trait::async_trait]
impl LogInspector for CutLog {
    async fn describe(&self, topic: Topic) -> matyan_log::Result<TopicInfo> {
        self.log.describe(topic).await
    }

    async fn lost_tail(&self, _: Topic, _: u32, _: StartPoint) -> matyan_log::Result<Option<u64>> {
        Ok(self.is_cut.load(Ordering::Relaxed).then_some(3))
    }
}

#[async_trait::async_trait]
impl LogWriter for CutLog {
    fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Append {
        self.log.append(topic, records)
    }
}

#[tokio::test]
async fn rule_43_a_partition_read_up_to_its_lost_tail_continues_without_a_restart() {
    let mut env = TestEnv::new().await;
    let worker = env.work().await;
    env.append([point()]).await;
    env.applied(0, 0).await;
    worker.stop().await.unwrap();

    let log = Arc::new(CutLog { log: env.log.clone(), is_cut: AtomicBool::new(true) });
    env.deps.log_writer = log.clone();
    env.append([point(), point(), point(), point()]).await;
    let worker = env.work().await;
    env.applied(0, 2).await;
    assert_eq!(worker.metrics.ingestion.partitions_lost.get(), 1);
    log.is_cut.store(false, Ordering::Relaxed);
    env.skip_lost_tail(3).await;
    env.applied(1, 4).await;
    assert_eq!(env.points("loss").await.len(), 5);
    worker.stop().await.unwrap();
}

/// The dictionary of the producer is neither in the log nor in the store.
#[tokio::test]
async fn rule_43_points_without_definitions_are_parked_until_their_producer_repeats_them() {
    let env = TestEnv::new().await;
    let sent = |sequence| record(0).sent(1, sequence, 0);
    let at = |step: i64| [(Some(step), step as f64)];
    env.append([sent(1).create().define(0, &["loss"]).points(0, &at(1)), sent(2).points(0, &at(2))]).await;
    LogReader::trim(&*env.log, Topic::Ingestion, 0, 2).await.unwrap();
    // The numbers of later series are counted from the missing ones.
    env.append([sent(3).points(0, &at(3)), sent(4).define(1, &["accuracy"]).points(1, &at(4))]).await;
    // A stream that is reopened repeats all definitions.
    let repeated = sent(5).define(0, &["loss", "accuracy"]).points(1, &at(5));
    env.append([repeated, sent(6).points(0, &at(6))]).await;
    let worker = env.work().await;
    worker.stops_at_a_loss().await;
    env.skip_head(2).await;
    env.applied(0, 5).await;
    assert_eq!(env.points("loss").await, [(6, 6.0)]);
    assert_eq!(env.points("accuracy").await, [(5, 5.0)]);
    let reasons: Vec<_> = env.parked().await.into_iter().map(|item| item.reason).collect();
    let missing = |series| format!("series {series} is not in the producer's dictionary");
    assert_eq!(reasons, [missing(0), missing(1)]);
    worker.stop().await.unwrap();
}
