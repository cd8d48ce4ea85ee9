//! One topic of the log, shared by appenders, readers, and its committer thread.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, oneshot};

use super::{
    Clock, Deps, Settings, TOPICS,
    appender::Appender,
    partition::{Extent, PARTITION, Partition},
    queue::Queue,
    segments::Segments,
    state::StateFile,
};
use crate::{Error, NewRecord, PartitionInfo, Position, Result, Topic};

pub(super) struct TopicLog {
    pub(super) topic: Topic,
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) queue: Queue,
    pub(super) partition: Partition,
    pub(super) segments: Arc<Segments>,
    pub(super) state: Arc<StateFile>,
    /// Notified when records become readable, the topic is released or trimmed, or the log is
    /// closed.
    pub(super) changed: Notify,
    /// The reason that nothing can be written at the moment.
    obstruction: Mutex<Option<Error>>,
    trimming: Mutex<()>,
    next_subscription: AtomicU64,
}

impl TopicLog {
    /// Opens a topic in the log's directory.
    pub(super) fn open(
        log: &Path,
        topic: Topic,
        settings: &Settings,
        deps: &Deps,
        state: Arc<StateFile>,
    ) -> Result<(Arc<Self>, Appender)> {
        let first = state.first(index(topic));
        let directory = log.join(directory_name(topic));
        let (segments, end) = Segments::open(directory, state.identity, deps.disk.clone(), first)?;
        let segments = Arc::new(segments);
        let segment_bytes = match topic {
            // Old dead letters are deleted a segment at a time.
            Topic::DeadLetters => settings.segment_bytes.min(settings.dead_letter_bytes / 8),
            Topic::Ingestion | Topic::Control => settings.segment_bytes,
        };
        let appender = Appender::new(segments.clone(), end, segment_bytes.try_into().unwrap_or(u32::MAX));
        let extent = Extent {
            first,
            bytes_before_first: segments.bytes_before(first)?,
            end,
            bytes_before_end: appender.bytes_before_end(),
        };
        let log = Self {
            topic,
            settings: settings.clone(),
            clock: deps.clock.clone(),
            queue: Queue::default(),
            partition: Partition::new(extent),
            segments,
            state,
            changed: Notify::new(),
            obstruction: Mutex::new(None),
            trimming: Mutex::new(()),
            next_subscription: AtomicU64::new(0),
        };
        Ok((Arc::new(log), appender))
    }

    pub(super) fn start_append(
        &self,
        records: Vec<NewRecord>,
    ) -> Result<oneshot::Receiver<Result<Vec<Position>>>> {
        records.iter().try_for_each(NewRecord::validate)?;
        let (reply, answer) = oneshot::channel();
        self.queue.append(records, reply)?;
        Ok(answer)
    }

    /// Fails while nothing can be written. The extent is known anyway, but callers also use
    /// this to check whether the log works.
    pub(super) fn describe(&self) -> Result<PartitionInfo> {
        self.queue.check_open()?;
        if let Some(reason) = &*self.obstruction() {
            return Err(reason.clone());
        }
        let Extent { first, end, .. } = self.partition.lock().extent();
        Ok(PartitionInfo { first, end })
    }

    /// Declares why nothing can be written. Returns false if something was declared before.
    pub(super) fn set_obstruction(&self, reason: Error) -> bool {
        self.obstruction().replace(reason).is_none()
    }

    /// Declares that records can be written. Returns true if they could not be before.
    pub(super) fn clear_obstruction(&self) -> bool {
        self.obstruction().take().is_some()
    }

    /// Trims the topic, and deletes segments. Blocks the thread. Works even while nothing can be written.
    pub(super) fn trim(&self, partition: u32, offset: u64) -> Result<()> {
        check_partition(self.topic, partition)?;
        self.queue.check_open()?;
        let _trimming = self.trimming.lock().expect("no thread panics while trimming");
        let extent = self.partition.lock().extent();
        let first = offset.min(extent.end);
        if first <= extent.first {
            return Ok(());
        }
        let bytes_before = self.segments.bytes_before(first)?;
        // Before anything is deleted: missing records are an error unless they were trimmed.
        self.state.set_first(index(self.topic), first)?;
        self.partition.lock().trim(first, bytes_before);
        self.segments.delete_before(first);
        self.queue.announce_room();
        self.changed.notify_waiters();
        Ok(())
    }

    pub(super) fn new_subscription(&self) -> u64 {
        self.next_subscription.fetch_add(1, Ordering::Relaxed)
    }

    fn obstruction(&self) -> MutexGuard<'_, Option<Error>> {
        self.obstruction.lock().expect("no thread panics while holding the obstruction")
    }
}

pub(super) fn index(topic: Topic) -> usize {
    TOPICS.iter().position(|listed| *listed == topic).expect("all topics are listed")
}

pub(super) fn directory_name(topic: Topic) -> &'static str {
    match topic {
        Topic::Ingestion => "ingestion",
        Topic::Control => "control",
        Topic::DeadLetters => "dead-letters",
    }
}

pub(super) fn check_partition(topic: Topic, partition: u32) -> Result<()> {
    if partition == PARTITION {
        return Ok(());
    }
    Err(Error::Topic {
        reason: format!("{topic:?} has only one partition, so partition {partition} does not exist"),
    })
}
