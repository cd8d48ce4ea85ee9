//! Tests of the reported lag. Dashboards add up the lag of all workers, so a worker must not
//! keep reporting a partition that now belongs to another worker.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use matyan_log::{
    Append, Delivery, LogInspector, LogReader, LogWriter, NewRecord, StartPoint, Subscription, Topic,
    TopicInfo,
};
use prometheus::core::Collector;
use tokio::sync::Notify;

use super::{
    eventually,
    harness::{TestEnv, record},
    ingest::RunningWorker,
};
use crate::{Error, IngestSettings, Metrics};

/// A log whose only partition is revoked on a signal.
struct RevokedLog {
    inner: Arc<dyn LogReader>,
    leave: Arc<Notify>,
}

struct RevokedLogSubscription {
    inner: Box<dyn Subscription>,
    leave: Arc<Notify>,
}

#[async_trait]
impl LogReader for RevokedLog {
    async fn subscribe(&self, topic: Topic) -> matyan_log::Result<Box<dyn Subscription>> {
        let inner = self.inner.subscribe(topic).await?;
        Ok(Box::new(RevokedLogSubscription { inner, leave: self.leave.clone() }))
    }

    async fn trim(&self, topic: Topic, partition: u32, offset: u64) -> matyan_log::Result<()> {
        self.inner.trim(topic, partition, offset).await
    }
}

#[async_trait]
impl Subscription for RevokedLogSubscription {
    async fn next(&mut self) -> matyan_log::Result<Delivery> {
        tokio::select! {
            delivery = self.inner.next() => delivery,
            () = self.leave.notified() => Ok(Delivery::Revoked { partition: 0 }),
        }
    }

    async fn start(&mut self, partition: u32, point: StartPoint) -> matyan_log::Result<()> {
        self.inner.start(partition, point).await
    }
}

async fn wait_for_lag_of(metrics: &Metrics, count: usize) {
    let found = || {
        metrics.ingestion.lag_records.collect().iter().map(|family| family.get_metric().len()).sum::<usize>()
    };
    eventually("the lag", async || found() == count).await;
}

#[tokio::test]
async fn a_worker_without_partitions_reports_no_lag() {
    let mut env = TestEnv::new().await;
    let leave = Arc::new(Notify::new());
    env.deps.log_reader = Arc::new(RevokedLog { inner: env.log.clone(), leave: leave.clone() });
    let settings = IngestSettings { trim_every: Duration::from_millis(5), ..IngestSettings::default() };
    let worker = env.work_with(settings).await;
    env.append([record(0).create()]).await;
    env.applied(0, 0).await;
    wait_for_lag_of(&worker.metrics, 1).await;
    leave.notify_one();
    wait_for_lag_of(&worker.metrics, 0).await;
    worker.stop().await.unwrap();
}

/// A log whose `describe` can be made to fail, to hang, or to panic.
struct FailingLog {
    inner: Arc<dyn LogWriter>,
    is_away: AtomicBool,
    is_silent: AtomicBool,
    panics: AtomicBool,
    /// Number of calls that never returned.
    unanswered: AtomicU64,
}

#[async_trait]
impl LogInspector for FailingLog {
    async fn describe(&self, topic: Topic) -> matyan_log::Result<TopicInfo> {
        if self.is_silent.load(Ordering::Relaxed) {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            std::future::pending().await
        }
        assert!(!self.panics.load(Ordering::Relaxed), "as intended");
        if self.is_away.load(Ordering::Relaxed) {
            return Err(matyan_log::Error::unavailable("away"));
        }
        self.inner.describe(topic).await
    }
}

#[async_trait]
impl LogWriter for FailingLog {
    fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Append {
        self.inner.append(topic, records)
    }
}

/// A worker that queries such a log continuously.
async fn working() -> (TestEnv, Arc<FailingLog>, RunningWorker) {
    let mut env = TestEnv::new().await;
    let log = Arc::new(FailingLog {
        inner: env.log.clone(),
        is_away: Default::default(),
        is_silent: Default::default(),
        panics: Default::default(),
        unanswered: Default::default(),
    });
    env.deps.log_writer = log.clone();
    let settings = IngestSettings { trim_every: Duration::from_millis(5), ..IngestSettings::default() };
    let worker = env.work_with(settings).await;
    (env, log, worker)
}

/// Otherwise a worker that cannot reach a broker would keep reporting an old lag, and no alert
/// would fire.
#[tokio::test]
async fn a_worker_that_cannot_reach_the_log_reports_no_lag() {
    let (_world, log, worker) = working().await;
    wait_for_lag_of(&worker.metrics, 1).await;
    log.is_away.store(true, Ordering::Relaxed);
    wait_for_lag_of(&worker.metrics, 0).await;
    log.is_away.store(false, Ordering::Relaxed);
    wait_for_lag_of(&worker.metrics, 1).await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn stopping_does_not_wait_for_the_lag() {
    let (env, log, worker) = working().await;
    env.append([record(0).create()]).await;
    env.applied(0, 0).await;
    wait_for_lag_of(&worker.metrics, 1).await;
    log.is_silent.store(true, Ordering::Relaxed);
    eventually("a question", async || log.unanswered.load(Ordering::Relaxed) > 0).await;
    tokio::time::timeout(Duration::from_secs(60), worker.stop()).await.unwrap().unwrap();
}

/// Otherwise the log would fill up, and nothing would say why.
#[tokio::test]
async fn a_worker_that_cannot_report_progress_ends() {
    let (_env, log, worker) = working().await;
    log.panics.store(true, Ordering::Relaxed);
    eventually("the end of the worker", async || worker.has_ended()).await;
    assert!(matches!(worker.stop().await, Err(Error::Progress)));
}
