//! Settings for Kafka, and how each of them and each promise becomes a property of librdkafka.
//! What a promise needs is not configurable: partitioner, acknowledgement, idempotence and the reset policy are constants.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use rdkafka::ClientConfig;

use super::brokers;
use crate::{Error, MAX_EXTRA_BYTES, MAX_RECORD_BYTES, Result, Topic};

/// The largest batch: one record of the largest size, and what Kafka adds to it.
pub(super) const MAX_BATCH_BYTES: usize = MAX_RECORD_BYTES + MAX_EXTRA_BYTES + (64 << 10);

/// Three quarters of what the frontier holds a frame: it starts nothing again before all that is under way has ended, and has
/// time left for that then.
const APPEND_WAIT: Duration = Duration::from_secs(30);

/// What waits in the producer, as in the embedded log's queue; more is refused at once.
const QUEUE_KIB: usize = 272 << 10;

/// The same of copies of dead letters, and how long each is tried to be written.
const COPIES_KIB: usize = 32 << 10;
const COPY_WAIT: Duration = Duration::from_secs(5);

/// What a subscription keeps before it is asked for.
const FETCHED_KIB: usize = 16 << 10;

/// A worker that is gone loses its partitions this soon; its zombie is shut out by the cursor, not by time.
const SESSION: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `host:port`, separated by commas.
    pub bootstrap_servers: String,
    pub topics: TopicNames,
    /// When given, an ingestion topic of fewer partitions is refused, and of one that has grown the first are used alone, as long
    /// as the others are empty.
    pub ingestion_partitions: Option<u32>,
    /// Consumer groups are named `{group}-{topic}`.
    pub group: String,
    /// How long an append waits before it answers that the log is not available.
    pub append_wait: Duration,
    /// Deletes what is trimmed. Only where nobody else reads the topics.
    pub delete_trimmed: bool,
    pub security: Security,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicNames {
    pub ingestion: String,
    pub control: String,
    pub dead_letters: String,
}

/// What stays empty is left to librdkafka, which speaks plain text then.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
    pub protocol: Option<String>,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub sasl_mechanism: Option<String>,
    pub sasl_username: Option<String>,
    pub sasl_password: Option<String>,
    /// Certificates that a broker's is checked against, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// A certificate of ours with its key, both PEM, where brokers ask for one.
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

impl TopicNames {
    pub(super) fn name(&self, topic: Topic) -> &str {
        match topic {
            Topic::Ingestion => &self.ingestion,
            Topic::Control => &self.control,
            Topic::DeadLetters => &self.dead_letters,
        }
    }
}

impl Settings {
    /// With topics named as in Matyan 0.3, in plain text.
    pub fn new(bootstrap_servers: impl Into<String>, group: impl Into<String>) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            topics: TopicNames::default(),
            ingestion_partitions: None,
            group: group.into(),
            append_wait: APPEND_WAIT,
            delete_trimmed: false,
            security: Security::default(),
        }
    }

    /// How many partitions of a topic are used, if that was said.
    pub(super) fn used(&self, topic: Topic) -> Option<u32> {
        self.ingestion_partitions.filter(|_| topic == Topic::Ingestion)
    }

    pub fn validate(&self) -> Result<()> {
        let refuse = |reason: &str| Err(Error::Topic { reason: reason.into() });
        if self.bootstrap_servers.trim().is_empty() {
            return refuse("no Kafka server is named: set `bootstrap_servers` to `host:port`");
        }
        if self.group.is_empty() {
            return refuse("`group` is empty: name the consumer group of the workers");
        }
        if self.append_wait < Duration::from_millis(100) {
            return refuse("`append_wait` is too short for Kafka: set it to at least 100 ms");
        }
        let TopicNames { ingestion, control, dead_letters } = &self.topics;
        if ingestion == control || ingestion == dead_letters || control == dead_letters {
            return refuse("two topics have the same name: give each its own");
        }
        if self.security.sasl_username.is_some() != self.security.sasl_password.is_some() {
            return refuse("a SASL user needs a password and a password a user: set both or none");
        }
        Ok(())
    }

    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in self.common() {
            config.set(name, value);
        }
        config
    }

    fn common(&self) -> BTreeMap<&'static str, String> {
        let Security { protocol, sasl_mechanism, sasl_username, sasl_password, .. } = &self.security;
        let Security { ca_file, certificate_file, key_file, .. } = &self.security;
        let path = |file: &Option<PathBuf>| file.as_ref().map(|path| path.to_string_lossy().into_owned());
        let optional = [
            ("security.protocol", protocol.clone()),
            ("sasl.mechanism", sasl_mechanism.clone()),
            ("sasl.username", sasl_username.clone()),
            ("sasl.password", sasl_password.clone()),
            ("ssl.ca.location", path(ca_file)),
            ("ssl.certificate.location", path(certificate_file)),
            ("ssl.key.location", path(key_file)),
        ];
        let set = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let always = [
            ("bootstrap.servers", self.bootstrap_servers.clone()),
            ("client.id", "matyan".into()),
            // A broker that is back is noticed soon.
            ("reconnect.backoff.max.ms", "1000".into()),
        ];
        always.into_iter().chain(set).collect()
    }

    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        let wait = self.append_wait.as_millis().to_string();
        config
            // What Kafka's own client and the embedded log do, so that a key always has the same partition.
            .set("partitioner", "murmur2_random")
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", &wait)
            .set("message.max.bytes", MAX_BATCH_BYTES.to_string())
            // By their bytes alone: a batch of JSON envelopes may be very many records.
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", QUEUE_KIB.to_string())
            // What comes while a request is under way makes the next batch; there is no delay to collect more.
            .set("linger.ms", "0");
        telling(config)
    }

    /// For copies that nobody waits for: a topic that is missing is told of soon.
    pub(super) fn copier(&self) -> ClientConfig {
        let mut config = self.producer();
        config
            .set("enable.idempotence", "false")
            .set("message.timeout.ms", COPY_WAIT.as_millis().to_string())
            .set("topic.metadata.propagation.max.ms", "1000")
            .set("queue.buffering.max.kbytes", COPIES_KIB.to_string());
        config
    }

    /// Joins the group, and never fetches.
    pub(super) fn member(&self, topic: Topic) -> ClientConfig {
        let mut config = self.consumer(topic);
        config
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", SESSION.as_millis().to_string())
            .set("heartbeat.interval.ms", HEARTBEAT.as_millis().to_string());
        config
    }

    /// Fetches, and never joins: its partitions are told to it.
    pub(super) fn fetcher(&self, topic: Topic) -> ClientConfig {
        let mut config = self.consumer(topic);
        config
            .set("queued.max.messages.kbytes", FETCHED_KIB.to_string())
            .set("fetch.wait.max.ms", "100")
            .set("fetch.error.backoff.ms", "100");
        config
    }

    fn consumer(&self, topic: Topic) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", format!("{}-{}", self.group, self.topics.name(topic)))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // An offset that is gone must stop the partition, not skip what was never applied.
            .set("auto.offset.reset", "error");
        telling(config)
    }
}

/// Of a client that is polled for as long as it is there: what nobody hears would queue up.
fn telling(mut config: ClientConfig) -> ClientConfig {
    config.set("statistics.interval.ms", brokers::TELL.as_millis().to_string());
    config
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Security")
            .field("protocol", &self.protocol)
            .field("sasl_mechanism", &self.sasl_mechanism)
            .field("sasl_username", &self.sasl_username)
            .field("ca_file", &self.ca_file)
            .field("certificate_file", &self.certificate_file)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
