//! One reader of a topic. It claims unowned partitions, and reads each from its start offset.
//! Its position in a partition advances only when a delivery is returned, so `next` may be
//! dropped at any point.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::task::JoinHandle;

use super::{Shared, partition::Lookup};
use crate::{Delivery, Error, Record, Result, Subscription, Topic};

/// Size of one read from the engine; the same as one delivery from memory.
const PAGE_BYTES: usize = 1 << 20;

pub(super) struct EmbeddedSubscription {
    shared: Arc<Shared>,
    topic: Topic,
    id: u64,
    /// Indexed by partition.
    read_states: Vec<ReadState>,
    /// The partition to read next, in round-robin order.
    next_partition: usize,
    /// A read from the engine in progress. It is kept between calls, so that `next` makes
    /// progress even if it is repeatedly dropped.
    engine_read: Option<EngineRead>,
}

struct EngineRead {
    partition: usize,
    /// End of the range being read.
    end: u64,
    records: JoinHandle<Result<Vec<Record>>>,
}

#[derive(Clone, Copy)]
enum ReadState {
    Unassigned,
    Assigned,
    /// Everything before this offset has been delivered, or was skipped by `start`.
    ReadingFrom(u64),
}

impl EmbeddedSubscription {
    pub(super) fn new(shared: Arc<Shared>, topic: Topic, id: u64) -> Self {
        let read_states = shared.layout.slots(topic).map(|_| ReadState::Unassigned).collect();
        Self { shared, topic, id, read_states, next_partition: 0, engine_read: None }
    }

    fn claim(&mut self) -> Option<u32> {
        let slots = self.shared.layout.slots(self.topic);
        for (partition, slot) in slots.enumerate() {
            let is_new = matches!(self.read_states[partition], ReadState::Unassigned);
            if is_new && self.shared.partitions[slot].lock().claim(self.id) {
                self.read_states[partition] = ReadState::Assigned;
                return Some(partition as u32);
            }
        }
        None
    }

    /// Reads from every partition once, starting after the one that was delivered last.
    async fn read(&mut self) -> Result<Option<Delivery>> {
        for _ in 0..self.read_states.len() {
            let partition =
                self.engine_read.as_ref().map_or(self.next_partition, |engine_read| engine_read.partition);
            let records = self.read_partition(partition).await?;
            self.next_partition = (partition + 1) % self.read_states.len();
            if !records.is_empty() {
                return Ok(Some(Delivery::Records { partition: partition as u32, records }));
            }
        }
        Ok(None)
    }

    async fn read_partition(&mut self, partition: usize) -> Result<Vec<Record>> {
        while let ReadState::ReadingFrom(from) = self.read_states[partition] {
            if self.engine_read.is_none() {
                match self.look_up(partition, from)? {
                    Lookup::UpToDate => break,
                    Lookup::InMemory(records) => return Ok(self.advance(partition, from, records)),
                    Lookup::InEngine { end } => {
                        self.engine_read = Some(self.read_stored(partition, from, end))
                    }
                }
            }
            if let Some(engine_read) = &mut self.engine_read {
                let records = (&mut engine_read.records).await;
                let end = engine_read.end;
                self.engine_read = None;
                let records = records.map_err(|failure| {
                    Error::unavailable(format!("the read was interrupted: {failure}"))
                })??;
                let records = self.advance(partition, end, records);
                if !records.is_empty() {
                    return Ok(records);
                }
            }
        }
        Ok(Vec::new())
    }

    fn look_up(&self, partition: usize, from: u64) -> Result<Lookup> {
        let mut state = self.shared.partitions[self.slot(partition)].lock();
        state.check_offset(partition as u32, from)?;
        Ok(state.look_up(from))
    }

    /// Advances past the records, or to `fallback` if there are none.
    fn advance(&mut self, partition: usize, fallback: u64, records: Vec<Record>) -> Vec<Record> {
        self.read_states[partition] =
            ReadState::ReadingFrom(records.last().map_or(fallback, |last| last.offset + 1));
        records
    }

    fn read_stored(&self, partition: usize, from: u64, end: u64) -> EngineRead {
        let (shared, slot) = (self.shared.clone(), self.slot(partition));
        let read = move || match shared.engine().as_ref() {
            Some(engine) => engine.read(slot, from, end, PAGE_BYTES),
            None => Err(Error::unavailable("it is being reopened")),
        };
        EngineRead { partition, end, records: tokio::task::spawn_blocking(read) }
    }

    fn slot(&self, partition: usize) -> usize {
        self.shared.layout.slots(self.topic).start + partition
    }
}

#[async_trait]
impl Subscription for EmbeddedSubscription {
    async fn next(&mut self) -> Result<Delivery> {
        let shared = self.shared.clone();
        let changes = shared.changes(self.topic);
        loop {
            let mut changed = std::pin::pin!(changes.notified());
            // Registers before looking, so that no notification is missed.
            changed.as_mut().enable();
            shared.queue.check_open()?;
            if let Some(partition) = self.claim() {
                return Ok(Delivery::Assigned { partition });
            }
            if let Some(delivery) = self.read().await? {
                return Ok(delivery);
            }
            changed.await;
        }
    }

    async fn start(&mut self, partition: u32, offset: u64) -> Result<()> {
        let slot = self.shared.layout.slot(self.topic, partition)?;
        let state = &mut self.read_states[partition as usize];
        if matches!(state, ReadState::Unassigned) {
            return Err(Error::Topic {
                reason: format!("partition {partition} is not assigned to this subscription"),
            });
        }
        self.shared.partitions[slot].lock().check_offset(partition, offset)?;
        *state = ReadState::ReadingFrom(offset);
        self.engine_read = None;
        Ok(())
    }
}

impl Drop for EmbeddedSubscription {
    fn drop(&mut self) {
        for slot in self.shared.layout.slots(self.topic) {
            self.shared.partitions[slot].lock().release(self.id);
        }
        self.shared.changes(self.topic).notify_waiters();
    }
}
