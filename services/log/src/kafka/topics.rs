//! The topics at start: there, as large as they have to be, and with the number of partitions that they always had.
//! What is wrong with one is told in a sentence that an operator can act on.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};

use super::{
    REQUEST_TIMEOUT, blocking,
    config::{MAX_BATCH_BYTES, Settings},
    error,
};
use crate::{Error, Result, Topic};

type Admin = Arc<AdminClient<DefaultClientContext>>;

/// How many there were when the log was opened.
pub(super) struct Partitions {
    ingestion: u32,
    control: u32,
    dead_letters: u32,
}

impl Partitions {
    pub(super) fn of(&self, topic: Topic) -> u32 {
        match topic {
            Topic::Ingestion => self.ingestion,
            Topic::Control => self.control,
            Topic::DeadLetters => self.dead_letters,
        }
    }

    pub(super) fn check(&self, topic: Topic, partition: u32) -> Result<()> {
        let count = self.of(topic);
        if partition < count {
            return Ok(());
        }
        Err(Error::Topic {
            reason: format!("{topic:?} has {count} partitions, and partition {partition} was asked for"),
        })
    }
}

pub(super) async fn open(admin: &Admin, settings: &Settings) -> Result<Partitions> {
    let mut counts = [0; 3];
    for (count, topic) in counts.iter_mut().zip([Topic::Ingestion, Topic::Control, Topic::DeadLetters]) {
        let name = settings.topics.name(topic);
        *count = match partitions(admin, name).await? {
            Some(count) => count,
            None => create(admin, settings, topic).await?,
        };
        check_sizes(admin, name).await?;
    }
    let [ingestion, control, dead_letters] = counts;
    let expected = settings.ingestion_partitions.unwrap_or(ingestion);
    if expected != ingestion {
        return Err(changed(settings.topics.name(Topic::Ingestion), expected, ingestion));
    }
    Ok(Partitions { ingestion, control, dead_letters })
}

/// Refuses another number than at the start: a run would be in two partitions.
pub(super) async fn check_count(admin: &Admin, name: &str, expected: u32) -> Result<()> {
    match partitions(admin, name).await? {
        Some(count) if count == expected => Ok(()),
        Some(count) => Err(changed(name, expected, count)),
        None => Err(missing(name)),
    }
}

fn changed(name: &str, expected: u32, count: u32) -> Error {
    Error::Topic {
        reason: format!(
            "topic `{name}` has {count} partitions instead of {expected}: their number never changes; to grow, make a new \
             topic and let the old one run empty"
        ),
    }
}

fn missing(name: &str) -> Error {
    Error::Topic { reason: format!("topic `{name}` is missing: make it, or let missing topics be made") }
}

/// None where there is no such topic.
async fn partitions(admin: &Admin, name: &str) -> Result<Option<u32>> {
    let (admin, asked) = (admin.clone(), name.to_owned());
    let metadata = blocking(move || admin.inner().fetch_metadata(Some(&asked), REQUEST_TIMEOUT)).await?;
    let metadata = metadata.map_err(error::request)?;
    let topic = metadata.topics().iter().find(|topic| topic.name() == name);
    match topic.map(|topic| (topic.error(), topic.partitions().len() as u32)) {
        None | Some((Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART), _)) => Ok(None),
        Some((None, count)) if count > 0 => Ok(Some(count)),
        Some((failure, _)) => {
            Err(Error::unavailable(format!("topic `{name}` is not ready yet: {failure:?}")))
        }
    }
}

async fn create(admin: &Admin, settings: &Settings, topic: Topic) -> Result<u32> {
    let name = settings.topics.name(topic);
    let Some(wanted) = settings.create_topics else { return Err(missing(name)) };
    let count = if topic == Topic::Ingestion { wanted.ingestion_partitions } else { 1 };
    let (bytes, replicas) = (MAX_BATCH_BYTES.to_string(), wanted.min_insync_replicas.to_string());
    let new = NewTopic::new(name, count as i32, TopicReplication::Fixed(i32::from(wanted.replication)))
        .set("max.message.bytes", &bytes)
        .set("min.insync.replicas", &replicas);
    let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT));
    let made = admin.create_topics([&new], &options).await.map_err(error::request)?;
    for result in made {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => {
                return Err(Error::Topic { reason: format!("topic `{name}` cannot be made: {code}") });
            }
        }
    }
    await_leader(admin, name, count).await
}

/// A new topic is known at once, and usable a moment later.
async fn await_leader(admin: &Admin, name: &str, expected: u32) -> Result<u32> {
    let deadline = tokio::time::Instant::now() + REQUEST_TIMEOUT;
    loop {
        match partitions(admin, name).await {
            Ok(Some(count)) => {
                return if count == expected { Ok(count) } else { Err(changed(name, expected, count)) };
            }
            Ok(None) | Err(Error::Unavailable { .. }) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(None) => return Err(Error::unavailable(format!("topic `{name}` was made and is not there"))),
            Err(error) => return Err(error),
        }
    }
}

/// A topic that takes less than the largest record would refuse it long after the start.
async fn check_sizes(admin: &Admin, name: &str) -> Result<()> {
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let described =
        admin.describe_configs([&ResourceSpecifier::Topic(name)], &options).await.map_err(error::request)?;
    let described = match described.into_iter().next() {
        Some(Ok(described)) => described,
        Some(Err(code)) => {
            tracing::warn!(topic = name, %code, "the limits of a topic cannot be read, so they are not checked");
            return Ok(());
        }
        None => return Err(Error::unavailable(format!("Kafka told nothing about topic `{name}`"))),
    };
    let number = |key| described.get(key).and_then(|entry| entry.value.as_ref()?.parse::<u64>().ok());
    if let Some(bytes) = number("max.message.bytes").filter(|bytes| *bytes < MAX_BATCH_BYTES as u64) {
        return Err(Error::Topic {
            reason: format!(
                "topic `{name}` takes {bytes} bytes: set its `max.message.bytes` to at least {MAX_BATCH_BYTES}"
            ),
        });
    }
    if number("min.insync.replicas").is_some_and(|replicas| replicas < 2) {
        tracing::warn!(
            topic = name,
            "one broker alone acknowledges: in production set `min.insync.replicas` to 2"
        );
    }
    Ok(())
}
