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
    ClientContext, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    types::RDKafkaRespErr,
};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{config::Settings, error};
use crate::{Error, Result, Topic};

/// Assignments and revocations that nobody has asked for yet; the group waits beyond it.
const NEWS: usize = 64;

/// How soon the thread notices that nobody reads any more.
const POLL: Duration = Duration::from_millis(100);

/// A reader that does not ask for so long is taken for gone. Much less than the five minutes after which the group does.
const REVOKE_WAIT: Duration = Duration::from_secs(30);

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
    is_over: Arc<AtomicBool>,
}

/// The thread that keeps a membership; whoever started it has to end it.
pub(super) struct Keeper {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

struct Member {
    news: mpsc::Sender<News>,
    is_over: Arc<AtomicBool>,
}

impl Membership {
    pub(super) fn join(settings: &Settings, topic: Topic) -> Result<(Self, Keeper)> {
        let (sender, news) = mpsc::channel(NEWS);
        let is_over = Arc::new(AtomicBool::new(false));
        let member = Member { news: sender, is_over: is_over.clone() };
        let consumer: BaseConsumer<Member> =
            settings.member(topic).create_with_context(member).map_err(error::client)?;
        consumer.subscribe(&[settings.topics.name(topic)]).map_err(error::client)?;
        let thread = std::thread::Builder::new()
            .name("log-membership".into())
            .spawn(move || keep(&consumer))
            .map_err(|source| Error::unavailable(format!("its thread cannot be started: {source}")))?;
        Ok((Self { news, is_over: is_over.clone() }, Keeper { is_over, thread }))
    }
}

impl Keeper {
    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Leaves the group, if that is not under way yet.
    pub(super) fn stop(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Blocks until the group is left.
    pub(super) fn join(self) -> std::thread::Result<()> {
        self.thread.join()
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn keep(consumer: &BaseConsumer<Member>) {
    while !consumer.context().is_over() {
        if let Some(Err(failure)) = consumer.poll(POLL) {
            consumer.context().failed(failure);
        }
    }
}

impl ClientContext for Member {}

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
        for element in list.elements() {
            self.tell(News::Assigned(element.partition() as u32));
        }
        Ok(())
    }

    fn revoked(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> Result<(), KafkaError> {
        let (told, all_told) = sync_channel(0);
        for element in list.elements() {
            self.tell(News::Revoked { partition: element.partition() as u32, told: told.clone() });
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

    fn failed(&self, failure: KafkaError) {
        match error::request(failure) {
            // librdkafka goes on trying by itself.
            temporary @ Error::Unavailable { .. } => {
                tracing::warn!(
                    error = &temporary as &dyn std::error::Error,
                    "the consumer group is out of reach"
                );
            }
            lasting => self.tell(News::Failed(lasting)),
        }
    }

    /// Nobody is told when nobody reads any more.
    fn tell(&self, mut news: News) {
        while !self.is_over() {
            match self.news.try_send(news) {
                Ok(()) => return,
                Err(TrySendError::Closed(_)) => return self.is_over.store(true, Ordering::Relaxed),
                Err(TrySendError::Full(back)) => {
                    news = back;
                    std::thread::park_timeout(POLL);
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}
