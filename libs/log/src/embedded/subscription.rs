//! One reader of a topic. It claims the topic's partition, and reads it from its start offset. Its
//! position advances only when a delivery is returned, so `next` may be dropped at any point.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::task::JoinHandle;

use super::{
    partition::{Lookup, PAGE_BYTES, PARTITION},
    topic::{TopicLog, check_partition},
};
use crate::{Delivery, Error, Record, Result, StartPoint, Subscription};

pub(super) struct EmbeddedSubscription {
    log: Arc<TopicLog>,
    id: u64,
    read_state: ReadState,
    /// A read from disk in progress. It is kept between calls, so that `next` makes progress
    /// even if it is repeatedly dropped.
    disk_read: Option<JoinHandle<Result<Vec<Record>>>>,
}

#[derive(Clone, Copy)]
enum ReadState {
    Unassigned,
    Assigned,
    /// Everything before this offset has been delivered, or was skipped by `start`.
    ReadingFrom(u64),
}

impl EmbeddedSubscription {
    pub(super) fn new(log: Arc<TopicLog>) -> Self {
        let id = log.new_subscription();
        Self { log, id, read_state: ReadState::Unassigned, disk_read: None }
    }

    fn claim(&mut self) -> bool {
        let is_claimed =
            matches!(self.read_state, ReadState::Unassigned) && self.log.partition.lock().claim(self.id);
        if is_claimed {
            self.read_state = ReadState::Assigned;
        }
        is_claimed
    }

    /// The next records; `None` if all were delivered. After an error about undelivered records that are
    /// gone, delivers nothing until the partition is restarted.
    async fn read(&mut self) -> Result<Option<Vec<Record>>> {
        let read = self.try_read().await;
        if matches!(read, Err(Error::Trimmed { .. } | Error::Replaced { .. })) {
            self.read_state = ReadState::Assigned;
        }
        read
    }

    async fn try_read(&mut self) -> Result<Option<Vec<Record>>> {
        let ReadState::ReadingFrom(from) = self.read_state else { return Ok(None) };
        if self.disk_read.is_none() {
            let found = {
                let mut partition = self.log.partition.lock();
                partition.check_offset(from)?;
                partition.look_up(from)
            };
            match found {
                Lookup::UpToDate => return Ok(None),
                Lookup::InMemory(records) => return Ok(Some(self.advance(records))),
                Lookup::OnDisk { end } => {
                    let log = self.log.clone();
                    self.disk_read =
                        Some(tokio::task::spawn_blocking(move || log.segments.read(from, end, PAGE_BYTES)));
                }
            }
        }
        let Some(disk_read) = &mut self.disk_read else { return Ok(None) };
        let records = disk_read.await;
        self.disk_read = None;
        let records = records
            .map_err(|failure| Error::unavailable(format!("the read was interrupted: {failure}")))??;
        Ok(Some(self.advance(records)))
    }

    fn advance(&mut self, records: Vec<Record>) -> Vec<Record> {
        if let Some(last) = records.last() {
            self.read_state = ReadState::ReadingFrom(last.offset + 1);
        }
        records
    }
}

#[async_trait]
impl Subscription for EmbeddedSubscription {
    async fn next(&mut self) -> Result<Delivery> {
        let log = self.log.clone();
        loop {
            let mut changed = std::pin::pin!(log.changed.notified());
            // Registers before looking, so that no notification is missed.
            changed.as_mut().enable();
            log.queue.check_open()?;
            if self.claim() {
                return Ok(Delivery::Assigned { partition: PARTITION });
            }
            if let Some(records) = self.read().await? {
                return Ok(Delivery::Records { partition: PARTITION, records });
            }
            changed.await;
        }
    }

    async fn start(&mut self, partition: u32, StartPoint { offset, .. }: StartPoint) -> Result<()> {
        check_partition(self.log.topic, partition)?;
        if matches!(self.read_state, ReadState::Unassigned) {
            return Err(Error::Topic {
                reason: format!("partition {partition} is not assigned to this subscription"),
            });
        }
        self.log.partition.lock().check_offset(offset)?;
        self.read_state = ReadState::ReadingFrom(offset);
        self.disk_read = None;
        Ok(())
    }
}

impl Drop for EmbeddedSubscription {
    fn drop(&mut self) {
        self.log.partition.lock().release(self.id);
        self.log.changed.notify_waiters();
    }
}
