//! A reader that can sleep. It keeps all deliveries, including revocations, and returns them
//! when it wakes up, like a process that was suspended for longer than the session timeout of
//! its group.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use matyan_log::{Delivery, LogReader, Result, StartPoint, Subscription, Topic};
use tokio::sync::watch;

pub(crate) struct Zombie {
    is_asleep: watch::Receiver<bool>,
    held: HeldRecords,
}

/// Number of records held.
#[derive(Clone, Default)]
pub(crate) struct HeldRecords(Arc<AtomicUsize>);

pub(crate) struct ZombieReader {
    zombie: Zombie,
    inner: Arc<dyn LogReader>,
}

struct SleepingSubscription {
    inner: Box<dyn Subscription>,
    is_asleep: watch::Receiver<bool>,
    held: HeldRecords,
    deliveries: VecDeque<Delivery>,
}

impl HeldRecords {
    pub(crate) fn records(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Zombie {
    pub(crate) fn new(is_asleep: watch::Receiver<bool>) -> (Self, HeldRecords) {
        let held = HeldRecords::default();
        (Self { is_asleep, held: held.clone() }, held)
    }

    pub(crate) fn over(self, inner: Arc<dyn LogReader>) -> ZombieReader {
        ZombieReader { zombie: self, inner }
    }
}

#[async_trait]
impl LogReader for ZombieReader {
    async fn subscribe(&self, topic: Topic) -> Result<Box<dyn Subscription>> {
        let inner = self.inner.subscribe(topic).await?;
        let Zombie { is_asleep, held } = &self.zombie;
        let is_asleep = is_asleep.clone();
        let held = held.clone();
        Ok(Box::new(SleepingSubscription { inner, is_asleep, held, deliveries: VecDeque::new() }))
    }

    async fn trim(&self, topic: Topic, partition: u32, offset: u64) -> Result<()> {
        self.inner.trim(topic, partition, offset).await
    }
}

#[async_trait]
impl Subscription for SleepingSubscription {
    async fn next(&mut self) -> Result<Delivery> {
        loop {
            if !*self.is_asleep.borrow_and_update()
                && let Some(delivery) = self.deliveries.pop_front()
            {
                self.held.0.fetch_sub(records(&delivery), Ordering::Relaxed);
                return Ok(delivery);
            }
            tokio::select! {
                changed = self.is_asleep.changed() => changed.expect("the test outlives the zombie"),
                delivery = self.inner.next() => {
                    let delivery = delivery?;
                    self.held.0.fetch_add(records(&delivery), Ordering::Relaxed);
                    self.deliveries.push_back(delivery);
                }
            }
        }
    }

    async fn start(&mut self, partition: u32, point: StartPoint) -> Result<()> {
        match self.inner.start(partition, point).await {
            // It lost the partition while it slept, but has not processed the
            // revocation yet.
            Err(matyan_log::Error::Topic { .. }) => Ok(()),
            started => started,
        }
    }
}

fn records(delivery: &Delivery) -> usize {
    match delivery {
        Delivery::Records { records, .. } => records.len(),
        Delivery::Assigned { .. } | Delivery::Revoked { .. } => 0,
    }
}
