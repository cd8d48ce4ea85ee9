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
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{REQUEST_TIMEOUT, Settings, broker_tracker::BrokerTracker, error, log_throttle};
use crate::{Error, Result, Topic};

/// Number of assignments and revocations that may be queued for the reader; the group waits if
/// there are more.
const EVENT_CAPACITY: usize = 64;

/// Interval at which the thread checks whether the subscription has ended.
const POLL: Duration = Duration::from_millis(100);

/// A reader that does not poll for this long is considered dead. Much shorter than the five
/// minutes after which the group does so.
const REVOKE_WAIT: Duration = Duration::from_secs(30);

/// Time to wait for a topic that the brokers do not know. A new topic appears quickly, so one
/// still unknown after this is missing.
const MISSING_WAIT: Duration = Duration::from_secs(10);

pub(super) enum MembershipEvent {
    Assigned(u32),
    /// The partition is released when `notified` is dropped.
    Revoked {
        partition: u32,
        notified: SyncSender<()>,
    },
    Failed(Error),
}

/// Dropping it leaves the group.
pub(super) struct Membership {
    pub(super) events: mpsc::Receiver<MembershipEvent>,
    flags: Arc<SharedFlags>,
}

/// Flags shared by a reader and its thread.
#[derive(Default)]
struct SharedFlags {
    has_ended: AtomicBool,
    /// True if a broker did not know the topic.
    is_missing: AtomicBool,
}

/// The thread that maintains a membership. It must be stopped explicitly.
pub(super) struct MembershipThread {
    flags: Arc<SharedFlags>,
    thread: JoinHandle<()>,
}

struct MemberContext {
    events: mpsc::Sender<MembershipEvent>,
    /// The number of partitions in use, if configured. Others are assigned by the group but
    /// never read.
    used: Option<u32>,
    flags: Arc<SharedFlags>,
    brokers: BrokerTracker,
}

/// The topic and settings of a membership.
struct MembershipConfig {
    settings: Settings,
    topic: Topic,
    /// Number of partitions of the topic when the log was opened.
    partitions: u32,
}

impl Membership {
    pub(super) fn join(
        settings: &Settings,
        topic: Topic,
        partitions: u32,
    ) -> Result<(Self, MembershipThread)> {
        let config = MembershipConfig { settings: settings.clone(), topic, partitions };
        let (sender, events) = mpsc::channel(EVENT_CAPACITY);
        let flags = Arc::new(SharedFlags::default());
        let consumer = config.join(sender, flags.clone())?;
        let thread = std::thread::Builder::new()
            .name("log-membership".into())
            .spawn(move || config.run(consumer))
            .map_err(|source| {
                Error::unavailable(format!("failed to start the membership thread: {source}"))
            })?;
        Ok((Self { events, flags: flags.clone() }, MembershipThread { flags, thread }))
    }

    /// Requests a check of whether the topic exists, because a broker did not know it.
    pub(super) fn request_topic_check(&self) {
        self.flags.is_missing.store(true, Ordering::Relaxed);
    }
}

impl MembershipThread {
    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Starts leaving the group, unless that is already in progress.
    pub(super) fn stop(&self) {
        self.flags.has_ended.store(true, Ordering::Relaxed);
    }

    /// Blocks until the consumer has left the group.
    pub(super) fn join(self) -> std::thread::Result<()> {
        self.thread.join()
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.flags.has_ended.store(true, Ordering::Relaxed);
    }
}

impl MembershipConfig {
    fn join(
        &self,
        events: mpsc::Sender<MembershipEvent>,
        flags: Arc<SharedFlags>,
    ) -> Result<BaseConsumer<MemberContext>> {
        let used = self.settings.configured_partitions(self.topic);
        let member = MemberContext { events, used, flags, brokers: BrokerTracker::default() };
        let consumer: BaseConsumer<MemberContext> =
            self.settings.group_member(self.topic).create_with_context(member).map_err(error::client)?;
        consumer.subscribe(&[self.settings.topics.name(self.topic)]).map_err(error::client)?;
        Ok(consumer)
    }

    /// Runs the membership. A member whose client has lost all brokers leaves before it
    /// rejoins, so that its old partitions are free by then.
    fn run(&self, mut consumer: BaseConsumer<MemberContext>) {
        while self.poll_until_end(&consumer) {
            tracing::error!("consumer lost all brokers; rejoining the consumer group with a new client");
            let events = consumer.context().events.clone();
            let flags = consumer.context().flags.clone();
            drop(consumer);
            consumer = match self.join(events.clone(), flags) {
                Ok(consumer) => consumer,
                Err(error) => return drop(events.blocking_send(MembershipEvent::Failed(error))),
            };
        }
    }

    /// Polls until the subscription ends (returns false) or the client must be replaced
    /// (returns true).
    fn poll_until_end(&self, consumer: &BaseConsumer<MemberContext>) -> bool {
        let member = consumer.context();
        let mut missing_since = None;
        while !member.has_ended() {
            if let Some(Err(failure)) = consumer.poll(POLL) {
                member.report_failure(failure);
            }
            if member.brokers.are_lost() {
                return true;
            }
            if member.flags.is_missing.swap(false, Ordering::Relaxed) {
                missing_since.get_or_insert_with(Instant::now);
            }
            if missing_since.is_some_and(|since| since.elapsed() >= MISSING_WAIT) {
                missing_since = None;
                self.check_topic_exists(consumer);
            }
        }
        false
    }

    fn check_topic_exists(&self, consumer: &BaseConsumer<MemberContext>) {
        let member = consumer.context();
        let name = self.settings.topics.name(self.topic);
        match consumer.fetch_metadata(Some(name), REQUEST_TIMEOUT) {
            Ok(metadata) => {
                if !metadata.topics().iter().any(|topic| topic.partitions().len() >= self.partitions as usize)
                {
                    let missing = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
                    member.send(MembershipEvent::Failed(error::request(missing)));
                }
            }
            // The check itself failed, so it remains to be done.
            Err(_) => member.flags.is_missing.store(true, Ordering::Relaxed),
        }
    }
}

impl ClientContext for MemberContext {
    fn stats(&self, statistics: Statistics) {
        self.brokers.record(&statistics);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_throttle::log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_throttle::error(&error, reason);
    }
}

impl ConsumerContext for MemberContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let done = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assigned(consumer, list),
            _ => self.revoked(consumer, list),
        };
        if let Err(failure) = done {
            self.report_failure(failure);
        }
    }
}

impl MemberContext {
    fn assigned(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &mut TopicPartitionList,
    ) -> Result<(), KafkaError> {
        list.set_all_offsets(Offset::End)?;
        consumer.incremental_assign(list)?;
        // This consumer never fetches, so the offsets above do not matter.
        consumer.pause(list)?;
        for partition in self.used_partitions(list) {
            self.send(MembershipEvent::Assigned(partition));
        }
        Ok(())
    }

    fn revoked(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> Result<(), KafkaError> {
        let (notified, all_notified) = sync_channel(0);
        for partition in self.used_partitions(list) {
            self.send(MembershipEvent::Revoked { partition, notified: notified.clone() });
        }
        drop(notified);
        // `recv_timeout` disconnects once the last sender is dropped, either by the
        // reader or with the queue; nothing is ever sent.
        let start = Instant::now();
        while all_notified.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) && !self.has_ended() {
            if start.elapsed() > REVOKE_WAIT {
                tracing::warn!(wait = ?REVOKE_WAIT, "timed out notifying a reader of revoked partitions; releasing them");
                break;
            }
        }
        consumer.incremental_unassign(list)
    }

    fn used_partitions(&self, list: &TopicPartitionList) -> impl Iterator<Item = u32> {
        let used = self.used.unwrap_or(u32::MAX);
        let partitions = list.elements().into_iter().map(|element| element.partition() as u32);
        partitions.filter(move |partition| *partition < used)
    }

    fn report_failure(&self, failure: KafkaError) {
        if error::is_missing(&failure) {
            log_throttle::warn("brokers do not know the topic", &failure);
            return self.flags.is_missing.store(true, Ordering::Relaxed);
        }
        match error::request(failure) {
            // librdkafka retries automatically.
            temporary @ Error::Unavailable { .. } => {
                log_throttle::warn("consumer group is unreachable", &temporary);
            }
            lasting => self.send(MembershipEvent::Failed(lasting)),
        }
    }

    /// Sends an event to the reader, waiting for room. Drops it if the subscription has
    /// ended.
    fn send(&self, mut event: MembershipEvent) {
        while !self.has_ended() {
            match self.events.try_send(event) {
                Ok(()) => return,
                Err(TrySendError::Closed(_)) => return self.flags.has_ended.store(true, Ordering::Relaxed),
                Err(TrySendError::Full(back)) => {
                    event = back;
                    std::thread::park_timeout(POLL);
                }
            }
        }
    }

    fn has_ended(&self) -> bool {
        self.flags.has_ended.load(Ordering::Relaxed)
    }
}
