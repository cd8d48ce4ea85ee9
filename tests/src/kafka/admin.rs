//! Changes to topics as an operator, an accident or another program might make them.

use std::time::Duration;

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    message::{Header, Headers, OwnedHeaders, OwnedMessage},
    producer::{FutureProducer, FutureRecord, Producer},
};

use crate::{eventually, eventually_blocking};

/// Timeout for requests to which a working broker responds immediately.
const WAIT: Duration = Duration::from_secs(60);

/// Timeout of one poll of a consumer.
const POLL: Duration = Duration::from_millis(50);

pub struct Admin {
    client: AdminClient<DefaultClientContext>,
    producer: FutureProducer,
    servers: String,
}

impl Admin {
    pub fn new(servers: &str) -> Self {
        let config = config(servers);
        let client = config.create().expect("a client is created");
        Self {
            client,
            producer: config.create().expect("a producer is created"),
            servers: servers.to_owned(),
        }
    }

    pub fn servers(&self) -> &str {
        &self.servers
    }

    pub async fn delete(&self, topic: &str) {
        let deleted = self.client.delete_topics(&[topic], &AdminOptions::new()).await;
        expect_success(deleted.expect("the broker answers"));
        self.has_partitions(topic, 0).await;
    }

    /// Asks for a topic as a client with Kafka's defaults does, so that the broker creates it.
    pub async fn create_by_asking(&self, topic: &str) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers);
        let client: FutureProducer = config.create().expect("a producer is created");
        eventually(&format!("{topic} is created by the broker"), async || {
            let metadata = client.client().fetch_metadata(Some(topic), WAIT).expect("the broker answers");
            match metadata.topics().first().map(|found| found.partitions().len()) {
                Some(1) => Ok(()),
                found => Err(found),
            }
        })
        .await;
    }

    pub async fn grow(&self, topic: &str, partitions: usize) {
        let grown = NewPartitions::new(topic, partitions);
        let grown = self.client.create_partitions([&grown], &AdminOptions::new()).await;
        expect_success(grown.expect("the broker answers"));
        self.has_partitions(topic, partitions).await;
    }

    /// Waits until the broker's metadata shows the number of partitions.
    async fn has_partitions(&self, topic: &str, expected: usize) {
        eventually(&format!("{topic} has {expected} partitions"), async || match self.partitions(topic) {
            found if found == expected => Ok(()),
            found => Err(found),
        })
        .await;
    }

    /// Number of partitions; 0 for a topic that does not exist.
    pub fn partitions(&self, topic: &str) -> usize {
        let metadata = self.client.inner().fetch_metadata(Some(topic), WAIT).expect("the broker answers");
        metadata
            .topics()
            .iter()
            .filter(|found| found.error().is_none())
            .map(|found| found.partitions().len())
            .sum()
    }

    /// The leader of the only partition of a topic, and the replicas that have all of its records.
    pub fn replicas(&self, topic: &str) -> Result<(i32, Vec<i32>), String> {
        let metadata = self.client.inner().fetch_metadata(Some(topic), WAIT);
        let metadata = metadata.map_err(|failure| failure.to_string())?;
        let partition = metadata.topics().first().and_then(|topic| topic.partitions().first());
        let partition = partition.ok_or("the topic has no partition")?;
        Ok((partition.leader(), partition.isr().to_vec()))
    }

    /// The leader of each partition of a topic.
    pub fn leaders(&self, topic: &str) -> Vec<i32> {
        let metadata = self.client.inner().fetch_metadata(Some(topic), WAIT).expect("the broker answers");
        let mut leaders: Vec<_> =
            metadata.topics()[0].partitions().iter().map(|found| (found.id(), found.leader())).collect();
        leaders.sort_unstable();
        leaders.into_iter().map(|(_, leader)| leader).collect()
    }

    /// Changes a setting of a topic, and waits until the broker reports the new value.
    pub async fn set(&self, topic: &str, key: &str, value: &str) {
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(key, value);
        let altered = self.client.alter_configs([&change], &AdminOptions::new()).await;
        for one in altered.expect("the broker answers") {
            one.expect("the setting is changed");
        }
        eventually(&format!("{key} of {topic} is {value}"), async || match self.setting(topic, key).await {
            Some(found) if found == value => Ok(()),
            found => Err(found),
        })
        .await;
    }

    async fn setting(&self, topic: &str, key: &str) -> Option<String> {
        let described =
            self.client.describe_configs([&ResourceSpecifier::Topic(topic)], &AdminOptions::new()).await;
        let described = described.expect("the broker answers").remove(0).expect("the topic exists");
        described.get(key)?.value.clone()
    }

    /// Deletes records before an offset, like retention.
    pub async fn forget(&self, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before)).expect("the offset is valid");
        self.client.delete_records(&list, &AdminOptions::new()).await.expect("the records are deleted");
    }

    /// First offset and end offset.
    pub fn bounds(&self, topic: &str, partition: i32) -> (i64, i64) {
        self.client.inner().fetch_watermarks(topic, partition, WAIT).expect("the broker answers")
    }

    /// Writes a record directly, like any program with access to the broker. Returns its partition and
    /// offset.
    pub async fn write(&self, topic: &str, key: &[u8], value: &[u8], headers: &[(&str, &str)]) -> (i32, i64) {
        let mut owned = OwnedHeaders::new();
        for (key, value) in headers {
            owned = owned.insert(Header { key, value: Some(*value) });
        }
        let record = FutureRecord::to(topic).key(key).payload(value).headers(owned);
        let delivered = self
            .producer
            .send(record, WAIT)
            .await
            .map_err(|(error, _)| error)
            .expect("the record is written");
        (delivered.partition, delivered.offset)
    }

    /// All records that a topic has at the call, partition by partition. Later records are ignored.
    pub fn read(&self, topic: &str) -> Vec<OwnedMessage> {
        let consumer: BaseConsumer =
            config(&self.servers).set("group.id", "tests").create().expect("a consumer is created");
        let mut list = TopicPartitionList::new();
        let mut missing = 0;
        let mut ends = Vec::new();
        for partition in 0..self.partitions(topic) as i32 {
            let (first, end) = self.bounds(topic, partition);
            missing += end - first;
            ends.push(end);
            list.add_partition_offset(topic, partition, Offset::Offset(first)).expect("the offset is valid");
        }
        consumer.assign(&list).expect("the partitions exist");
        let mut messages = Vec::new();
        eventually_blocking(&format!("{topic} is read"), || {
            let message = consumer.poll(POLL);
            let message = message.map(|message| message.expect("the record can be read").detach());
            messages.extend(message.filter(|message| message.offset() < ends[message.partition() as usize]));
            match messages.len() as i64 {
                all if all >= missing => Ok(()),
                some => Err(format!("{some} of {missing} records")),
            }
        });
        messages.sort_by_key(|message| (message.partition(), message.offset()));
        messages
    }

    /// A consumer of that group that reads the topic until it is dropped.
    pub fn reader_of_group(&self, group: &str, topic: &str) -> BaseConsumer {
        let consumer: BaseConsumer =
            config(&self.servers).set("group.id", group).create().expect("a consumer is created");
        consumer.subscribe(&[topic]).expect("the consumer subscribes");
        eventually_blocking(&format!("{group} has a member"), || {
            // A broker that has just started takes a moment to load its groups.
            let list = self.client.inner().fetch_group_list(Some(group), WAIT);
            let list = list.map_err(|failure| failure.to_string())?;
            if list.groups().iter().any(|group| !group.members().is_empty()) {
                return Ok(());
            }
            // A consumer joins its group only while it is polled.
            let polled = consumer.poll(POLL).map(|message| message.map(drop));
            Err(format!("no member; the consumer received {polled:?}"))
        });
        consumer
    }
}

/// The text of a header.
pub fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    let found = message.headers()?.iter().find(|header| header.key == name)?;
    Some(String::from_utf8_lossy(found.value?).into_owned())
}

fn config(servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    // The partitioner of the Java clients, so that keys go to the same partitions.
    config
        .set("bootstrap.servers", servers)
        .set("partitioner", "murmur2_random")
        // A question whether a topic exists must not create it.
        .set("allow.auto.create.topics", "false")
        .set("message.max.bytes", "20000000");
    config
}

fn expect_success<E: std::fmt::Debug>(results: Vec<Result<String, E>>) {
    for result in results {
        result.expect("the topic is changed");
    }
}
