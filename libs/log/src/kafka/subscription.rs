//! One reader of a topic. The group assigns its partitions, and it fetches each from its start
//! offset. Its position in a partition advances only when a delivery is returned, so `next` may
//! be dropped at any point.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
    error::KafkaError,
    message::{BorrowedMessage, Headers},
    types::RDKafkaErrorCode,
};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};

use super::{
    Shared, blocking,
    brokers::{self, Brokers},
    error,
    membership::{Membership, News},
    told,
};
use crate::{Delivery, Error, PartitionInfo, Record, Result, Subscription, Topic};

/// Size of one delivery; the same as the embedded log's.
const PAGE_BYTES: usize = 1 << 20;

pub(super) struct KafkaSubscription {
    shared: Arc<Shared>,
    topic: Topic,
    membership: Membership,
    fetcher: StreamConsumer<Brokers>,
    /// The assigned partitions and the next offset of each; None until started.
    places: BTreeMap<u32, Option<u64>>,
    /// The partitions being fetched.
    fetched: BTreeSet<u32>,
    /// The first record of the next page.
    carried: Option<(u32, Record)>,
    /// A problem reported by the fetcher since the last page.
    interruption: Option<Interruption>,
}

enum Interruption {
    /// A requested offset no longer exists. A background task finds out which one,
    /// unaffected by dropped calls of `next`.
    Overtaken(JoinHandle<Result<()>>),
    Failed(Error),
}

impl KafkaSubscription {
    pub(super) fn new(shared: Arc<Shared>, topic: Topic) -> Result<Self> {
        let fetcher = fetcher(&shared, topic)?;
        let partitions = shared.partitions.of(topic);
        let (membership, keeper) = Membership::join(&shared.settings, topic, partitions)?;
        {
            let mut keepers = shared.keepers();
            keepers.retain(|keeper| !keeper.is_finished());
            keepers.push(keeper);
        }
        Ok(Self {
            shared,
            topic,
            membership,
            fetcher,
            places: BTreeMap::new(),
            fetched: BTreeSet::new(),
            carried: None,
            interruption: None,
        })
    }

    fn hear(&mut self, news: Option<News>) -> Result<Delivery> {
        match news {
            Some(News::Assigned(partition)) => {
                self.shared.partitions.check(self.topic, partition)?;
                self.places.insert(partition, None);
                Ok(Delivery::Assigned { partition })
            }
            Some(News::Revoked { partition, told }) => {
                self.places.remove(&partition);
                self.fetch_end(partition)?;
                drop(told);
                Ok(Delivery::Revoked { partition })
            }
            Some(News::Failed(error)) => Err(error),
            None => Err(Error::unavailable("the subscription has left its consumer group")),
        }
    }

    /// Starts fetching a partition. Partitions are assigned one at a time, because
    /// librdkafka aborts the process if a complete assignment replaces another that is
    /// still in progress.
    fn fetch(&mut self, partition: u32, offset: u64) -> Result<()> {
        self.fetch_end(partition)?;
        let list = self.list(partition, Offset::Offset(offset as i64))?;
        self.fetcher.incremental_assign(&list).map_err(error::request)?;
        self.fetched.insert(partition);
        Ok(())
    }

    /// Stops fetching a partition, and drops its fetched but undelivered records.
    fn fetch_end(&mut self, partition: u32) -> Result<()> {
        self.carried.take_if(|(of, _)| *of == partition);
        if !self.fetched.remove(&partition) {
            return Ok(());
        }
        let list = self.list(partition, Offset::Invalid)?;
        self.fetcher.incremental_unassign(&list).map_err(error::request)
    }

    /// Fetches every started partition from its current position.
    fn fetch_started(&mut self) -> Result<()> {
        let started = self.places.iter().filter_map(|(partition, place)| Some((*partition, (*place)?)));
        started
            .collect::<Vec<_>>()
            .into_iter()
            .try_for_each(|(partition, offset)| self.fetch(partition, offset))
    }

    fn list(&self, partition: u32, offset: Offset) -> Result<TopicPartitionList> {
        let name = self.shared.settings.topics.name(self.topic);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(name, partition as i32, offset).map_err(error::client)?;
        Ok(list)
    }

    /// Replaces a fetcher that has lost all brokers.
    fn renew(&mut self) -> Result<()> {
        tracing::error!("fetcher lost all brokers; replacing it");
        self.fetcher = fetcher(&self.shared, self.topic)?;
        self.fetched.clear();
        self.fetch_started()
    }

    /// Extends a record to a page with the records of its partition that have already
    /// arrived.
    fn page(&mut self, partition: u32, first: Record) -> Delivery {
        let mut bytes = first.value.len();
        let mut end = first.offset + 1;
        let mut records = vec![first];
        while bytes < PAGE_BYTES
            && let Some(received) = self.fetcher.recv().now_or_never()
        {
            let received = received.map(|message| record(&message));
            match self.expected(received) {
                Ok(Some((of, next))) if of == partition => {
                    // `expected` only compares with the position before this page.
                    if next.offset >= end {
                        bytes += next.value.len();
                        end = next.offset + 1;
                        records.push(next);
                    }
                }
                Ok(other) => self.carried = other,
                Err(interruption) => self.interruption = Some(interruption),
            }
            if self.carried.is_some() || self.interruption.is_some() {
                break;
            }
        }
        self.places.insert(partition, Some(end));
        Delivery::Records { partition, records }
    }

    /// Returns the record if its partition is waiting for it.
    fn expected(
        &self,
        received: Result<(u32, Record), KafkaError>,
    ) -> Result<Option<(u32, Record)>, Interruption> {
        match received {
            Ok((partition, record)) => {
                let place = self.places.get(&partition).copied().flatten();
                Ok(place.filter(|place| record.offset >= *place).map(|_| (partition, record)))
            }
            Err(source) if source.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
                Err(self.ask())
            }
            Err(source) if error::is_missing(&source) => {
                told::trouble("brokers do not know the topic", &source);
                self.membership.doubt();
                Ok(None)
            }
            Err(source) => match error::request(source) {
                // librdkafka retries on its own.
                temporary @ Error::Unavailable { .. } => {
                    told::trouble("failed to read from Kafka", &temporary);
                    Ok(None)
                }
                lasting => Err(Interruption::Failed(lasting)),
            },
        }
    }

    /// Starts a check of which partition was overtaken.
    fn ask(&self) -> Interruption {
        let (shared, topic, places) = (self.shared.clone(), self.topic, self.places.clone());
        Interruption::Overtaken(spawn_blocking(move || check_all(&shared, topic, &places)))
    }

    /// Reports an interruption of the fetcher. The check is repeated while some partition
    /// may be overtaken. Once none is, all partitions are fetched again, because librdkafka
    /// has stopped fetching one of them.
    async fn settle(&mut self) -> Result<()> {
        let found = match &mut self.interruption {
            None => return Ok(()),
            Some(Interruption::Failed(error)) => {
                let error = error.clone();
                self.interruption = None;
                return Err(error);
            }
            Some(Interruption::Overtaken(asked)) => asked.await,
        };
        let interrupted = |failure| Error::unavailable(format!("the request was interrupted: {failure}"));
        let Err(error) = found.map_err(interrupted).flatten() else {
            self.interruption = None;
            return self.fetch_started();
        };
        let is_so = match error {
            Error::Trimmed { partition, asked, .. } | Error::Replaced { partition, asked, .. } => {
                self.stand_still(partition, asked)
            }
            _ => true,
        };
        self.interruption = Some(self.ask());
        if is_so { Err(error) } else { Ok(()) }
    }

    /// Stops a partition until it is started again. Returns false if the partition has
    /// moved since the check.
    fn stand_still(&mut self, partition: u32, asked: u64) -> bool {
        match self.places.get_mut(&partition) {
            Some(place) if *place == Some(asked) => {
                *place = None;
                true
            }
            _ => false,
        }
    }
}

fn fetcher(shared: &Shared, topic: Topic) -> Result<StreamConsumer<Brokers>> {
    shared.settings.fetcher(topic).create_with_context(Brokers::default()).map_err(error::client)
}

/// Finds a partition whose offset does not exist, because retention deleted it or the topic was
/// recreated. Kafka does not report which one it is, so all are checked. Blocks.
fn check_all(shared: &Shared, topic: Topic, places: &BTreeMap<u32, Option<u64>>) -> Result<()> {
    let mut started = places.iter().filter_map(|(partition, place)| Some((*partition, (*place)?)));
    started.try_for_each(|(partition, offset)| check(shared, topic, partition, offset))
}

/// Fails if the partition cannot be read from this offset. Blocks.
fn check(shared: &Shared, topic: Topic, partition: u32, asked: u64) -> Result<()> {
    let PartitionInfo { first, end } = shared.watermarks(topic, partition)?;
    if asked < first {
        return Err(Error::Trimmed { partition, asked, first });
    }
    if asked > end {
        return Err(Error::Replaced { partition, asked, end });
    }
    Ok(())
}

fn record(message: &BorrowedMessage<'_>) -> (u32, Record) {
    let copy = |bytes: Option<&[u8]>| Bytes::copy_from_slice(bytes.unwrap_or_default());
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key.to_owned(), copy(header.value))).collect()
    });
    let record = Record {
        offset: message.offset() as u64,
        key: copy(message.key()),
        value: copy(message.payload()),
        headers,
        appended_us: message.timestamp().to_millis().unwrap_or_default() * 1000,
    };
    (message.partition() as u32, record)
}

#[async_trait]
impl Subscription for KafkaSubscription {
    async fn next(&mut self) -> Result<Delivery> {
        loop {
            if let Ok(news) = self.membership.news.try_recv() {
                return self.hear(Some(news));
            }
            if self.fetcher.context().are_lost() {
                self.renew()?;
            }
            self.settle().await?;
            if let Some((partition, first)) = self.carried.take() {
                return Ok(self.page(partition, first));
            }
            let received = tokio::select! {
                news = self.membership.news.recv() => return self.hear(news),
                received = self.fetcher.recv() => received.map(|message| record(&message)),
                // Wakes up to check whether the fetcher still knows any broker.
                () = sleep(brokers::TELL) => continue,
            };
            match self.expected(received) {
                Ok(next) => self.carried = next,
                Err(interruption) => self.interruption = Some(interruption),
            }
        }
    }

    async fn start(&mut self, partition: u32, offset: u64) -> Result<()> {
        if !self.places.contains_key(&partition) {
            return Err(Error::Topic {
                reason: format!("partition {partition} is not assigned to this subscription"),
            });
        }
        let (shared, topic) = (self.shared.clone(), self.topic);
        blocking(move || check(&shared, topic, partition, offset)).await??;
        self.places.insert(partition, Some(offset));
        self.fetch(partition, offset)
    }
}
