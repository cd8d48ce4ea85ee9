//! LOG: a durable, partitioned log behind one page of trait.
//!
//! Writing and reading are two traits, so that who may only append (frontier, backend) cannot read. A consumer's
//! position is not the log's business: a worker keeps its cursor in the batch that its data is in.

mod error;
mod murmur2;

pub mod embedded;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod layers;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use error::Error;

use std::{future::Future, pin::Pin};

use async_trait::async_trait;
use bytes::Bytes;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a topic's records are about: names the two topics without repeating how an operator called them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// What clients wrote, keyed by run.
    Ingestion,
    /// What the system has to do besides, without a key.
    Control,
    /// Copies of what could not be applied.
    DeadLetters,
}

/// The largest value of a record: a client's frame of 16 MiB and its envelope.
pub const MAX_RECORD_BYTES: usize = 17 << 20;

/// The most that key and headers of a record may take together.
pub const MAX_EXTRA_BYTES: usize = 64 << 10;

/// The answer to an append. It belongs to nobody: many may be kept and awaited at once.
pub type Append = Pin<Box<dyn Future<Output = Result<Vec<Position>>> + Send>>;

/// How records of the ingestion topic are written. Workers read both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordFormat {
    /// One `LogEntry` a batch.
    #[default]
    Protobuf,
    /// One JSON envelope an item, as Matyan 0.3 writes and reads them.
    Json,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// Records of one key go to one partition, in order. An empty key goes anywhere.
    pub key: Bytes,
    pub value: Bytes,
    /// Content type and trace context.
    pub headers: Vec<(String, Bytes)>,
}

impl NewRecord {
    /// Refuses what no log takes. Every backend calls this first.
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
    /// Microseconds since the Unix epoch, by the clock of whoever accepted it.
    pub appended_us: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub partition: u32,
    pub offset: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Made with the log and never again: another value means another log. `None` where a log has no such thing
    /// (Kafka): then the last applied record is compared.
    pub identity: Option<[u8; 16]>,
    pub partitions: Vec<PartitionInfo>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// The oldest offset that can still be read.
    pub first: u64,
    /// The offset that the next record will get.
    pub end: u64,
}

/// What a subscriber is told, in order.
#[derive(Debug)]
pub enum Delivery {
    /// This partition is now the subscriber's: nothing comes from it until `start` was called.
    Assigned { partition: u32 },
    /// It is no longer. What was delivered of it may be dropped.
    Revoked { partition: u32 },
    /// At least one record of one partition, offsets ascending. Offsets may have gaps.
    Records { partition: u32, records: Vec<Record> },
}

/// The writer's guarantees, each the name of a conformance case:
///
/// 1. *durable*: an answered append survives kill -9 and power loss.
/// 2. *ordered*: appends of one key that are answered one after another have ascending offsets of one partition; the
///    records of one append are in its order. Appends started in order by one caller keep that order: an append is
///    started by the call itself, not by the first poll of what it returns.
/// 3. *whole or unknown*: an error means that any prefix of the records may be in the log, or come into it until the next
///    append of the same key is answered; never later, and never a later record without the earlier ones of the same key.
/// 4. *bounded*: when the log is full or slow, append waits, at most for the time that it was built with, and then answers
///    `Error::Unavailable`.
/// 5. *size*: a record over `MAX_RECORD_BYTES` or `MAX_EXTRA_BYTES` is refused, and no other with it is written.
/// 6. *recovers*: after a full disk or an I/O error it works again by itself.
#[async_trait]
pub trait LogWriter: Send + Sync + 'static {
    /// Positions in the order of `records`. Never blocks. To keep several appends under way, call again before the first is
    /// answered. Whoever drops the answer does not know whether the records are in the log.
    fn append(&self, topic: Topic, records: Vec<NewRecord>) -> Append;

    /// Where every partition begins and ends now. `end` covers every append answered before the call.
    async fn describe(&self, topic: Topic) -> Result<TopicInfo>;
}

/// The reader's guarantees, each the name of a conformance case:
///
/// 7. *complete*: from the started offset on, every durable record is delivered in offset order; none before it is durable.
/// 8. *exclusive*: of the subscribers of one topic, a partition is assigned to at most one at a time, as far as the log can
///    tell; a reader that was cut off may learn late that it lost one.
/// 9. *any position*: start takes every offset from `first` to `end`; one before `first` answers `Error::Trimmed`, one
///    behind `end` `Error::Replaced`.
/// 10. *trim*: what lies before a trimmed offset may be gone at once or later, but stays gone; offsets are never reused.
/// 11. *no blocking*: a slow subscriber slows no writer, until unread bytes reach the bound that the log was built with.
#[async_trait]
pub trait LogReader: Send + Sync + 'static {
    async fn subscribe(&self, topic: Topic) -> Result<Box<dyn Subscription>>;

    /// Tells that nothing before `offset` will be read again; an offset behind the end counts as the end.
    async fn trim(&self, topic: Topic, partition: u32, offset: u64) -> Result<()>;
}

/// Dropping it gives its partitions up.
#[async_trait]
pub trait Subscription: Send + Sync {
    /// The next delivery; waits for one. Cancel-safe. `Error::Trimmed` and `Error::Replaced` are about the one partition that
    /// they name, and come once: it stands still until it is started again.
    async fn next(&mut self) -> Result<Delivery>;

    /// From where an assigned partition is read.
    async fn start(&mut self, partition: u32, offset: u64) -> Result<()>;
}
