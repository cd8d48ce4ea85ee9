//! Mapping of the settings to librdkafka's properties. Properties that the guarantees depend on
//! are constants, not settings: partitioner, acknowledgements, idempotence, and the reset policy.

use std::{collections::BTreeMap, path::Path, time::Duration};

use rdkafka::ClientConfig;

use super::{Compression, Security, Settings, TopicNames, broker_tracker};
use crate::{Error, MAX_EXTRA_BYTES, MAX_RECORD_BYTES, Result, Topic};

/// Maximum batch size: one record of maximum size plus Kafka's overhead.
pub(super) const MAX_BATCH_BYTES: usize = MAX_RECORD_BYTES + MAX_EXTRA_BYTES + (64 << 10);

/// Size of the producer's queue, the same as the embedded log's. Beyond it, appends are refused
/// immediately.
const QUEUE_KIB: usize = 272 << 10;

/// The queue size for copies of dead letters, and the timeout of each copy.
const DEAD_LETTER_QUEUE_KIB: usize = 32 << 10;
const DEAD_LETTER_WAIT: Duration = Duration::from_secs(5);

/// Size of a subscription's prefetch buffer.
const PREFETCH_KIB: usize = 16 << 10;

/// An unresponsive worker loses its partitions after this time. If it is still running, its
/// writes are rejected by the cursor check, regardless of timing.
const SESSION: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(1);

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
    /// Number of partitions of a topic to use, if configured.
    pub(super) fn configured_partitions(&self, topic: Topic) -> Option<u32> {
        self.ingestion_partitions.filter(|_| topic == Topic::Ingestion)
    }

    pub fn validate(&self) -> Result<()> {
        if self.bootstrap_servers.trim().is_empty() {
            return refuse("`bootstrap_servers` is empty: set it to `host:port`");
        }
        if self.group.is_empty() {
            return refuse("`group` is empty: set it to the consumer group of the workers");
        }
        if self.append_wait < Duration::from_millis(100) {
            return refuse("`append_wait` is too short for Kafka: set it to at least 100 ms");
        }
        if self.transfer.linger > self.append_wait / 4 {
            return refuse("`linger` is too long: set it to at most a quarter of `append_wait`");
        }
        if self.transfer.fetch_min_bytes == 0 {
            return refuse("`fetch_min_bytes` is 0: set it to at least 1");
        }
        let TopicNames { ingestion, control, dead_letters } = &self.topics;
        if ingestion == control || ingestion == dead_letters || control == dead_letters {
            return refuse("two topics have the same name: give each a different one");
        }
        if self.security.sasl_username.is_some() != self.security.sasl_password.is_some() {
            return refuse("a SASL user and password are needed together: set both or neither");
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
        let optional = [
            ("security.protocol", protocol.clone()),
            ("sasl.mechanism", sasl_mechanism.clone()),
            ("sasl.username", sasl_username.clone()),
            ("sasl.password", sasl_password.clone()),
            ("ssl.ca.location", path_text(ca_file.as_deref())),
            ("ssl.certificate.location", path_text(certificate_file.as_deref())),
            ("ssl.key.location", path_text(key_file.as_deref())),
        ];
        let set = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let always = [
            ("bootstrap.servers", self.bootstrap_servers.clone()),
            ("client.id", "matyan".into()),
            // Otherwise a broker with Kafka's defaults creates a topic that is asked for, with one partition.
            ("allow.auto.create.topics", "false".into()),
            // Reconnects quickly once a broker is back.
            ("reconnect.backoff.max.ms", "1000".into()),
        ];
        always.into_iter().chain(set).collect()
    }

    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        let wait = self.append_wait.as_millis().to_string();
        config
            // The same partitioner as in Kafka's own client and the embedded log, so
            // that a key always has the same partition.
            .set("partitioner", "murmur2_random")
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", &wait)
            .set("message.max.bytes", MAX_BATCH_BYTES.to_string())
            // Limits the queue only by bytes: a batch of JSON envelopes may consist
            // of a very large number of records.
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", QUEUE_KIB.to_string())
            .set("linger.ms", self.transfer.linger.as_millis().to_string())
            .set("compression.type", self.transfer.compression.name());
        with_statistics(config)
    }

    /// A producer for copies that nothing waits for; a missing topic is reported early.
    pub(super) fn dead_letter_producer(&self) -> ClientConfig {
        let mut config = self.producer();
        config
            .set("enable.idempotence", "false")
            .set("message.timeout.ms", DEAD_LETTER_WAIT.as_millis().to_string())
            .set("topic.metadata.propagation.max.ms", "1000")
            .set("queue.buffering.max.kbytes", DEAD_LETTER_QUEUE_KIB.to_string());
        config
    }

    /// A consumer that joins the group, but never fetches.
    pub(super) fn group_member(&self, topic: Topic) -> ClientConfig {
        let mut config = self.consumer(topic);
        config
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", SESSION.as_millis().to_string())
            .set("heartbeat.interval.ms", HEARTBEAT.as_millis().to_string());
        config
    }

    /// A consumer that fetches partitions assigned to it explicitly, but never joins the
    /// group.
    pub(super) fn fetcher(&self, topic: Topic) -> ClientConfig {
        let mut config = self.consumer(topic);
        config
            .set("queued.max.messages.kbytes", PREFETCH_KIB.to_string())
            .set("fetch.min.bytes", self.transfer.fetch_min_bytes.to_string())
            .set("fetch.wait.max.ms", self.transfer.fetch_wait.as_millis().to_string())
            .set("fetch.error.backoff.ms", "100");
        config
    }

    /// A consumer of single records. It is short-lived, so nothing reads its statistics.
    pub(super) fn record_reader(&self, topic: Topic) -> ClientConfig {
        let mut config = self.consumer(topic);
        config
            .set("statistics.interval.ms", "0")
            .set("queued.min.messages", "1")
            // Brokers return at least one batch, however large it is.
            .set("fetch.message.max.bytes", "1024");
        config
    }

    fn consumer(&self, topic: Topic) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", format!("{}-{}", self.group, self.topics.name(topic)))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Otherwise damage on the broker's disk would be stored as other values.
            .set("check.crcs", "true")
            // A missing offset must stop the partition, not skip records that were
            // never applied.
            .set("auto.offset.reset", "error");
        with_statistics(config)
    }
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
        }
    }
}

fn refuse(reason: &str) -> Result<()> {
    Err(Error::Topic { reason: reason.into() })
}

fn path_text(path: Option<&Path>) -> Option<String> {
    path.map(|path| path.to_string_lossy().into_owned())
}

/// Enables statistics. Only for clients that are polled throughout, because unread statistics
/// would queue up.
fn with_statistics(mut config: ClientConfig) -> ClientConfig {
    config.set("statistics.interval.ms", broker_tracker::STATISTICS_INTERVAL.as_millis().to_string());
    config
}

#[cfg(test)]
mod tests;
