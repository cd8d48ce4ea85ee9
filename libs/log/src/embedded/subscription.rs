//! One reader of a topic. It claims unowned partitions, and reads each from its start offset.
//! Its position in a partition advances only when a delivery is returned, so `next` may be
//! dropped at any point.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::task::JoinHandle;

use super::{Shared, partition::Found};
use crate::{Delivery, Error, Record, Result, Subscription, Topic};

/// Size of one read from the engine; the same as of one delivery from memory.
const PAGE_BYTES: usize = 1 << 20;

pub(super) struct EmbeddedSubscription {
    shared: Arc<Shared>,
    topic: Topic,
    id: u64,
    /// Indexed by partition.
    places: Vec<Place>,
    /// The partition to be read next, in turn.
    turn: usize,
    /// A read from the engine in progress. It is kept between calls, so that `next` makes
    /// progress even if it is repeatedly dropped.
    page: Option<Page>,
}

struct Page {
    partition: usize,
    /// End of the range being read.
    end: u64,
    records: JoinHandle<Result<Vec<Record>>>,
}

#[derive(Clone, Copy)]
enum Place {
    NotOurs,
    Assigned,
    /// Everything before this offset was delivered or skipped by `start`.
    At(u64),
}

impl EmbeddedSubscription {
    pub(super) fn new(shared: Arc<Shared>, topic: Topic, id: u64) -> Self {
        let places = shared.layout.slots(topic).map(|_| Place::NotOurs).collect();
        Self { shared, topic, id, places, turn: 0, page: None }
    }

    fn claim(&mut self) -> Option<u32> {
        let slots = self.shared.layout.slots(self.topic);
        for (partition, slot) in slots.enumerate() {
            let is_new = matches!(self.places[partition], Place::NotOurs);
            if is_new && self.shared.partitions[slot].lock().claim(self.id) {
                self.places[partition] = Place::Assigned;
                return Some(partition as u32);
            }
        }
        None
    }

    /// Reads from every partition once, starting after the one that was delivered last.
    async fn read(&mut self) -> Result<Option<Delivery>> {
        for _ in 0..self.places.len() {
            let partition = self.page.as_ref().map_or(self.turn, |page| page.partition);
            let records = self.read_partition(partition).await?;
            self.turn = (partition + 1) % self.places.len();
            if !records.is_empty() {
                return Ok(Some(Delivery::Records { partition: partition as u32, records }));
            }
        }
        Ok(None)
    }

    async fn read_partition(&mut self, partition: usize) -> Result<Vec<Record>> {
        while let Place::At(from) = self.places[partition] {
            if self.page.is_none() {
                match self.find(partition, from)? {
                    Found::Nothing => break,
                    Found::Records(records) => return Ok(self.advance(partition, from, records)),
                    Found::Stored { end } => self.page = Some(self.read_stored(partition, from, end)),
                }
            }
            if let Some(page) = &mut self.page {
                let records = (&mut page.records).await;
                let end = page.end;
                self.page = None;
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

    fn find(&self, partition: usize, from: u64) -> Result<Found> {
        let mut state = self.shared.partitions[self.slot(partition)].lock();
        state.check(partition as u32, from)?;
        Ok(state.find(from))
    }

    /// Advances past the records, or to `otherwise` if there are none.
    fn advance(&mut self, partition: usize, otherwise: u64, records: Vec<Record>) -> Vec<Record> {
        self.places[partition] = Place::At(records.last().map_or(otherwise, |last| last.offset + 1));
        records
    }

    fn read_stored(&self, partition: usize, from: u64, end: u64) -> Page {
        let (shared, slot) = (self.shared.clone(), self.slot(partition));
        let read = move || match shared.engine().as_ref() {
            Some(engine) => engine.read(slot, from, end, PAGE_BYTES),
            None => Err(Error::unavailable("it is being reopened")),
        };
        Page { partition, end, records: tokio::task::spawn_blocking(read) }
    }

    fn slot(&self, partition: usize) -> usize {
        self.shared.layout.slots(self.topic).start + partition
    }
}

#[async_trait]
impl Subscription for EmbeddedSubscription {
    async fn next(&mut self) -> Result<Delivery> {
        let shared = self.shared.clone();
        let news = shared.news(self.topic);
        loop {
            let mut changed = std::pin::pin!(news.notified());
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
        let place = &mut self.places[partition as usize];
        if matches!(place, Place::NotOurs) {
            return Err(Error::Topic {
                reason: format!("partition {partition} is not assigned to this subscription"),
            });
        }
        self.shared.partitions[slot].lock().check(partition, offset)?;
        *place = Place::At(offset);
        self.page = None;
        Ok(())
    }
}

impl Drop for EmbeddedSubscription {
    fn drop(&mut self) {
        for slot in self.shared.layout.slots(self.topic) {
            self.shared.partitions[slot].lock().give_up(self.id);
        }
        self.shared.news(self.topic).notify_waiters();
    }
}
