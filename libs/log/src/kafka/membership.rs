//! Which partitions are ours: a consumer that joins the group, and whose partitions stay paused.
//! Fetching is another consumer's work. So a partition can be started anywhere, and as often as one likes, without a
//! word to the group, and what librdkafka makes of assignments and seeks never meets.
//!
//! The group's consumer lives on a thread, because its callbacks block: a revoked partition is given back only when its
//! reader has been told, so that no two readers have one at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Offset, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    metadata::MetadataTopic,
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{REQUEST_TIMEOUT, brokers::Brokers, config::Settings, error, told};
use crate::{Error, Result, Topic};

/// Assignments and revocations that nobody has asked for yet; the group waits beyond it.
const NEWS: usize = 64;

/// How soon the thread notices that nobody reads any more.
const POLL: Duration = Duration::from_millis(100);

/// A reader that does not ask for so long is taken for gone. Much less than the five minutes after which the group does.
const REVOKE_WAIT: Duration = Duration::from_secs(30);

/// A topic that the brokers do not know is there in a moment, or after so long not at all.
const MISSING_WAIT: Duration = Duration::from_secs(10);

pub(super) enum News {
    Assigned(u32),
    /// The partition is given back when `told` is dropped.
    Revoked {
        partition: u32,
        told: SyncSender<()>,
    },
    Failed(Error),
}

/// Dropping it leaves the group.
pub(super) struct Membership {
    pub(super) news: mpsc::Receiver<News>,
    signs: Arc<Signs>,
}

/// What a reader and its thread tell each other.
#[derive(Default)]
struct Signs {
    is_over: AtomicBool,
    /// A broker did not know the topic.
    is_missing: AtomicBool,
}

/// The thread that keeps a membership; whoever started it has to end it.
pub(super) struct Keeper {
    signs: Arc<Signs>,
    thread: JoinHandle<()>,
}

struct Member {
    news: mpsc::Sender<News>,
    /// Where somebody has said how many partitions are used, others are shared out and never read.
    used: Option<u32>,
    signs: Arc<Signs>,
    brokers: Brokers,
}

/// What a member is of.
struct Group {
    settings: Settings,
    topic: Topic,
    /// How many partitions the topic had when it was opened.
    partitions: u32,
}

impl Membership {
    pub(super) fn join(settings: &Settings, topic: Topic, partitions: u32) -> Result<(Self, Keeper)> {
        let group = Group { settings: settings.clone(), topic, partitions };
        let (sender, news) = mpsc::channel(NEWS);
        let signs = Arc::new(Signs::default());
        let consumer = group.join(sender, signs.clone())?;
        let thread = std::thread::Builder::new()
            .name("log-membership".into())
            .spawn(move || group.keep(consumer))
            .map_err(|source| Error::unavailable(format!("its thread cannot be started: {source}")))?;
        Ok((Self { news, signs: signs.clone() }, Keeper { signs, thread }))
    }

    /// Has it found out whether the topic is there, because a broker did not know it.
    pub(super) fn doubt(&self) {
        self.signs.is_missing.store(true, Ordering::Relaxed);
    }
}

impl Keeper {
    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Leaves the group, if that is not under way yet.
    pub(super) fn stop(&self) {
        self.signs.is_over.store(true, Ordering::Relaxed);
    }

    /// Blocks until the group is left.
    pub(super) fn join(self) -> std::thread::Result<()> {
        self.thread.join()
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.signs.is_over.store(true, Ordering::Relaxed);
    }
}

impl Group {
    fn join(&self, news: mpsc::Sender<News>, signs: Arc<Signs>) -> Result<BaseConsumer<Member>> {
        let used = self.settings.used(self.topic);
        let member = Member { news, used, signs, brokers: Brokers::default() };
        let consumer: BaseConsumer<Member> =
            self.settings.member(self.topic).create_with_context(member).map_err(error::client)?;
        consumer.subscribe(&[self.settings.topics.name(self.topic)]).map_err(error::client)?;
        Ok(consumer)
    }

    /// A member whose client has lost all brokers leaves first, so that its partitions are nobody's when another one joins.
    fn keep(&self, mut consumer: BaseConsumer<Member>) {
        while self.stay(&consumer) {
            tracing::error!("the consumer group is joined anew, as its client knows no broker any more");
            let (news, signs) = (consumer.context().news.clone(), consumer.context().signs.clone());
            drop(consumer);
            consumer = match self.join(news.clone(), signs) {
                Ok(consumer) => consumer,
                Err(error) => return drop(news.blocking_send(News::Failed(error))),
            };
        }
    }

    /// Until nobody reads any more; true if its client has to be made anew.
    fn stay(&self, consumer: &BaseConsumer<Member>) -> bool {
        let member = consumer.context();
        let mut missing_since = None;
        while !member.is_over() {
            if let Some(Err(failure)) = consumer.poll(POLL) {
                member.failed(failure);
            }
            if member.brokers.are_lost() {
                return true;
            }
            if member.signs.is_missing.swap(false, Ordering::Relaxed) {
                missing_since.get_or_insert_with(Instant::now);
            }
            if missing_since.is_some_and(|since| since.elapsed() >= MISSING_WAIT) {
                missing_since = None;
                self.settle_doubt(consumer);
            }
        }
        false
    }

    fn settle_doubt(&self, consumer: &BaseConsumer<Member>) {
        let member = consumer.context();
        let name = self.settings.topics.name(self.topic);
        match consumer.fetch_metadata(Some(name), REQUEST_TIMEOUT) {
            Ok(metadata) => {
                let has_all = |topic: &MetadataTopic| topic.partitions().len() >= self.partitions as usize;
                if !metadata.topics().iter().any(has_all) {
                    let missing = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
                    member.tell(News::Failed(error::request(missing)));
                }
            }
            // Nobody has said anything about it.
            Err(_) => member.signs.is_missing.store(true, Ordering::Relaxed),
        }
    }
}

impl ClientContext for Member {
    fn stats(&self, statistics: Statistics) {
        self.brokers.heard(&statistics);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        told::log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        told::error(&error, reason);
    }
}

impl ConsumerContext for Member {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let done = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assigned(consumer, list),
            _ => self.revoked(consumer, list),
        };
        if let Err(failure) = done {
            self.failed(failure);
        }
    }
}

impl Member {
    fn assigned(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &mut TopicPartitionList,
    ) -> Result<(), KafkaError> {
        list.set_all_offsets(Offset::End)?;
        consumer.incremental_assign(list)?;
        consumer.pause(list)?;
        for partition in self.told_of(list) {
            self.tell(News::Assigned(partition));
        }
        Ok(())
    }

    fn revoked(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> Result<(), KafkaError> {
        let (told, all_told) = sync_channel(0);
        for partition in self.told_of(list) {
            self.tell(News::Revoked { partition, told: told.clone() });
        }
        drop(told);
        // It ends when the last sender is dropped, whether the reader was told or is gone; nothing is ever sent.
        let start = Instant::now();
        while all_told.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) && !self.is_over() {
            if start.elapsed() > REVOKE_WAIT {
                tracing::warn!(wait = ?REVOKE_WAIT, "partitions are given back, although their reader was not told");
                break;
            }
        }
        consumer.incremental_unassign(list)
    }

    fn told_of(&self, list: &TopicPartitionList) -> impl Iterator<Item = u32> {
        let used = self.used.unwrap_or(u32::MAX);
        let partitions = list.elements().into_iter().map(|element| element.partition() as u32);
        partitions.filter(move |partition| *partition < used)
    }

    fn failed(&self, failure: KafkaError) {
        if error::is_missing(&failure) {
            told::trouble("the brokers do not know a topic", &failure);
            return self.signs.is_missing.store(true, Ordering::Relaxed);
        }
        match error::request(failure) {
            // librdkafka goes on trying by itself.
            temporary @ Error::Unavailable { .. } => {
                told::trouble("the consumer group is out of reach", &temporary);
            }
            lasting => self.tell(News::Failed(lasting)),
        }
    }

    /// Nobody is told when nobody reads any more.
    fn tell(&self, mut news: News) {
        while !self.is_over() {
            match self.news.try_send(news) {
                Ok(()) => return,
                Err(TrySendError::Closed(_)) => return self.signs.is_over.store(true, Ordering::Relaxed),
                Err(TrySendError::Full(back)) => {
                    news = back;
                    std::thread::park_timeout(POLL);
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.signs.is_over.load(Ordering::Relaxed)
    }
}
