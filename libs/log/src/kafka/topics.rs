//! Checks of the topics at startup: they must exist, accept records of maximum size, and have
//! their original number of partitions. Every problem is described in a sentence that an
//! operator can act on.

use std::{ops::Range, sync::Arc, time::Duration};

use rdkafka::{
    admin::{
        AdminClient, AdminOptions, AlterConfig, ConfigResource, ConfigSource, NewTopic, ResourceSpecifier,
        TopicReplication,
    },
    consumer::{BaseConsumer, Consumer as _},
    metadata::Metadata,
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};
use tokio::time::{Instant, sleep};

use super::{
    CreateTopics, PAUSE, REQUEST_TIMEOUT, Settings, blocking, config::MAX_BATCH_BYTES, error,
    initial_connect, log_throttle::ThrottledContext,
};
use crate::{Error, Result, Topic};

/// Pause between checks of a new topic: initially, doubling up to the maximum.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// Time for which a topic may be unknown to a broker although others know it: right after the creation of
/// the topic, or after the start of the broker.
const PROPAGATION_WAIT: Duration = Duration::from_secs(3);

/// Time for which the checks at the startup of a process are repeated.
const CHECK_WAIT: Duration = Duration::from_secs(60);

/// The setting of a topic that limits the size of batches.
const SIZE_LIMIT: &str = "max.message.bytes";

/// The setting of a topic that says whose clock its records have.
const CLOCK: &str = "message.timestamp.type";
/// The clock of brokers, instead of the clock of each writer.
const BROKERS_CLOCK: &str = "LogAppendTime";

/// Limit of a topic that refuses every batch, because even an empty batch is larger.
const CLOSED_BYTES: usize = 0;

type Admin = Arc<AdminClient<ThrottledContext>>;

/// Numbers of partitions when the log was opened.
pub(super) struct PartitionCounts {
    /// Number of ingestion partitions in use.
    ingestion: u32,
    /// Unused partitions after the ingestion partitions, if the topic has grown.
    pub(super) spare: Range<u32>,
    control: u32,
    dead_letters: u32,
}

impl PartitionCounts {
    pub(super) fn count(&self, topic: Topic) -> u32 {
        match topic {
            Topic::Ingestion => self.ingestion,
            Topic::Control => self.control,
            Topic::DeadLetters => self.dead_letters,
        }
    }

    pub(super) fn check(&self, topic: Topic, partition: u32) -> Result<()> {
        let count = self.count(topic);
        if partition < count {
            return Ok(());
        }
        Err(Error::Topic {
            reason: format!("{topic:?} has only {count} partitions, so partition {partition} does not exist"),
        })
    }
}

/// An existing topic, created by the call or earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicStatus {
    pub name: String,
    pub partitions: u32,
    pub is_new: bool,
}

const ALL_TOPICS: [Topic; 3] = [Topic::Ingestion, Topic::Control, Topic::DeadLetters];

/// Returns a client that has received a response from a broker.
pub(super) async fn connect(settings: &Settings) -> Result<BaseConsumer<ThrottledContext>> {
    let client: BaseConsumer<ThrottledContext> =
        settings.client().create_with_context(ThrottledContext).map_err(error::client)?;
    let topic = settings.topics.name(Topic::Ingestion).to_owned();
    blocking(move || initial_connect::wait_for_broker(&client, &topic).map(|()| client)).await?
}

/// Creates missing topics. Existing ones are left unchanged, and refused if they differ from
/// the requested ones.
pub async fn create(settings: &Settings, options: CreateTopics) -> Result<Vec<TopicStatus>> {
    settings.validate()?;
    let client = Arc::new(connect(settings).await?);
    let admin = admin(settings)?;
    let mut found = Vec::new();
    for topic in ALL_TOPICS {
        let name = settings.topics.name(topic);
        let requested = if topic == Topic::Ingestion { options.ingestion_partitions } else { 1 };
        let before = partitions(&admin, name).await?;
        if before.is_none() {
            create_topic(&admin, name, requested, options).await?;
        }
        let used = Some(requested).filter(|_| topic == Topic::Ingestion);
        if let Some(count) = before.filter(|count| used.is_some_and(|used| used > *count))
            && is_empty(&client, name, count).await?
        {
            return Err(empty_topic_error(name, requested, count));
        }
        let partitions = check(&admin, settings, topic, used).await?;
        found.push(TopicStatus { name: name.to_owned(), partitions, is_new: before.is_none() });
    }
    Ok(found)
}

fn admin(settings: &Settings) -> Result<Admin> {
    let admin = settings.client().create_with_context::<_, AdminClient<_>>(ThrottledContext);
    admin.map(Arc::new).map_err(error::client)
}

/// Checks the topics at the startup of a process, and reports all problems together. Dead letters
/// are only copies, so problems with their topic never prevent the start.
pub(super) async fn open(admin: &Admin, settings: &Settings) -> Result<PartitionCounts> {
    let mut counts = [0; 3];
    let mut spare = 0..0;
    let mut problems = Vec::new();
    let deadline = Instant::now() + CHECK_WAIT;
    for (count, topic) in counts.iter_mut().zip(ALL_TOPICS) {
        match check_before(deadline, admin, settings, topic).await {
            Ok(found) => {
                *count = settings.configured_partitions(topic).unwrap_or(found);
                if topic == Topic::Ingestion {
                    spare = *count..found;
                }
            }
            Err(error) if topic == Topic::DeadLetters => {
                tracing::warn!(%error, "dead-letter topic is unusable; rejected records are kept only in the store");
            }
            Err(Error::Topic { reason }) => problems.push(reason),
            Err(error) => return Err(error),
        }
    }
    let [ingestion, control, dead_letters] = counts;
    if problems.is_empty() {
        Ok(PartitionCounts { ingestion, spare, control, dead_letters })
    } else {
        Err(Error::Topic { reason: problems.join("; ") })
    }
}

/// Checks one topic at the startup of a process. Retries while no broker answers, as during the election of
/// another leader.
async fn check_before(deadline: Instant, admin: &Admin, settings: &Settings, topic: Topic) -> Result<u32> {
    loop {
        match check(admin, settings, topic, settings.configured_partitions(topic)).await {
            Err(error) if error.is_temporary() && Instant::now() < deadline => {
                tracing::warn!(topic = settings.topics.name(topic), %error, "failed to check a topic; will retry");
                sleep(PAUSE).await;
            }
            checked => return checked,
        }
    }
}

/// Checks one topic and returns its number of partitions. Fewer than `used` are refused,
/// because runs would be spread over two partitions.
async fn check(admin: &Admin, settings: &Settings, topic: Topic, used: Option<u32>) -> Result<u32> {
    let name = settings.topics.name(topic);
    let count = existing_partitions(admin, name).await?;
    if let Some(used) = used.filter(|used| *used > count) {
        return Err(partition_count_error(name, used, count));
    }
    check_config(admin, name).await?;
    Ok(count)
}

fn partition_count_error(name: &str, expected: u32, count: u32) -> Error {
    Error::Topic {
        reason: format!(
            "topic `{name}` has {count} partitions instead of {expected}: the number cannot change, because runs would move; \
             use the original number, or move to a new topic as described in docs/operating/kafka.md"
        ),
    }
}

/// The error for a topic that holds nothing, so that nothing is lost if the operator deletes it. It is not
/// deleted here, because a process may write to it at any time.
fn empty_topic_error(name: &str, expected: u32, count: u32) -> Error {
    Error::Topic {
        reason: format!(
            "topic `{name}` is empty and has {count} partitions instead of {expected}: brokers create such topics when a client \
             asks for them; delete it with `kafka-topics.sh --delete --topic {name}`, and run `matyan topics create` again"
        ),
    }
}

/// Whether no record was ever written to a topic.
async fn is_empty(client: &Arc<BaseConsumer<ThrottledContext>>, name: &str, count: u32) -> Result<bool> {
    let client = client.clone();
    let name = name.to_owned();
    let ends = move || {
        let end = |partition| client.fetch_watermarks(&name, partition as i32, REQUEST_TIMEOUT);
        (0..count)
            .map(|partition| end(partition).map(|(_, end)| end))
            .collect::<std::result::Result<Vec<_>, _>>()
    };
    Ok(blocking(ends).await?.map_err(error::request)?.iter().all(|end| *end == 0))
}

fn missing_topic_error(name: &str) -> Error {
    Error::Topic { reason: format!("topic `{name}` is missing: create it with `matyan topics create`") }
}

/// Returns the number of partitions of a topic that must exist. Any broker may answer, so an answer
/// from a broker that does not know the topic is not proof that it is missing.
async fn existing_partitions(admin: &Admin, name: &str) -> Result<u32> {
    let deadline = Instant::now() + PROPAGATION_WAIT;
    loop {
        match partitions(admin, name).await? {
            Some(count) => return Ok(count),
            None if Instant::now() >= deadline => return Err(missing_topic_error(name)),
            None => sleep(PAUSE).await,
        }
    }
}

/// Returns the number of partitions of a topic, or None if it does not exist.
async fn partitions(admin: &Admin, name: &str) -> Result<Option<u32>> {
    let metadata = metadata(admin, name).await?;
    let topic = metadata.topics().iter().find(|topic| topic.name() == name);
    match topic.map(|topic| (topic.error(), topic.partitions().len() as u32)) {
        None | Some((Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART), _)) => Ok(None),
        Some((None, count)) if count > 0 => Ok(Some(count)),
        Some((failure, _)) => {
            Err(Error::unavailable(format!("topic `{name}` is not ready yet: {failure:?}")))
        }
    }
}

async fn create_topic(admin: &Admin, name: &str, count: u32, options: CreateTopics) -> Result<()> {
    let bytes = MAX_BATCH_BYTES.to_string();
    let replicas = options.min_insync_replicas.to_string();
    let new = NewTopic::new(name, count as i32, TopicReplication::Fixed(i32::from(options.replication)))
        .set(SIZE_LIMIT, &bytes)
        .set("min.insync.replicas", &replicas)
        .set(CLOCK, BROKERS_CLOCK);
    let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT));
    for made in admin.create_topics([&new], &options).await.map_err(error::request)? {
        match made {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => {
                return Err(Error::Topic { reason: format!("failed to create topic `{name}`: {code}") });
            }
        }
    }
    await_leaders(admin, name, count).await
}

/// Waits until a new topic is usable, shortly after its creation. Kafka offers no notification
/// for when all brokers know it.
async fn await_leaders(admin: &Admin, name: &str, count: u32) -> Result<()> {
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    let mut pause = FIRST_PAUSE;
    while !has_leaders(admin, name, count).await? {
        if Instant::now() >= deadline {
            return Err(Error::unavailable(format!(
                "topic `{name}` was created but has no leader yet: try again"
            )));
        }
        sleep(pause).await;
        pause = LAST_PAUSE.min(pause * 2);
    }
    Ok(())
}

async fn has_leaders(admin: &Admin, name: &str, count: u32) -> Result<bool> {
    let metadata = metadata(admin, name).await?;
    let partitions =
        metadata.topics().iter().find(|topic| topic.name() == name).map(|topic| topic.partitions());
    Ok(partitions.is_some_and(|partitions| {
        partitions.len() == count as usize && partitions.iter().all(|partition| partition.leader() >= 0)
    }))
}

async fn metadata(admin: &Admin, name: &str) -> Result<Metadata> {
    let admin = admin.clone();
    let name = name.to_owned();
    let requested = blocking(move || admin.inner().fetch_metadata(Some(&name), REQUEST_TIMEOUT)).await?;
    requested.map_err(error::request)
}

async fn config(admin: &Admin, name: &str) -> Result<Result<ConfigResource, RDKafkaErrorCode>> {
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let described =
        admin.describe_configs([&ResourceSpecifier::Topic(name)], &options).await.map_err(error::request)?;
    described
        .into_iter()
        .next()
        .ok_or_else(|| Error::unavailable(format!("Kafka returned no configuration of topic `{name}`")))
}

/// Lets the topic for data accept records, or refuse all of them, whichever process sends them.
pub async fn set_open(settings: &Settings, is_open: bool) -> Result<()> {
    settings.validate()?;
    connect(settings).await?;
    let admin = admin(settings)?;
    let name = settings.topics.name(Topic::Ingestion);
    existing_partitions(&admin, name).await?;
    let failed = |code| Error::Topic {
        reason: format!(
            "failed to change topic `{name}`: {code}; this user needs the right to alter its configuration"
        ),
    };
    let current = config(&admin, name).await?.map_err(failed)?;
    let bytes = if is_open { MAX_BATCH_BYTES } else { CLOSED_BYTES }.to_string();
    // The request replaces everything that is set for the topic, so it contains all of it.
    let mut wanted = AlterConfig::new(ResourceSpecifier::Topic(name)).set(SIZE_LIMIT, &bytes);
    for entry in current
        .entries
        .iter()
        .filter(|entry| matches!(entry.source, ConfigSource::DynamicTopic))
        .filter(|entry| entry.name != SIZE_LIMIT)
    {
        wanted = wanted.set(&entry.name, entry.value.as_deref().unwrap_or_default());
    }
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let altered = admin.alter_configs([&wanted], &options).await.map_err(error::request)?;
    altered.into_iter().try_for_each(|one| one.map(drop).map_err(|(_, code)| failed(code)))
}

/// Checks the size limit of a topic, which would otherwise reject large records long after startup,
/// and warns about settings that endanger its records.
async fn check_config(admin: &Admin, name: &str) -> Result<()> {
    let described = match config(admin, name).await? {
        Ok(described) => described,
        Err(code) => {
            tracing::warn!(topic = name, %code, "failed to read the limits of a topic; skipping their check");
            return Ok(());
        }
    };
    let number = |key| described.get(key).and_then(|entry| entry.value.as_ref()?.parse::<u64>().ok());
    let limit = number(SIZE_LIMIT);
    if limit == Some(CLOSED_BYTES as u64) {
        tracing::warn!(
            topic = name,
            "the topic was closed by `matyan topics close`, so nothing can be written to it"
        );
        return Ok(());
    }
    if let Some(bytes) = limit.filter(|bytes| *bytes < MAX_BATCH_BYTES as u64) {
        return Err(Error::Topic {
            reason: format!(
                "topic `{name}` accepts only {bytes} bytes: set its `max.message.bytes` to at least {MAX_BATCH_BYTES}"
            ),
        });
    }
    if number("min.insync.replicas").is_some_and(|replicas| replicas < 2) {
        tracing::warn!(
            topic = name,
            "a single broker acknowledges records; set `min.insync.replicas` to 2 in production"
        );
    }
    if described.get(CLOCK).and_then(|entry| entry.value.as_deref()).is_some_and(|it| it != BROKERS_CLOCK) {
        tracing::warn!(
            topic = name,
            "records have the times of their writers, by which the topic's retention deletes them; set \
             `message.timestamp.type` to `LogAppendTime`, or a wrong clock of a frontier loses data"
        );
    }
    Ok(())
}
