//! LOG: a durable, partitioned log with small traits as its interface.
//!
//! Writing, reading and inspection are separate traits, so that services that may only append (frontier,
//! backend) cannot read, and jobs that need only the ends of partitions cannot append. The log does not track consumer positions: a worker stores its cursor
//! in the same batch as the data.
//!
//! ```
//! use matyan_log::{
//!     Delivery, LogReader as _, LogWriter as _, NewRecord, Topic,
//!     embedded::{EmbeddedLog, Settings},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let log = EmbeddedLog::open(directory.path(), Settings::default()).await?;
//! let record = NewRecord { key: "run 1".into(), value: "loss = 0.5".into(), headers: Vec::new() };
//! log.append(Topic::Ingestion, vec![record]).await?;
//!
//! let mut subscription = log.subscribe(Topic::Ingestion).await?;
//! let Delivery::Assigned { partition } = subscription.next().await? else { unreachable!() };
//! subscription.start(partition, 0.into()).await?;
//! let Delivery::Records { records, .. } = subscription.next().await? else { unreachable!() };
//! assert_eq!(records[0].value, "loss = 0.5");
//! # drop(subscription);
//! log.close().await?;
//! # Ok(())
//! # }
//! ```

mod error;
mod murmur2;

pub mod embedded;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod kafka_settings;
#[cfg(feature = "faults")]
pub mod layers;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use error::Error;
pub use murmur2::partition_of;

use std::{future::Future, pin::Pin};

use async_trait::async_trait;
use bytes::Bytes;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The topics of the log. Operators choose the actual topic names; the code refers to topics
/// only by their content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Data written by clients, keyed by run.
    Ingestion,
    /// Other work for the system, without a key.
    Control,
    /// Copies of records that could not be applied.
    DeadLetters,
}

/// Maximum size of a record's value: a client frame of 16 MiB plus its envelope.
pub const MAX_RECORD_BYTES: usize = 17 << 20;

/// Maximum total size of a record's key and headers.
pub const MAX_EXTRA_BYTES: usize = 64 << 10;

/// The pending result of an append. It borrows nothing, so a caller can hold many and await them
/// concurrently.
pub type Append = Pin<Box<dyn Future<Output = Result<Vec<Position>>> + Send>>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// Records with the same key go to the same partition, in order. An empty key may go to
    /// any partition.
    pub key: Bytes,
    pub value: Bytes,
    /// Content type and trace context.
    pub headers: Vec<(String, Bytes)>,
}

impl NewRecord {
    /// Rejects a record that no log accepts. Every backend calls this first.
    pub fn validate(&self) -> Result<()> {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        limit(self.value.len(), MAX_RECORD_BYTES)?;
        limit(self.key.len() + headers, MAX_EXTRA_BYTES)
    }
}

fn limit(size: usize, max: usize) -> Result<()> {
    if size > max { Err(Error::TooLarge { size, max }) } else { Ok(()) }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: u64,
    pub key: Bytes,
    pub value: Bytes,
    pub headers: Vec<(String, Bytes)>,
    /// Microseconds since the Unix epoch, by the clock of the accepting process.
    pub appended_us: i64,
    /// The number of the leader that wrote it, in a log whose leaders change. Each leader has a higher
    /// number than the one before.
    pub leader_epoch: Option<i32>,
}

/// A point between two records of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartPoint {
    pub offset: u64,
    /// The leader epoch of the record before, if it is known. If the log has a record of a later leader
    /// there, it has lost its tail since.
    pub epoch_before: Option<i32>,
}

impl From<u64> for StartPoint {
    fn from(offset: u64) -> Self {
        Self { offset, epoch_before: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub partition: u32,
    pub offset: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Created with the topic and never changed: a different value means a different log, whose
    /// offsets have nothing to do with the offsets of the other.
    pub identity: [u8; 16],
    pub partitions: Vec<PartitionInfo>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// The oldest offset that can still be read.
    pub first: u64,
    /// The offset that the next record will get.
    pub end: u64,
}

/// A topic as the reader of one partition sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionDescription {
    /// As in `TopicInfo`.
    pub identity: [u8; 16],
    /// Number of partitions of the topic.
    pub partitions: u32,
    /// `None` if the topic does not have this partition.
    pub bounds: Option<PartitionInfo>,
}

/// An event delivered to a subscriber, in order.
#[derive(Debug)]
pub enum Delivery {
    /// The partition is now assigned to the subscriber. It delivers nothing until `start`
    /// is called.
    Assigned { partition: u32 },
    /// The partition is no longer assigned. Records delivered from it may be dropped.
    Revoked { partition: u32 },
    /// At least one record of one partition, in ascending offset order. Offsets may have
    /// gaps.
    Records { partition: u32, records: Vec<Record> },
}

/// Describes the log, without reading records from it or adding any.
#[async_trait]
pub trait LogInspector: Send + Sync + 'static {
    /// The current first and end offset of every partition. `end` covers every append that
    /// completed before the call.
    async fn describe(&self, topic: Topic) -> Result<TopicInfo>;

    /// Fails if the log does not answer. Some of its partitions may have no leader at the moment.
    async fn probe(&self, topic: Topic) -> Result<()> {
        self.describe(topic).await.map(drop)
    }

    /// Describes one partition. Others may have no leader at the moment.
    async fn describe_partition(&self, topic: Topic, partition: u32) -> Result<PartitionDescription> {
        let TopicInfo { identity, partitions } = self.describe(topic).await?;
        let bounds = partitions.get(partition as usize).copied();
        Ok(PartitionDescription { identity, partitions: partitions.len() as u32, bounds })
    }

    /// The offset of the first record that a later leader has written in place of one before `point`.
    /// `None` if the leader epoch shows no such record, as in every log whose leaders never change.
    async fn lost_tail(&self, _topic: Topic, _partition: u32, _point: StartPoint) -> Result<Option<u64>> {
        Ok(None)
    }
}

/// Appends records to the log.
///
/// It makes the following guarantees. Each is named after its conformance case:
///
/// 1. *durable*: an acknowledged append survives kill -9 and power loss.
/// 2. *ordered*: appends with the same key, each started after the previous one completed, have
///    ascending offsets in one partition. The records of one append keep their order. Appends
///    started in order by one caller keep that order; an append is started by the call itself,
///    not by the first poll of the returned future.
/// 3. *whole or unknown*: an error means that any prefix of the records may be in the log, or
///    may still be added until the next append with the same key completes. They are never
///    added later than that, and never without the preceding records of the same key.
/// 4. *bounded*: if the log is full or slow, an append waits for at most the configured time
///    and then returns `Error::Unavailable`.
/// 5. *size*: a record over `MAX_RECORD_BYTES` or `MAX_EXTRA_BYTES` is refused, together with
///    all other records of the append.
/// 6. *recovers*: after a full disk or an I/O error, the log recovers without intervention.
#[async_trait]
pub trait LogWriter: LogInspector {
    /// Appends `records` and returns their positions in the same order. The call itself never
    /// blocks. To have several appends in flight, repeat the call before the first append
    /// completes. If the returned future is dropped, it is unknown whether the records are in the
    /// log.
    fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Append;
}

/// Reads and trims the log.
///
/// It makes the following guarantees. Each is named after its conformance case:
///
/// 7. *complete*: from the started offset on, every durable record is delivered in offset
///    order, and none before it is durable.
/// 8. *exclusive*: a partition is assigned to at most one subscriber of a topic at a time, as
///    far as the log can know; a disconnected reader may learn late that it lost a partition.
/// 9. *any position*: `start` accepts every offset from `first` to `end`. An offset before
///    `first` returns `Error::Trimmed`, and one after `end` returns `Error::Replaced`.
/// 10. *trim*: records before a trimmed offset are deleted now or later, and never reappear;
///     offsets are never reused.
/// 11. *no blocking*: a slow subscriber slows no writer, until unread bytes reach the
///     configured bound.
#[async_trait]
pub trait LogReader: Send + Sync + 'static {
    async fn subscribe(&self, topic: Topic) -> Result<Box<dyn Subscription>>;

    /// Declares that no record before `offset` will be read in the future. An offset after the end
    /// counts as the end.
    async fn trim(&self, topic: Topic, partition: u32, offset: u64) -> Result<()>;
}

/// Receives the partitions of one topic that are assigned to it. Dropping it releases them.
#[async_trait]
pub trait Subscription: Send + Sync {
    /// Waits for the next delivery. Cancel-safe. `Error::Trimmed` and `Error::Replaced` concern
    /// only the partition that they name and are returned once: that partition delivers nothing
    /// until it is restarted.
    async fn next(&mut self) -> Result<Delivery>;

    /// Starts reading an assigned partition.
    async fn start(&mut self, partition: u32, point: StartPoint) -> Result<()>;
}
