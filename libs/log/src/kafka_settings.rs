//! Settings of a log on Apache Kafka: plain data, so that a build without the client can read and
//! check them too.

use std::{fmt, path::PathBuf, time::Duration};

/// Three quarters of the time that the frontier waits for a frame. After a failure, the
/// frontier starts nothing new until all appends in flight have ended, and then still needs
/// time for that.
const APPEND_WAIT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `host:port`, separated by commas.
    pub bootstrap_servers: String,
    pub topics: TopicNames,
    /// Number of ingestion partitions to use. A topic with fewer is refused. If a topic has
    /// more, only the first ones are used, and the others must be empty.
    pub ingestion_partitions: Option<u32>,
    /// Consumer groups are named `{group}-{topic}`.
    pub group: String,
    /// Time that an append waits before it fails because the log is unavailable.
    pub append_wait: Duration,
    pub transfer: Transfer,
    /// Delete trimmed records. Enable this only if nothing else reads the topics.
    pub delete_trimmed: bool,
    pub security: Security,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicNames {
    pub ingestion: String,
    pub control: String,
    pub dead_letters: String,
}

/// How records are collected into requests. It decides between delay, idle requests and the work of brokers, never
/// what is written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Time for which a record waits for others of its partition before they are sent together.
    pub linger: Duration,
    pub compression: Compression,
    /// A broker answers a fetch at once if it has this many bytes, and otherwise after `fetch_wait`.
    pub fetch_min_bytes: u32,
    /// Time after which a broker answers a fetch in any case. An idle reader sends this many fetches to each broker
    /// that leads one of its partitions, and a partition that is new to a reader may wait for it once.
    pub fetch_wait: Duration,
}

/// Compression of records by the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Lz4,
}

impl Default for Transfer {
    fn default() -> Self {
        Self {
            linger: Duration::from_millis(2),
            // A fetch of compressed records can take up to 255 times its bytes in the memory of a reader.
            compression: Compression::None,
            // A single record is delivered at once. Under load, workers read at intervals, which
            // collects records without a delay for the first one.
            fetch_min_bytes: 1,
            // With three brokers, a process that reads both topics sends 20 idle fetches a second.
            fetch_wait: Duration::from_millis(200),
        }
    }
}

/// Connection security. Empty fields keep librdkafka's defaults, which is plain text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
    pub protocol: Option<String>,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub sasl_mechanism: Option<String>,
    pub sasl_username: Option<String>,
    pub sasl_password: Option<String>,
    /// CA certificates to verify brokers with, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Client certificate and its key, both PEM, for brokers that require one.
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

impl Default for TopicNames {
    fn default() -> Self {
        Self {
            ingestion: "data-ingestion".into(),
            control: "control-events".into(),
            dead_letters: "dead-letters".into(),
        }
    }
}

impl Settings {
    /// Default settings in plain text, with the topic names of Matyan 0.3.
    pub fn new(bootstrap_servers: impl Into<String>, group: impl Into<String>) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            topics: TopicNames::default(),
            ingestion_partitions: None,
            group: group.into(),
            append_wait: APPEND_WAIT,
            transfer: Transfer::default(),
            delete_trimmed: false,
            security: Security::default(),
        }
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security")
            .field("protocol", &self.protocol)
            .field("sasl_mechanism", &self.sasl_mechanism)
            .field("sasl_username", &self.sasl_username)
            .field("ca_file", &self.ca_file)
            .field("certificate_file", &self.certificate_file)
            .finish_non_exhaustive()
    }
}

/// Options for new topics. All topics accept records of maximum size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateTopics {
    /// Number of partitions of the ingestion topic; the others have one.
    pub ingestion_partitions: u32,
    pub replication: u16,
    /// Should be 2 with a replication factor of 3.
    pub min_insync_replicas: u16,
}
