//! The reading half of the fault layer. Only deliveries of records are subject to faults. A
//! fault, once chosen, remains in effect until its delivery is returned, so `next` stays
//! cancel-safe.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use async_trait::async_trait;

use super::{DeliveryFault, Faults, injected};
use crate::{Delivery, LogReader, Result, Subscription, Topic};

pub struct FaultyReader {
    inner: Arc<dyn LogReader>,
    faults: Arc<Faults>,
}

impl FaultyReader {
    pub fn new(inner: Arc<dyn LogReader>, faults: Arc<Faults>) -> Self {
        Self { inner, faults }
    }
}

#[async_trait]
impl LogReader for FaultyReader {
    async fn subscribe(&self, topic: Topic) -> Result<Box<dyn Subscription>> {
        self.faults.resumed().await;
        let inner = self.inner.subscribe(topic).await?;
        Ok(Box::new(FaultySubscription {
            inner,
            faults: self.faults.clone(),
            due: VecDeque::new(),
            waiting: BTreeSet::new(),
        }))
    }

    async fn trim(&self, topic: Topic, partition: u32, offset: u64) -> Result<()> {
        self.faults.resumed().await;
        self.inner.trim(topic, partition, offset).await
    }
}

struct FaultySubscription {
    inner: Box<dyn Subscription>,
    faults: Arc<Faults>,
    /// Events to return before anything else from the inner log.
    due: VecDeque<Due>,
    /// Partitions reassigned by a fault and not started again yet. Their deliveries from
    /// the inner log are dropped.
    waiting: BTreeSet<u32>,
}

enum Due {
    Until(tokio::time::Instant),
    Error,
    Delivery(Delivery),
}

impl FaultySubscription {
    fn plan(&mut self, delivery: Delivery) {
        let Delivery::Records { partition, records } = delivery else {
            return self.due.push_back(Due::Delivery(delivery));
        };
        if self.waiting.contains(&partition) {
            return;
        }
        match self.faults.delivery_fault() {
            None => {}
            Some(DeliveryFault::Delay(time)) => {
                self.due.push_back(Due::Until(tokio::time::Instant::now() + time))
            }
            Some(DeliveryFault::Error) => self.due.push_back(Due::Error),
            Some(DeliveryFault::Repeat) => {
                let records = records.clone();
                self.due.push_back(Due::Delivery(Delivery::Records { partition, records }));
            }
            Some(DeliveryFault::Reassign) => {
                self.waiting.insert(partition);
                self.due.push_back(Due::Delivery(Delivery::Revoked { partition }));
                return self.due.push_back(Due::Delivery(Delivery::Assigned { partition }));
            }
        }
        self.due.push_back(Due::Delivery(Delivery::Records { partition, records }));
    }
}

#[async_trait]
impl Subscription for FaultySubscription {
    async fn next(&mut self) -> Result<Delivery> {
        loop {
            self.faults.resumed().await;
            if let Some(Due::Until(time)) = self.due.front() {
                tokio::time::sleep_until(*time).await;
            }
            match self.due.pop_front() {
                Some(Due::Until(_)) => {}
                Some(Due::Error) => return Err(injected("the delivery failed")),
                Some(Due::Delivery(delivery)) => return Ok(delivery),
                None => {
                    let delivery = self.inner.next().await?;
                    self.plan(delivery);
                }
            }
        }
    }

    /// Starts a partition, and drops deliveries planned for it before.
    async fn start(&mut self, partition: u32, offset: u64) -> Result<()> {
        self.faults.resumed().await;
        self.inner.start(partition, offset).await?;
        self.waiting.remove(&partition);
        let is_of = |due: &Due| matches!(due, Due::Delivery(Delivery::Records { partition: of, .. }) if *of == partition);
        self.due.retain(|due| !is_of(due));
        Ok(())
    }
}
