//! Group membership, which determines the assigned partitions: a consumer that joins the group
//! and keeps its partitions paused.
//!
//! A separate consumer fetches records. So a partition can be started at any offset, any number
//! of times, without involving the group, and librdkafka never has to combine group assignments
//! with seeks.
//!
//! The group's consumer runs on its own thread, because its callbacks block: a revoked
//! partition is released only after its reader was notified, so that no two readers own a
//! partition at the same time.

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

/// Number of assignments and revocations that may wait for the reader; the group waits if there
/// are more.
const NEWS: usize = 64;

/// Interval at which the thread checks whether the subscription has ended.
const POLL: Duration = Duration::from_millis(100);

/// A reader that does not poll for this long is considered dead. Much shorter than the five
/// minutes after which the group does so.
const REVOKE_WAIT: Duration = Duration::from_secs(30);

/// Time to wait for a topic that the brokers do not know. A new topic appears quickly, so one
/// still unknown after this is missing.
const MISSING_WAIT: Duration = Duration::from_secs(10);

pub(super) enum News {
    Assigned(u32),
    /// The partition is released when `told` is dropped.
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

/// Flags shared by a reader and its thread.
#[derive(Default)]
struct Signs {
    is_over: AtomicBool,
    /// True if a broker did not know the topic.
    is_missing: AtomicBool,
}

/// The thread that maintains a membership. It must be stopped explicitly.
pub(super) struct Keeper {
    signs: Arc<Signs>,
    thread: JoinHandle<()>,
}

struct Member {
    news: mpsc::Sender<News>,
    /// The number of partitions in use, if configured. Others are assigned by the group but
    /// never read.
    used: Option<u32>,
    signs: Arc<Signs>,
    brokers: Brokers,
}

/// The topic and settings of a membership.
struct Group {
    settings: Settings,
    topic: Topic,
    /// Number of partitions of the topic when the log was opened.
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
            .map_err(|source| {
                Error::unavailable(format!("failed to start the membership thread: {source}"))
            })?;
        Ok((Self { news, signs: signs.clone() }, Keeper { signs, thread }))
    }

    /// Requests a check whether the topic exists, because a broker did not know it.
    pub(super) fn doubt(&self) {
        self.signs.is_missing.store(true, Ordering::Relaxed);
    }
}

impl Keeper {
    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Starts leaving the group, if that has not begun yet.
    pub(super) fn stop(&self) {
        self.signs.is_over.store(true, Ordering::Relaxed);
    }

    /// Blocks until the group was left.
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

    /// Runs the membership. A member whose client has lost all brokers leaves before it
    /// rejoins, so that its old partitions are free by then.
    fn keep(&self, mut consumer: BaseConsumer<Member>) {
        while self.stay(&consumer) {
            tracing::error!("consumer lost all brokers; rejoining the consumer group with a new client");
            let (news, signs) = (consumer.context().news.clone(), consumer.context().signs.clone());
            drop(consumer);
            consumer = match self.join(news.clone(), signs) {
                Ok(consumer) => consumer,
                Err(error) => return drop(news.blocking_send(News::Failed(error))),
            };
        }
    }

    /// Polls until the subscription ends (returns false) or the client must be replaced
    /// (returns true).
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
            // The check itself failed, so it remains to be done.
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
        // This consumer never fetches, so the offsets above do not matter.
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
        // `recv_timeout` disconnects once the last sender is dropped, either by the
        // reader or with the queue; nothing is ever sent.
        let start = Instant::now();
        while all_told.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) && !self.is_over() {
            if start.elapsed() > REVOKE_WAIT {
                tracing::warn!(wait = ?REVOKE_WAIT, "timed out notifying a reader of revoked partitions; releasing them");
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
            told::trouble("brokers do not know the topic", &failure);
            return self.signs.is_missing.store(true, Ordering::Relaxed);
        }
        match error::request(failure) {
            // librdkafka retries on its own.
            temporary @ Error::Unavailable { .. } => {
                told::trouble("consumer group is unreachable", &temporary);
            }
            lasting => self.tell(News::Failed(lasting)),
        }
    }

    /// Sends news to the reader, waiting for room. Drops them if the subscription has
    /// ended.
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
