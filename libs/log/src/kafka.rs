//! LOG on Apache Kafka, for multiple machines: topics are Kafka topics, and a consumer group
//! distributes the partitions.
//!
//! Positions are never committed to Kafka, because workers store them with their data.
//! Transactions and compaction are deliberately unused, and topics are never grown, because
//! runs would move to other partitions (create a new topic instead).
//!
//! Where Kafka falls short of the traits:
//! - The timeout of an append is accurate to about a second, because librdkafka does not check
//!   its clock more often.
//! - After a broker stall, records of an append with an unknown outcome may still be written
//!   until the next append reaches the partition; the new epoch of the idempotent producer then
//!   fences them off.
//! - An append of several records to one partition may lose a suffix of them, but never just an
//!   earlier record.
//! - Trimming deletes records only if enabled (`delete_trimmed`), because others may read the
//!   same topics. Otherwise deletion is left to retention.

mod broker_tracker;
mod config;
mod error;
mod initial_connect;
mod leader_epoch;
mod log_throttle;
mod membership;
mod metadata_client;
mod subscription;
mod topic_id;
mod topics;
mod writer;

pub use topics::{TopicStatus, create as topics_create, set_open as topic_set_open};

pub use crate::kafka_settings::{Compression, CreateTopics, Security, Settings, TopicNames, Transfer};

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    consumer::Consumer,
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    Append, Error, LogInspector, LogReader, LogWriter, NewRecord, PartitionDescription, PartitionInfo,
    Result, StartPoint, Subscription, Topic, TopicInfo,
};
use log_throttle::ThrottledContext;
use membership::MembershipThread;
use metadata_client::MetadataClient;
use subscription::KafkaSubscription;
use writer::Writer;

/// Timeout of requests to the brokers that do not carry records.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause between attempts of a request.
const PAUSE: Duration = Duration::from_millis(100);

pub struct KafkaLog {
    shared: Arc<Shared>,
    writer: Arc<Writer>,
}

struct Shared {
    settings: Settings,
    partitions: topics::PartitionCounts,
    admin: Arc<AdminClient<ThrottledContext>>,
    metadata: MetadataClient,
    /// The threads of subscriptions, which outlive their subscriptions until they have left
    /// the group.
    membership_threads: Mutex<Vec<MembershipThread>>,
}

impl KafkaLog {
    /// Connects to the brokers and checks the topics.
    pub async fn open(settings: Settings) -> Result<Self> {
        settings.validate()?;
        let admin = Arc::new(
            settings
                .client()
                .create_with_context::<_, AdminClient<_>>(ThrottledContext)
                .map_err(error::client)?,
        );
        let metadata = MetadataClient::new(settings.client(), topics::connect(&settings).await?);
        let partitions = topics::open(&admin, &settings).await?;
        let writer = Arc::new(Writer::new(&settings, partitions.count(Topic::Ingestion)));
        let shared = Shared { settings, partitions, admin, metadata, membership_threads: Mutex::default() };
        let shared = Arc::new(shared);
        let checked = shared.clone();
        blocking(move || checked.check_spare_partitions()).await??;
        Ok(Self { shared, writer })
    }

    /// Counts all consumers in a group. Retries for a while, because brokers that have just
    /// started do not know their groups yet.
    pub async fn group_members(&self, group: &str) -> Result<usize> {
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        loop {
            let shared = self.shared.clone();
            let group = group.to_owned();
            match blocking(move || shared.group_members(&group)).await? {
                Err(error) if error.is_temporary() && Instant::now() < deadline => sleep(PAUSE).await,
                counted => return counted,
            }
        }
    }

    /// Ends all subscriptions, and waits until they have left their groups and all appends
    /// are complete, except copies of dead letters.
    pub async fn close(&self) -> Result<()> {
        self.close_within(self.shared.settings.append_wait).await
    }

    /// Like `close`, but waits for at most `patience`. Appends still pending by then may be
    /// in the log, but were not acknowledged.
    pub async fn close_within(&self, patience: Duration) -> Result<()> {
        let membership_threads = std::mem::take(&mut *self.shared.membership_threads());
        for thread in &membership_threads {
            thread.stop();
        }
        let writer = self.writer.clone();
        let flushed = blocking(move || writer.flush(patience));
        let left = blocking(move || membership_threads.into_iter().try_for_each(MembershipThread::join));
        let (flushed, left) = tokio::join!(flushed, timeout(patience, left));
        left.map_err(|_| Error::unavailable("timed out leaving a consumer group"))??
            .map_err(|_| Error::unavailable("a subscription thread has panicked"))?;
        flushed?
    }
}

#[async_trait]
impl LogInspector for KafkaLog {
    /// Describes only the partitions that existed when the log was opened: writers continue to use
    /// these partitions, and no others can be started.
    async fn describe(&self, topic: Topic) -> Result<TopicInfo> {
        let shared = self.shared.clone();
        blocking(move || shared.info(topic)).await?
    }

    async fn probe(&self, topic: Topic) -> Result<()> {
        let shared = self.shared.clone();
        blocking(move || shared.topic_id(topic)).await?.map(drop)
    }

    async fn describe_partition(&self, topic: Topic, partition: u32) -> Result<PartitionDescription> {
        let shared = self.shared.clone();
        blocking(move || shared.partition_info(topic, partition)).await?
    }

    async fn lost_tail(&self, topic: Topic, partition: u32, point: StartPoint) -> Result<Option<u64>> {
        let shared = self.shared.clone();
        blocking(move || shared.lost_tail(topic, partition, point)).await?
    }
}

#[async_trait]
impl LogWriter for KafkaLog {
    fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Append {
        self.writer.append(topic, records)
    }
}

#[async_trait]
impl LogReader for KafkaLog {
    async fn subscribe(&self, topic: Topic) -> Result<Box<dyn Subscription>> {
        Ok(Box::new(KafkaSubscription::new(self.shared.clone(), topic)?))
    }

    async fn trim(&self, topic: Topic, partition: u32, offset: u64) -> Result<()> {
        self.shared.partitions.check(topic, partition)?;
        if !self.shared.settings.delete_trimmed {
            return Ok(());
        }
        let shared = self.shared.clone();
        let PartitionInfo { first, end } = blocking(move || shared.watermarks(topic, partition)).await??;
        let offset = offset.min(end);
        if offset <= first {
            return Ok(());
        }
        let name = self.shared.settings.topics.name(topic);
        let mut before = TopicPartitionList::new();
        before
            .add_partition_offset(name, partition as i32, Offset::Offset(offset as i64))
            .map_err(error::client)?;
        let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
        let deleted = self.shared.admin.delete_records(&before, &options).await.map_err(error::request)?;
        deleted.elements().iter().try_for_each(|element| element.error()).map_err(error::request)
    }
}

impl Shared {
    /// Describes a topic. Blocks.
    fn info(&self, topic: Topic) -> Result<TopicInfo> {
        let (identity, partitions) = self.identified(topic, || self.bounds(topic))?;
        Ok(TopicInfo { identity, partitions })
    }

    /// Describes one partition of a topic. Blocks.
    fn partition_info(&self, topic: Topic, partition: u32) -> Result<PartitionDescription> {
        let partitions = self.partitions.count(topic);
        let (identity, bounds) = self.identified(topic, || {
            if partition < partitions { self.watermarks(topic, partition).map(Some) } else { Ok(None) }
        })?;
        Ok(PartitionDescription { identity, partitions, bounds })
    }

    /// The id of a topic, and a value that is read between two equal readings of the id, so that it
    /// belongs to this topic. Blocks.
    fn identified<T>(&self, topic: Topic, read: impl FnOnce() -> Result<T>) -> Result<([u8; 16], T)> {
        let identity = self.topic_id(topic)?;
        let found = read()?;
        if self.topic_id(topic)? != identity {
            return Err(Error::unavailable("the topic was created again while it was described"));
        }
        Ok((identity, found))
    }

    fn topic_id(&self, topic: Topic) -> Result<[u8; 16]> {
        topic_id::topic_id(self.admin.inner(), self.settings.topics.name(topic), REQUEST_TIMEOUT)
    }

    /// Queries all partitions in one request each for firsts and ends, because a request
    /// per partition would take a second for a hundred of them. Blocks.
    fn bounds(&self, topic: Topic) -> Result<Vec<PartitionInfo>> {
        let firsts = self.offsets(topic, Offset::Beginning)?;
        let ends = self.offsets(topic, Offset::End)?;
        Ok(firsts.into_iter().zip(ends).map(|(first, end)| PartitionInfo { first, end }).collect())
    }

    /// Queries the first or end offsets of all partitions. Kafka treats these as lookups of
    /// special timestamps before and after all others. Blocks.
    fn offsets(&self, topic: Topic, at: Offset) -> Result<Vec<u64>> {
        let name = self.settings.topics.name(topic);
        let count = self.partitions.count(topic);
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut queries = TopicPartitionList::with_capacity(count as usize);
        for partition in 0..count {
            queries.add_partition_offset(name, partition as i32, at).map_err(error::client)?;
        }
        let found = self
            .metadata
            .request_to_leaders(name, |client| client.offsets_for_times(queries, REQUEST_TIMEOUT))?;
        found
            .elements()
            .into_iter()
            .map(|element| {
                element.error().map_err(error::request)?;
                match element.offset() {
                    Offset::Offset(offset) => Ok(offset as u64),
                    _ => {
                        Err(Error::unavailable("Kafka did not report the first or end offset of a partition"))
                    }
                }
            })
            .collect()
    }

    /// Queries the first and end offset of one partition. Blocks.
    fn watermarks(&self, topic: Topic, partition: u32) -> Result<PartitionInfo> {
        let name = self.settings.topics.name(topic);
        let (first, end) = self.metadata.request_to_leaders(name, |client| {
            client.fetch_watermarks(name, partition as i32, REQUEST_TIMEOUT)
        })?;
        Ok(PartitionInfo { first: first as u64, end: end as u64 })
    }

    /// Fails if a spare partition holds records: some writer does not know how many
    /// partitions are used, and its records would never be read. Blocks.
    fn check_spare_partitions(&self) -> Result<()> {
        let topics::PartitionCounts { spare, .. } = &self.partitions;
        if spare.is_empty() {
            return Ok(());
        }
        let name = self.settings.topics.name(Topic::Ingestion);
        let used = spare.start;
        for partition in spare.clone() {
            if self.watermarks(Topic::Ingestion, partition)?.end > 0 {
                return Err(Error::Topic {
                    reason: format!(
                        "topic `{name}` has {} partitions, of which only the first {used} are used, but partition {partition} holds \
                         records from a writer without that setting: see \"More partitions\" in \
                         docs/operating/kafka.md",
                        spare.end
                    ),
                });
            }
        }
        tracing::warn!(
            topic = name,
            used,
            partitions = spare.end,
            "topic has more partitions than configured; using only the first ones"
        );
        Ok(())
    }

    /// Counts the members of a group. Blocks.
    fn group_members(&self, group: &str) -> Result<usize> {
        let list = self.metadata.request(|client| client.fetch_group_list(Some(group), REQUEST_TIMEOUT))?;
        let found = list.groups().iter().filter(|found| found.name() == group);
        Ok(found.map(|found| found.members().len()).sum())
    }

    fn membership_threads(&self) -> MutexGuard<'_, Vec<MembershipThread>> {
        self.membership_threads.lock().expect("no thread panics while holding the threads")
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|failure| Error::unavailable(format!("the request was interrupted: {failure}")))
}
