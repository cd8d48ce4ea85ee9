//! One reader of a topic: told its partitions by the group, it fetches each from where it was started.
//! Its place in a partition moves only when a delivery is returned, so `next` may be dropped at any moment.

use std::{collections::BTreeMap, sync::Arc};

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

use super::{
    Shared, blocking, error,
    membership::{Membership, News},
};
use crate::{Delivery, Error, PartitionInfo, Record, Result, Subscription, Topic};

/// What one delivery holds; the same as the embedded log's.
const PAGE_BYTES: usize = 1 << 20;

pub(super) struct KafkaSubscription {
    shared: Arc<Shared>,
    topic: Topic,
    membership: Membership,
    fetcher: StreamConsumer,
    /// The partitions that are ours, and where each goes on; None until it is started.
    places: BTreeMap<u32, Option<u64>>,
    /// The record that the next page begins with.
    carried: Option<(u32, Record)>,
    /// What the fetcher has said since the last page.
    interruption: Option<Interruption>,
}

enum Interruption {
    /// An offset that was asked for is not there any more.
    Overtaken,
    Failed(Error),
}

impl KafkaSubscription {
    pub(super) fn new(shared: Arc<Shared>, topic: Topic) -> Result<Self> {
        let fetcher = shared.settings.fetcher(topic).create().map_err(error::client)?;
        let (membership, keeper) = Membership::join(&shared.settings, topic)?;
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
                self.fetch_started()?;
                drop(told);
                Ok(Delivery::Revoked { partition })
            }
            Some(News::Failed(error)) => Err(error),
            None => Err(Error::unavailable("the consumer group was left")),
        }
    }

    /// Tells the fetcher anew what it fetches, and from where.
    fn fetch_started(&mut self) -> Result<()> {
        let name = self.shared.settings.topics.name(self.topic);
        let mut list = TopicPartitionList::new();
        for (partition, place) in &self.places {
            if let Some(offset) = place {
                list.add_partition_offset(name, *partition as i32, Offset::Offset(*offset as i64))
                    .map_err(error::client)?;
            }
        }
        // What was fetched and not delivered comes again.
        self.carried = None;
        self.fetcher.assign(&list).map_err(error::request)
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
                Err(Interruption::Overtaken)
            }
            Err(source) => match error::request(source) {
                // librdkafka goes on trying by itself.
                temporary @ Error::Unavailable { .. } => {
                    tracing::warn!(
                        error = &temporary as &dyn std::error::Error,
                        "Kafka cannot be read at the moment"
                    );
                    Ok(None)
                }
                lasting => Err(Interruption::Failed(lasting)),
            },
        }
    }

    async fn explain(&self, interruption: &Interruption) -> Error {
        match interruption {
            Interruption::Failed(error) => error.clone(),
            Interruption::Overtaken => {
                let (shared, topic, places) = (self.shared.clone(), self.topic, self.places.clone());
                blocking(move || overtaken(&shared, topic, &places)).await.unwrap_or_else(|error| error)
            }
        }
    }
}

/// Retention has taken the offset of some partition away: which one Kafka does not tell, so all are asked. Blocks.
fn overtaken(shared: &Shared, topic: Topic, places: &BTreeMap<u32, Option<u64>>) -> Error {
    for (partition, place) in places {
        if let Some(offset) = *place
            && let Err(error) = check(shared, topic, *partition, offset)
        {
            return error;
        }
    }
    Error::unavailable("Kafka did not know an offset that it knows now: start the partitions again")
}

/// Refuses an offset that cannot be read from. Blocks.
fn check(shared: &Shared, topic: Topic, partition: u32, asked: u64) -> Result<()> {
    let PartitionInfo { first, end } = shared.watermarks(topic, partition)?;
    if asked < first {
        return Err(Error::Trimmed { partition, asked, first });
    }
    if asked > end {
        return Err(Error::Topic {
            reason: format!(
                "partition {partition} ends at offset {end}, and {asked} was asked for: this is another log"
            ),
        });
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
            if let Some(interruption) = &self.interruption {
                let error = self.explain(interruption).await;
                self.interruption = None;
                return Err(error);
            }
            if let Ok(news) = self.membership.news.try_recv() {
                return self.hear(Some(news));
            }
            if let Some((partition, first)) = self.carried.take() {
                return Ok(self.page(partition, first));
            }
            let received = tokio::select! {
                news = self.membership.news.recv() => return self.hear(news),
                received = self.fetcher.recv() => received.map(|message| record(&message)),
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
        self.fetch_started()
    }
}
