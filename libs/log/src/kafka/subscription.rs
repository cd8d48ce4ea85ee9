//! One reader of a topic. The group assigns its partitions, and it fetches each from its start
//! offset. Its position in a partition advances only when a delivery is returned, so `next` may
//! be dropped at any point.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use rdkafka::{
    Message, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
    error::KafkaError,
    message::{BorrowedMessage, Headers},
    types::RDKafkaErrorCode,
};
use tokio::{
    task::{JoinError, JoinHandle, spawn_blocking},
    time::sleep,
};

use super::{
    Shared, blocking,
    broker_tracker::{self, BrokerTracker},
    error,
    leader_epoch::{leader_epoch, list_from},
    log_throttle,
    membership::{Membership, MembershipEvent},
};
use crate::{Delivery, Error, PartitionInfo, Record, Result, StartPoint, Subscription, Topic};

/// Size of one delivery; the same as the embedded log's.
const PAGE_BYTES: usize = 1 << 20;

pub(super) struct KafkaSubscription {
    shared: Arc<Shared>,
    topic: Topic,
    membership: Membership,
    fetcher: StreamConsumer<BrokerTracker>,
    /// The assigned partitions and the next point of each; None until started.
    positions: BTreeMap<u32, Option<StartPoint>>,
    /// The first and the next offset that were found to exist in each started partition.
    known_offsets: BTreeMap<u32, RangeInclusive<u64>>,
    /// The partitions being fetched.
    fetched_partitions: BTreeSet<u32>,
    /// The first record of the next page.
    next_record: Option<(u32, Record)>,
    /// Finds out which partition librdkafka has stopped fetching. The other partitions are read during
    /// the check. The check continues if the future of `next` is dropped.
    check: Option<JoinHandle<Result<()>>>,
    /// An error reported by the fetcher since the last page.
    failure: Option<Error>,
}

/// A problem reported by the fetcher.
enum Interruption {
    /// A requested offset no longer exists, or the log has lost its tail.
    Overtaken,
    Failed(Error),
}

impl KafkaSubscription {
    pub(super) fn new(shared: Arc<Shared>, topic: Topic) -> Result<Self> {
        let fetcher = fetcher(&shared, topic)?;
        let partitions = shared.partitions.count(topic);
        let (membership, thread) = Membership::join(&shared.settings, topic, partitions)?;
        {
            let mut membership_threads = shared.membership_threads();
            membership_threads.retain(|thread| !thread.is_finished());
            membership_threads.push(thread);
        }
        Ok(Self {
            shared,
            topic,
            membership,
            fetcher,
            positions: BTreeMap::new(),
            known_offsets: BTreeMap::new(),
            fetched_partitions: BTreeSet::new(),
            next_record: None,
            check: None,
            failure: None,
        })
    }

    fn handle_event(&mut self, event: Option<MembershipEvent>) -> Result<Delivery> {
        match event {
            Some(MembershipEvent::Assigned(partition)) => {
                self.shared.partitions.check(self.topic, partition)?;
                self.positions.insert(partition, None);
                Ok(Delivery::Assigned { partition })
            }
            Some(MembershipEvent::Revoked { partition, notified }) => {
                self.positions.remove(&partition);
                self.known_offsets.remove(&partition);
                self.stop_fetching(partition)?;
                drop(notified);
                Ok(Delivery::Revoked { partition })
            }
            Some(MembershipEvent::Failed(error)) => Err(error),
            // Its thread ends before the subscription only if it fails.
            None => Err(Error::Topic {
                reason: "the consumer group was left, see the log for the reason: restart the process"
                    .to_owned(),
            }),
        }
    }

    /// Starts fetching a partition. Partitions are assigned one at a time, because
    /// librdkafka aborts the process if a complete assignment replaces another that is
    /// still in progress.
    fn fetch(&mut self, partition: u32, point: StartPoint) -> Result<()> {
        self.stop_fetching(partition)?;
        let list = list_from(self.name(), partition, point)?;
        self.fetcher.incremental_assign(&list).map_err(error::request)?;
        self.fetched_partitions.insert(partition);
        Ok(())
    }

    /// Stops fetching a partition, and drops its fetched but undelivered records.
    fn stop_fetching(&mut self, partition: u32) -> Result<()> {
        self.next_record.take_if(|(of, _)| *of == partition);
        if !self.fetched_partitions.remove(&partition) {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        list.add_partition(self.name(), partition as i32);
        self.fetcher.incremental_unassign(&list).map_err(error::request)
    }

    /// Fetches every started partition from its current position.
    fn fetch_all_started(&mut self) -> Result<()> {
        let started =
            self.positions.iter().filter_map(|(partition, position)| Some((*partition, (*position)?)));
        started
            .collect::<Vec<_>>()
            .into_iter()
            .try_for_each(|(partition, point)| self.fetch(partition, point))
    }

    fn name(&self) -> &str {
        self.shared.settings.topics.name(self.topic)
    }

    /// Replaces a fetcher that has lost all brokers.
    fn replace_fetcher(&mut self) -> Result<()> {
        tracing::error!("fetcher lost all brokers; replacing it");
        self.fetcher = fetcher(&self.shared, self.topic)?;
        self.fetched_partitions.clear();
        self.fetch_all_started()
    }

    /// Extends a record to a page with the records of its partition that have already
    /// arrived.
    fn page(&mut self, partition: u32, first: Record) -> Delivery {
        let mut bytes = first.value.len();
        let mut end = point_after(&first);
        let mut records = vec![first];
        while bytes < PAGE_BYTES
            && let Some(received) = self.fetcher.recv().now_or_never()
        {
            let received = received.map(|message| record(&message));
            match self.accept(received) {
                Ok(Some((of, next))) if of == partition => {
                    // `accept` only compares with the position before this page.
                    if next.offset >= end.offset {
                        bytes += next.value.len();
                        end = point_after(&next);
                        records.push(next);
                    }
                }
                Ok(other) => self.next_record = other,
                Err(interruption) => {
                    self.interrupt(interruption);
                    break;
                }
            }
            if self.next_record.is_some() {
                break;
            }
        }
        self.positions.insert(partition, Some(end));
        if let Some(known) = self.known_offsets.get_mut(&partition) {
            *known = *known.start()..=end.offset.max(*known.end());
        }
        Delivery::Records { partition, records }
    }

    /// Returns the record if its partition is waiting for it.
    fn accept(
        &self,
        received: Result<(u32, Record), KafkaError>,
    ) -> Result<Option<(u32, Record)>, Interruption> {
        match received {
            Ok((partition, record)) => {
                let position = self.positions.get(&partition).copied().flatten();
                Ok(position.filter(|point| record.offset >= point.offset).map(|_| (partition, record)))
            }
            Err(source) if source.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
                Err(Interruption::Overtaken)
            }
            Err(source) if error::is_missing(&source) => {
                log_throttle::warn("brokers do not know the topic", &source);
                self.membership.request_topic_check();
                Ok(None)
            }
            Err(source) => match error::request(source) {
                // librdkafka retries automatically.
                temporary @ Error::Unavailable { .. } => {
                    log_throttle::warn("failed to read from Kafka", &temporary);
                    Ok(None)
                }
                lasting => Err(Interruption::Failed(lasting)),
            },
        }
    }

    fn interrupt(&mut self, interruption: Interruption) {
        match interruption {
            Interruption::Failed(error) => self.failure = Some(error),
            // A running check is followed by another check if this partition is fetched in vain a
            // second time.
            Interruption::Overtaken => {
                self.check.get_or_insert_with(|| start_check(&self.shared, self.topic, &self.positions));
            }
        }
    }

    /// Reports the result of a check. The check is repeated while some partition may be overtaken.
    /// Afterwards fetching restarts for all partitions, because librdkafka has stopped fetching one of
    /// them.
    fn resolve_check(&mut self, found: Result<Result<()>, JoinError>) -> Result<()> {
        let Err(error) = found
            .map_err(|failure| Error::unavailable(format!("the request was interrupted: {failure}")))
            .flatten()
        else {
            self.check = None;
            return self.fetch_all_started();
        };
        let is_current = match error {
            Error::Trimmed { partition, requested, .. } | Error::Replaced { partition, requested, .. } => {
                self.stop_partition(partition, requested)
            }
            _ => true,
        };
        self.check = Some(start_check(&self.shared, self.topic, &self.positions));
        if is_current { Err(error) } else { Ok(()) }
    }

    /// Stops a partition until it is restarted. Returns false if the partition has moved since the
    /// check.
    fn stop_partition(&mut self, partition: u32, requested: u64) -> bool {
        match self.positions.get_mut(&partition) {
            Some(position) if position.is_some_and(|point| point.offset == requested) => {
                *position = None;
                self.known_offsets.remove(&partition);
                true
            }
            _ => false,
        }
    }
}

fn fetcher(shared: &Shared, topic: Topic) -> Result<StreamConsumer<BrokerTracker>> {
    shared.settings.fetcher(topic).create_with_context(BrokerTracker::default()).map_err(error::client)
}

fn start_check(
    shared: &Arc<Shared>,
    topic: Topic,
    positions: &BTreeMap<u32, Option<StartPoint>>,
) -> JoinHandle<Result<()>> {
    let shared = shared.clone();
    let positions = positions.clone();
    spawn_blocking(move || check_all(&shared, topic, &positions))
}

/// Finds a partition whose offset does not exist, because retention deleted it or the topic was
/// recreated, or a partition that has lost its tail. Kafka does not report which partition is affected,
/// so all are checked. A partition that cannot be checked at the moment does not hide another. Blocks.
fn check_all(shared: &Shared, topic: Topic, positions: &BTreeMap<u32, Option<StartPoint>>) -> Result<()> {
    let started = positions.iter().filter_map(|(partition, position)| Some((*partition, (*position)?)));
    let mut unchecked = None;
    for (partition, point) in started {
        let checked = match shared.lost_tail(topic, partition, point) {
            Ok(Some(end)) => Err(Error::Replaced { partition, requested: point.offset, end }),
            Ok(None) => check(shared, topic, partition, point.offset),
            Err(error) => Err(error),
        };
        match checked {
            Err(error) if error.is_temporary() => unchecked = Some(error),
            checked => checked?,
        }
    }
    unchecked.map_or(Ok(()), Err)
}

/// Fails if the partition cannot be read from this offset. Blocks.
fn check(shared: &Shared, topic: Topic, partition: u32, requested: u64) -> Result<()> {
    let PartitionInfo { first, end } = shared.watermarks(topic, partition)?;
    if requested < first {
        return Err(Error::Trimmed { partition, requested, first });
    }
    if requested > end {
        return Err(Error::Replaced { partition, requested, end });
    }
    Ok(())
}

fn copy(bytes: Option<&[u8]>) -> Bytes {
    Bytes::copy_from_slice(bytes.unwrap_or_default())
}

fn record(message: &BorrowedMessage<'_>) -> (u32, Record) {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key.to_owned(), copy(header.value))).collect()
    });
    let record = Record {
        offset: message.offset() as u64,
        key: copy(message.key()),
        value: copy(message.payload()),
        headers,
        appended_us: message.timestamp().to_millis().unwrap_or_default() * 1000,
        leader_epoch: leader_epoch(message),
    };
    (message.partition() as u32, record)
}

fn point_after(record: &Record) -> StartPoint {
    StartPoint { offset: record.offset + 1, epoch_before: record.leader_epoch }
}

/// Waits for the end of a check. Never returns without one. Cancel-safe.
async fn ended(check: &mut Option<JoinHandle<Result<()>>>) -> Result<Result<()>, JoinError> {
    match check {
        Some(check) => check.await,
        None => std::future::pending().await,
    }
}

#[async_trait]
impl Subscription for KafkaSubscription {
    async fn next(&mut self) -> Result<Delivery> {
        loop {
            if let Ok(event) = self.membership.events.try_recv() {
                return self.handle_event(Some(event));
            }
            if self.fetcher.context().are_lost() {
                self.replace_fetcher()?;
            }
            if let Some(error) = self.failure.take() {
                return Err(error);
            }
            // Checked before the records that have arrived, because there may always be more of them.
            if self.check.as_ref().is_some_and(JoinHandle::is_finished) {
                let found = ended(&mut self.check).await;
                self.resolve_check(found)?;
            }
            if let Some((partition, first)) = self.next_record.take() {
                return Ok(self.page(partition, first));
            }
            let received = tokio::select! {
                event = self.membership.events.recv() => return self.handle_event(event),
                found = ended(&mut self.check) => {
                    self.resolve_check(found)?;
                    continue;
                }
                received = self.fetcher.recv() => received.map(|message| record(&message)),
                // Wakes up to check whether the fetcher still knows any broker.
                () = sleep(broker_tracker::STATISTICS_INTERVAL) => continue,
            };
            match self.accept(received) {
                Ok(next) => self.next_record = next,
                Err(interruption) => self.interrupt(interruption),
            }
        }
    }

    async fn start(&mut self, partition: u32, point: StartPoint) -> Result<()> {
        if !self.positions.contains_key(&partition) {
            return Err(Error::Topic {
                reason: format!("partition {partition} is not assigned to this subscription"),
            });
        }
        // If the offset existed before, brokers are not asked, which may take long: should retention have
        // deleted it since, fetching reports that.
        let StartPoint { offset, .. } = point;
        if !self.known_offsets.get(&partition).is_some_and(|known| known.contains(&offset)) {
            let shared = self.shared.clone();
            let topic = self.topic;
            blocking(move || check(&shared, topic, partition, offset)).await??;
            self.known_offsets.insert(partition, offset..=offset);
        }
        self.positions.insert(partition, Some(point));
        self.fetch(partition, point)
    }
}
