//! LOG on Apache Kafka, for many machines: topics are Kafka's, and partitions are shared out by a consumer group.
//! A position is never committed to Kafka: workers keep theirs with the data. Deliberately absent: transactions, compaction,
//! and growing a topic (a run would move to another partition; a new topic is the way).
//!
//! Where Kafka is less than the traits could wish:
//! - The length of an append's wait is kept to about a second, as librdkafka looks at its clock no oftener.
//! - After a stall of the broker, what an append left unknown may still come into the log until the next append reaches the
//!   partition: then the idempotent producer's new epoch shuts it out.
//! - An append of several records to one partition may lose a later part of them, never an earlier one.
//! - Trimming deletes only when told to (`delete_trimmed`): others may read the same topics; otherwise retention does it.

mod brokers;
mod config;
mod error;
mod membership;
mod questions;
mod reach;
mod subscription;
mod told;
mod topics;
mod writer;

pub use config::{Security, Settings, TopicNames};
pub use topics::{CreateTopics, FoundTopic, create as topics_create};

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    consumer::{BaseConsumer, Consumer},
    topic_partition_list::TopicPartitionListElem,
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    Append, Error, LogReader, LogWriter, NewRecord, PartitionInfo, Result, Subscription, Topic, TopicInfo,
};
use membership::Keeper;
use questions::Questions;
use subscription::KafkaSubscription;
use told::Told;
use writer::Writer;

/// How long questions to the brokers may take; no record depends on them.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two tries of one.
const PAUSE: Duration = Duration::from_millis(100);

pub struct KafkaLog {
    shared: Arc<Shared>,
    writer: Arc<Writer>,
}

struct Shared {
    settings: Settings,
    partitions: topics::Partitions,
    admin: Arc<AdminClient<Told>>,
    questions: Questions,
    /// The threads of subscriptions: they outlive those for as long as it takes to leave the group.
    keepers: Mutex<Vec<Keeper>>,
}

impl KafkaLog {
    /// Reaches the brokers and checks the topics.
    pub async fn open(settings: Settings) -> Result<Self> {
        settings.validate()?;
        let admin = Arc::new(
            settings.client().create_with_context::<_, AdminClient<_>>(Told).map_err(error::client)?,
        );
        let questions = Questions::new(settings.client(), topics::reached(&settings).await?);
        let partitions = topics::open(&admin, &settings).await?;
        let writer = Arc::new(Writer::new(&settings, partitions.of(Topic::Ingestion)));
        let shared = Shared { settings, partitions, admin, questions, keepers: Mutex::default() };
        let shared = Arc::new(shared);
        let asked = shared.clone();
        blocking(move || asked.check_spare()).await??;
        Ok(Self { shared, writer })
    }

    /// How many consumers a group has, whoever they are. Brokers that have just started do not know their groups for a moment.
    pub async fn group_members(&self, group: &str) -> Result<usize> {
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        loop {
            let (shared, group) = (self.shared.clone(), group.to_owned());
            match blocking(move || shared.group_members(&group)).await? {
                Err(error) if error.is_temporary() && Instant::now() < deadline => sleep(PAUSE).await,
                counted => return counted,
            }
        }
    }

    /// Ends all subscriptions, and waits until their groups are left and everything is answered that was appended; copies of
    /// dead letters excepted.
    pub async fn close(&self) -> Result<()> {
        self.close_within(self.shared.settings.append_wait).await
    }

    /// The same, for so long at most. What is not answered by then may be in the log, and was acknowledged to nobody.
    pub async fn close_within(&self, patience: Duration) -> Result<()> {
        let keepers = std::mem::take(&mut *self.shared.keepers());
        keepers.iter().for_each(Keeper::stop);
        let writer = self.writer.clone();
        let flushed = blocking(move || writer.flush(patience));
        let left = blocking(move || keepers.into_iter().try_for_each(Keeper::join));
        let (flushed, left) = tokio::join!(flushed, timeout(patience, left));
        left.map_err(|_| Error::unavailable("a consumer group could not be left in time"))??
            .map_err(|_| Error::unavailable("the thread of a subscription has panicked"))?;
        flushed?
    }
}

#[async_trait]
impl LogWriter for KafkaLog {
    fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Append {
        self.writer.append(topic, records)
    }

    /// Of the partitions that there were when it was opened: whoever writes goes on with them, and no start takes others.
    async fn describe(&self, topic: Topic) -> Result<TopicInfo> {
        let shared = self.shared.clone();
        Ok(TopicInfo { identity: None, partitions: blocking(move || shared.bounds(topic)).await?? })
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
    /// Blocks. Of all partitions at once: with one question each, a hundred of them would take a second.
    fn bounds(&self, topic: Topic) -> Result<Vec<PartitionInfo>> {
        let firsts = self.offsets(topic, Offset::Beginning)?;
        let ends = self.offsets(topic, Offset::End)?;
        Ok(firsts.into_iter().zip(ends).map(|(first, end)| PartitionInfo { first, end }).collect())
    }

    /// Blocks. The ends of partitions are asked for as times are: Kafka has a time before and one behind all others.
    fn offsets(&self, topic: Topic, at: Offset) -> Result<Vec<u64>> {
        let (name, count) = (self.settings.topics.name(topic), self.partitions.of(topic));
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut asked = TopicPartitionList::with_capacity(count as usize);
        for partition in 0..count {
            asked.add_partition_offset(name, partition as i32, at).map_err(error::client)?;
        }
        let found = self.questions.ask(|client| client.offsets_for_times(asked, REQUEST_TIMEOUT))?;
        let offset = |element: TopicPartitionListElem<'_>| {
            element.error().map_err(error::request)?;
            match element.offset() {
                Offset::Offset(offset) => Ok(offset as u64),
                _ => Err(Error::unavailable("Kafka did not tell where a partition begins or ends")),
            }
        };
        found.elements().into_iter().map(offset).collect()
    }

    /// Blocks.
    fn watermarks(&self, topic: Topic, partition: u32) -> Result<PartitionInfo> {
        let name = self.settings.topics.name(topic);
        let bounds =
            |client: &BaseConsumer<Told>| client.fetch_watermarks(name, partition as i32, REQUEST_TIMEOUT);
        let (first, end) = self.questions.ask(bounds)?;
        Ok(PartitionInfo { first: first as u64, end: end as u64 })
    }

    /// What stands in partitions that nobody reads was written by somebody who was not told how many are used. Blocks.
    fn check_spare(&self) -> Result<()> {
        let topics::Partitions { spare, .. } = &self.partitions;
        if spare.is_empty() {
            return Ok(());
        }
        let (name, used) = (self.settings.topics.name(Topic::Ingestion), spare.start);
        for partition in spare.clone() {
            if self.watermarks(Topic::Ingestion, partition)?.end > 0 {
                return Err(Error::Topic {
                    reason: format!(
                        "topic `{name}` has {} partitions, of which the first {used} are to be used, and partition {partition} holds \
                         records of somebody who was not told so: see \"More partitions\" in docs/kafka.md",
                        spare.end
                    ),
                });
            }
        }
        tracing::warn!(
            topic = name,
            used,
            partitions = spare.end,
            "the topic has grown, and its first partitions are used"
        );
        Ok(())
    }

    /// Blocks.
    fn group_members(&self, group: &str) -> Result<usize> {
        let list = self.questions.ask(|client| client.fetch_group_list(Some(group), REQUEST_TIMEOUT))?;
        let found = list.groups().iter().filter(|found| found.name() == group);
        Ok(found.map(|found| found.members().len()).sum())
    }

    fn keepers(&self) -> MutexGuard<'_, Vec<Keeper>> {
        self.keepers.lock().expect("nobody panics while holding the keepers")
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|failure| Error::unavailable(format!("the request was interrupted: {failure}")))
}
