//! Tests of the reported lag. Dashboards add up the lag of all workers, so a worker must not
//! keep reporting a partition that now belongs to another one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use matyan_log::{Append, Delivery, LogReader, LogWriter, NewRecord, Subscription, Topic, TopicInfo};
use prometheus::core::Collector;
use tokio::sync::Notify;

use super::{
    eventually,
    harness::{World, record},
    ingest::Working,
};
use crate::{IngestSettings, Metrics};

/// A log whose only partition is revoked on a signal.
struct Leaving {
    inner: Arc<dyn LogReader>,
    leave: Arc<Notify>,
}

struct LeavingSubscription {
    inner: Box<dyn Subscription>,
    leave: Arc<Notify>,
}

#[async_trait]
impl LogReader for Leaving {
    async fn subscribe(&self, topic: Topic) -> matyan_log::Result<Box<dyn Subscription>> {
        let inner = self.inner.subscribe(topic).await?;
        Ok(Box::new(LeavingSubscription { inner, leave: self.leave.clone() }))
    }

    async fn trim(&self, topic: Topic, partition: u32, offset: u64) -> matyan_log::Result<()> {
        self.inner.trim(topic, partition, offset).await
    }
}

#[async_trait]
impl Subscription for LeavingSubscription {
    async fn next(&mut self) -> matyan_log::Result<Delivery> {
        tokio::select! {
            delivery = self.inner.next() => delivery,
            () = self.leave.notified() => Ok(Delivery::Revoked { partition: 0 }),
        }
    }

    async fn start(&mut self, partition: u32, offset: u64) -> matyan_log::Result<()> {
        self.inner.start(partition, offset).await
    }
}

async fn partitions_are_told_of(metrics: &Metrics, count: usize) {
    let told = || metrics.lag_records.collect().iter().map(|family| family.get_metric().len()).sum::<usize>();
    eventually("the lag", async || told() == count).await;
}

#[tokio::test]
async fn a_worker_without_partitions_reports_no_lag() {
    let mut world = World::new().await;
    let leave = Arc::new(Notify::new());
    world.deps.log_reader = Arc::new(Leaving { inner: world.log.clone(), leave: leave.clone() });
    let settings = IngestSettings { trim_every: Duration::from_millis(5), ..IngestSettings::default() };
    let worker = world.work_with(settings).await;
    world.append([record(0).create()]).await;
    world.applied(0, 0).await;
    partitions_are_told_of(&worker.metrics, 1).await;
    leave.notify_one();
    partitions_are_told_of(&worker.metrics, 0).await;
    worker.stop().await.unwrap();
}

/// A log whose `describe` can be made to fail or to hang.
struct Falling {
    inner: Arc<dyn LogWriter>,
    is_away: AtomicBool,
    is_silent: AtomicBool,
    /// Number of calls that never returned.
    unanswered: AtomicU64,
}

#[async_trait]
impl LogWriter for Falling {
    fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Append {
        self.inner.append(topic, records)
    }

    async fn describe(&self, topic: Topic) -> matyan_log::Result<TopicInfo> {
        if self.is_silent.load(Ordering::Relaxed) {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            std::future::pending().await
        }
        if self.is_away.load(Ordering::Relaxed) {
            return Err(matyan_log::Error::unavailable("away"));
        }
        self.inner.describe(topic).await
    }
}

/// A worker that queries such a log all the time.
async fn working() -> (World, Arc<Falling>, Working) {
    let mut world = World::new().await;
    let (is_away, is_silent, unanswered) = Default::default();
    let log = Arc::new(Falling { inner: world.log.clone(), is_away, is_silent, unanswered });
    world.deps.log_writer = log.clone();
    let settings = IngestSettings { trim_every: Duration::from_millis(5), ..IngestSettings::default() };
    let worker = world.work_with(settings).await;
    (world, log, worker)
}

/// Otherwise a worker that cannot reach a broker would keep showing an old lag, and no alert
/// would fire.
#[tokio::test]
async fn a_worker_that_cannot_reach_the_log_reports_no_lag() {
    let (_world, log, worker) = working().await;
    partitions_are_told_of(&worker.metrics, 1).await;
    log.is_away.store(true, Ordering::Relaxed);
    partitions_are_told_of(&worker.metrics, 0).await;
    log.is_away.store(false, Ordering::Relaxed);
    partitions_are_told_of(&worker.metrics, 1).await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn stopping_does_not_wait_for_the_lag() {
    let (world, log, worker) = working().await;
    world.append([record(0).create()]).await;
    world.applied(0, 0).await;
    partitions_are_told_of(&worker.metrics, 1).await;
    log.is_silent.store(true, Ordering::Relaxed);
    eventually("a question", async || log.unanswered.load(Ordering::Relaxed) > 0).await;
    tokio::time::timeout(Duration::from_secs(60), worker.stop()).await.unwrap().unwrap();
}
