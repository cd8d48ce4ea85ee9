//! What a worker tells of how far it is behind. Workers are added by the sum over all of them, so that nobody may go on telling of a
//! partition that is another one's.

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

/// A log whose only partition goes to another worker when it is said.
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
async fn who_has_no_partition_tells_no_lag() {
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

/// A log that describes itself until it is told to fail, or to say nothing.
struct Falling {
    inner: Arc<dyn LogWriter>,
    is_away: AtomicBool,
    is_silent: AtomicBool,
    /// Questions since then.
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

/// A worker on such a log, which it asks all the time.
async fn working() -> (World, Arc<Falling>, Working) {
    let mut world = World::new().await;
    let (is_away, is_silent, unanswered) = Default::default();
    let log = Arc::new(Falling { inner: world.log.clone(), is_away, is_silent, unanswered });
    world.deps.log_writer = log.clone();
    let settings = IngestSettings { trim_every: Duration::from_millis(5), ..IngestSettings::default() };
    let worker = world.work_with(settings).await;
    (world, log, worker)
}

/// Otherwise one that reaches no broker shows the lag of better days, and nobody is woken.
#[tokio::test]
async fn who_does_not_reach_the_log_tells_no_lag() {
    let (_world, log, worker) = working().await;
    partitions_are_told_of(&worker.metrics, 1).await;
    log.is_away.store(true, Ordering::Relaxed);
    partitions_are_told_of(&worker.metrics, 0).await;
    log.is_away.store(false, Ordering::Relaxed);
    partitions_are_told_of(&worker.metrics, 1).await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn whoever_stops_does_not_wait_for_the_lag() {
    let (world, log, worker) = working().await;
    world.append([record(0).create()]).await;
    world.applied(0, 0).await;
    partitions_are_told_of(&worker.metrics, 1).await;
    log.is_silent.store(true, Ordering::Relaxed);
    eventually("a question", async || log.unanswered.load(Ordering::Relaxed) > 0).await;
    tokio::time::timeout(Duration::from_secs(60), worker.stop()).await.unwrap().unwrap();
}
