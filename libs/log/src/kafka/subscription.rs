//! One reader of a topic: told its partitions by the group, it fetches each from where it was started.
//! Its place in a partition moves only when a delivery is returned, so `next` may be dropped at any moment.

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

/// What one delivery holds; the same as the embedded log's.
const PAGE_BYTES: usize = 1 << 20;

pub(super) struct KafkaSubscription {
    shared: Arc<Shared>,
    topic: Topic,
    membership: Membership,
    fetcher: StreamConsumer<Brokers>,
    /// The partitions that are ours, and where each goes on; None until it is started.
    places: BTreeMap<u32, Option<u64>>,
    /// What the fetcher was told to fetch.
    fetched: BTreeSet<u32>,
    /// The record that the next page begins with.
    carried: Option<(u32, Record)>,
    /// What the fetcher has said since the last page.
    interruption: Option<Interruption>,
}

enum Interruption {
    /// An offset that was asked for is not there any more; which one is found out beside, however often `next` is dropped.
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
            None => Err(Error::unavailable("the consumer group was left")),
        }
    }

    /// One partition at a time: librdkafka ends the process where a whole assignment replaces another that has not ended yet.
    fn fetch(&mut self, partition: u32, offset: u64) -> Result<()> {
        self.fetch_end(partition)?;
        let list = self.list(partition, Offset::Offset(offset as i64))?;
        self.fetcher.incremental_assign(&list).map_err(error::request)?;
        self.fetched.insert(partition);
        Ok(())
    }

    /// What was fetched of it and not delivered is dropped.
    fn fetch_end(&mut self, partition: u32) -> Result<()> {
        self.carried.take_if(|(of, _)| *of == partition);
        if !self.fetched.remove(&partition) {
            return Ok(());
        }
        let list = self.list(partition, Offset::Invalid)?;
        self.fetcher.incremental_unassign(&list).map_err(error::request)
    }

    /// Every partition that was started, from its place on.
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

    /// A fetcher that has lost all brokers is made anew.
    fn renew(&mut self) -> Result<()> {
        tracing::error!("a topic is fetched by a new client, as the old one knows no broker any more");
        self.fetcher = fetcher(&self.shared, self.topic)?;
        self.fetched.clear();
        self.fetch_started()
    }

    /// Goes on from a record with whatever else of its partition has already arrived.
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

    /// The record, if it is one that its partition waits for.
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
                told::trouble("the brokers do not know a topic", &source);
                self.membership.doubt();
                Ok(None)
            }
            Err(source) => match error::request(source) {
                // librdkafka goes on trying by itself.
                temporary @ Error::Unavailable { .. } => {
                    told::trouble("Kafka cannot be read at the moment", &temporary);
                    Ok(None)
                }
                lasting => Err(Interruption::Failed(lasting)),
            },
        }
    }

    /// Which partition was overtaken.
    fn ask(&self) -> Interruption {
        let (shared, topic, places) = (self.shared.clone(), self.topic, self.places.clone());
        Interruption::Overtaken(spawn_blocking(move || check_all(&shared, topic, &places)))
    }

    /// Tells what has interrupted the fetcher. As long as some partition may be overtaken it is asked again; when none is, all are
    /// fetched anew, because librdkafka has given up one of them.
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

    /// False if the partition is not where it was when it was asked about.
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

/// The offset of some partition is not there: retention has taken it, or the topic was made anew. Which one Kafka does not tell,
/// so all are asked. Blocks.
fn check_all(shared: &Shared, topic: Topic, places: &BTreeMap<u32, Option<u64>>) -> Result<()> {
    let mut started = places.iter().filter_map(|(partition, place)| Some((*partition, (*place)?)));
    started.try_for_each(|(partition, offset)| check(shared, topic, partition, offset))
}

/// Refuses an offset that cannot be read from. Blocks.
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
                // Whether the fetcher still knows any broker.
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
