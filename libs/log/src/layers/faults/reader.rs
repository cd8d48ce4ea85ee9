//! The reading half of the fault layer. Only deliveries of records are subject to faults, and
//! every call waits while the log is stopped. A fault, once chosen, remains in effect until its
//! delivery is returned, so `next` stays cancel-safe.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use async_trait::async_trait;

use super::{DeliveryFault, Faults, injected_error};
use crate::{Delivery, LogReader, Result, StartPoint, Subscription, Topic};

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
        self.faults.until_resumed().await;
        let inner = self.inner.subscribe(topic).await?;
        Ok(Box::new(FaultySubscription {
            inner,
            faults: self.faults.clone(),
            planned: VecDeque::new(),
            reassigned: BTreeSet::new(),
        }))
    }

    async fn trim(&self, topic: Topic, partition: u32, offset: u64) -> Result<()> {
        self.faults.until_resumed().await;
        self.inner.trim(topic, partition, offset).await
    }
}

struct FaultySubscription {
    inner: Box<dyn Subscription>,
    faults: Arc<Faults>,
    /// Events to return before anything else from the inner log.
    planned: VecDeque<PlannedEvent>,
    /// Partitions reassigned by a fault and not restarted yet. Their deliveries from the inner log
    /// are dropped.
    reassigned: BTreeSet<u32>,
}

enum PlannedEvent {
    Until(tokio::time::Instant),
    Error,
    Delivery(Delivery),
}

impl FaultySubscription {
    fn plan(&mut self, delivery: Delivery) {
        let Delivery::Records { partition, records } = delivery else {
            return self.planned.push_back(PlannedEvent::Delivery(delivery));
        };
        if self.reassigned.contains(&partition) {
            return;
        }
        match self.faults.delivery_fault() {
            None => {}
            Some(DeliveryFault::Delay(time)) => {
                self.planned.push_back(PlannedEvent::Until(tokio::time::Instant::now() + time))
            }
            Some(DeliveryFault::Error) => self.planned.push_back(PlannedEvent::Error),
            Some(DeliveryFault::Repeat) => {
                let records = records.clone();
                self.planned.push_back(PlannedEvent::Delivery(Delivery::Records { partition, records }));
            }
            Some(DeliveryFault::Reassign) => {
                self.reassigned.insert(partition);
                self.planned.push_back(PlannedEvent::Delivery(Delivery::Revoked { partition }));
                return self.planned.push_back(PlannedEvent::Delivery(Delivery::Assigned { partition }));
            }
        }
        self.planned.push_back(PlannedEvent::Delivery(Delivery::Records { partition, records }));
    }
}

#[async_trait]
impl Subscription for FaultySubscription {
    async fn next(&mut self) -> Result<Delivery> {
        loop {
            self.faults.until_resumed().await;
            if let Some(PlannedEvent::Until(time)) = self.planned.front() {
                tokio::time::sleep_until(*time).await;
            }
            match self.planned.pop_front() {
                Some(PlannedEvent::Until(_)) => {}
                Some(PlannedEvent::Error) => return Err(injected_error("the delivery failed")),
                Some(PlannedEvent::Delivery(delivery)) => return Ok(delivery),
                None => {
                    let delivery = self.inner.next().await?;
                    self.plan(delivery);
                }
            }
        }
    }

    /// Starts a partition, and drops the deliveries of records that were planned for it.
    async fn start(&mut self, partition: u32, point: StartPoint) -> Result<()> {
        self.faults.until_resumed().await;
        self.inner.start(partition, point).await?;
        self.reassigned.remove(&partition);
        self.planned.retain(|planned| match planned {
            PlannedEvent::Delivery(Delivery::Records { partition: of, .. }) => *of != partition,
            _ => true,
        });
        Ok(())
    }
}
