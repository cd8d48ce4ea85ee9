//! Tests of behavior specific to Kafka: topics created by others, and retention. Logins and TLS
//! are covered by the whole-system tests.

use std::{collections::BTreeMap, sync::Arc};

use libtest_mimic::Trial;
use matyan_log::{
    Delivery, Error, LogInspector, LogReader, LogWriter, NewRecord, Topic,
    conformance::{Capability, Fixture, Shape, ignored_for, run_case},
    kafka::{CreateTopics, KafkaLog, Settings, TopicNames, topic_set_open, topics_create},
};
use rdkafka::{
    ClientConfig,
    admin::{
        AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
};

use super::{Kafka, ONE_EACH, blocking, make_topics, new_settings, shared_address};

pub(crate) fn kafka_specific_trials() -> Vec<Trial> {
    let unavailable_reason = Kafka.missing_reason(Capability::Log);
    let trials = [
        Trial::test("kafka::missing_topics_are_created_only_on_request", || run_case(missing_topics())),
        Trial::test("kafka::a_missing_dead_letter_topic_blocks_nothing_else", || {
            run_case(missing_dead_letters())
        }),
        Trial::test("kafka::a_different_partition_count_moves_no_keys", || {
            run_case(another_partition_count())
        }),
        Trial::test("kafka::rule_43_a_closed_topic_takes_nothing_until_it_is_opened", || {
            run_case(closed_topic())
        }),
        Trial::test("kafka::a_topic_with_a_low_size_limit_is_refused", || run_case(smaller_records())),
        Trial::test("kafka::a_reader_overtaken_by_retention_gets_an_error", || run_case(overtaken())),
        Trial::test("kafka::all_overtaken_partitions_are_reported", || run_case(all_overtaken())),
        Trial::test("kafka::other_topics_may_have_any_number_of_partitions", || run_case(any_partitions())),
        Trial::test("kafka::trim_deletes_only_if_enabled", || run_case(trim_without_deleting())),
        Trial::test("kafka::rule_42_a_recreated_topic_has_another_identity", || run_case(recreated())),
        Trial::test("kafka::an_unreachable_server_is_unavailable", || run_case(no_server())),
    ];
    trials.into_iter().map(|trial| ignored_for(unavailable_reason.clone(), trial)).collect()
}

async fn settings() -> Settings {
    new_settings(blocking(shared_address).await, Shape::default())
}

/// Settings for newly created topics with one partition each.
async fn settings_and_topics() -> Settings {
    let settings = settings().await;
    make_topics(&settings, 1).await;
    settings
}

async fn refusal(settings: &Settings) -> String {
    match KafkaLog::open(settings.clone()).await {
        Err(Error::Topic { reason }) => reason,
        Err(other) => panic!("unexpected error: {other}"),
        Ok(_) => panic!("the log opened despite unsuitable topics"),
    }
}

fn admin(settings: &Settings) -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", &settings.bootstrap_servers)
        .create()
        .expect("a client can be created")
}

async fn missing_topics() {
    let settings = settings().await;
    let reason = refusal(&settings).await;
    let TopicNames { ingestion, control, dead_letters } = &settings.topics;
    assert!(reason.contains(ingestion) && reason.contains(control) && reason.contains("missing"), "{reason}");
    assert!(!reason.contains(dead_letters), "{reason}");
    for is_new in [true, false] {
        let found = topics_create(&settings, ONE_EACH).await.expect("creating the topics succeeds");
        assert!(found.iter().all(|topic| topic.is_new == is_new && topic.partitions == 1), "{found:?}");
    }
    for name in [ingestion, control, dead_letters] {
        let topic = [ResourceSpecifier::Topic(name)];
        let described = admin(&settings).describe_configs(&topic, &AdminOptions::new()).await;
        let described = described.expect("the broker answers").remove(0).expect("the topic exists");
        let clock = described.get("message.timestamp.type").and_then(|entry| entry.value.as_deref());
        assert_eq!(clock, Some("LogAppendTime"), "a wrong clock of a writer deletes nothing");
    }
    let more = CreateTopics { ingestion_partitions: 6, ..ONE_EACH };
    let refused = topics_create(&settings, more).await.expect_err("the partition count differs").to_string();
    assert!(refused.contains("1 partitions instead of 6"), "{refused}");
    KafkaLog::open(settings).await.expect("the topics exist");
}

/// A missing dead-letter topic fails appends to it, quickly, and nothing else.
async fn missing_dead_letters() {
    let settings = settings_and_topics().await;
    let gone = [settings.topics.dead_letters.as_str()];
    admin(&settings).delete_topics(&gone, &AdminOptions::new()).await.expect("deleting the topic succeeds");
    let wait = settings.append_wait;
    let log = KafkaLog::open(settings).await.expect("the other topics exist");
    log.append(Topic::Ingestion, vec![record("x")]).await.expect("the append succeeds");
    let start = tokio::time::Instant::now();
    log.append(Topic::DeadLetters, vec![record("x")]).await.expect_err("the topic is missing");
    assert!(start.elapsed() < wait, "copies time out earlier than records");
    log.close().await.expect("the log closes");
}

/// Every append is refused, also of logs that were opened before, until the topic is reopened. Other
/// settings of the topic are kept.
async fn closed_topic() {
    let settings = settings_and_topics().await;
    let topic = ResourceSpecifier::Topic(&settings.topics.ingestion);
    let own = AlterConfig::new(ResourceSpecifier::Topic(&settings.topics.ingestion))
        .set("max.message.bytes", "20000000")
        .set("retention.ms", "86400000")
        .set("min.insync.replicas", "1");
    let altered = admin(&settings).alter_configs([&own], &AdminOptions::new()).await;
    altered.expect("the broker answers")[0].as_ref().expect("the topic is changed");
    let log = KafkaLog::open(settings.clone()).await.expect("the topics exist");
    log.append(Topic::Ingestion, vec![record("before")]).await.expect("the topic is open");
    topic_set_open(&settings, false).await.expect("the topic can be closed");
    let refused = loop {
        // The leader of the partition may not know yet.
        if let Err(refused) = log.append(Topic::Ingestion, vec![record("meanwhile")]).await {
            break refused;
        }
    };
    assert!(refused.to_string().contains("accepts no more records"), "{refused}");
    let end = log.describe(Topic::Ingestion).await.expect("describing succeeds").partitions[0].end;
    // A process that applies the rest may be started, and cannot write either.
    let second = KafkaLog::open(settings.clone()).await.expect("a closed topic can be read");
    for log in [&log, &second] {
        log.append(Topic::Ingestion, vec![record("late")]).await.expect_err("the topic is closed");
        let now = log.describe(Topic::Ingestion).await.expect("describing succeeds").partitions[0].end;
        assert_eq!(now, end, "nothing is written to a closed topic");
    }
    topic_set_open(&settings, true).await.expect("the topic can be opened");
    while log.append(Topic::Ingestion, vec![record("after")]).await.is_err() {}
    let described = admin(&settings).describe_configs([&topic], &AdminOptions::new()).await;
    let described = described.expect("the broker answers").remove(0).expect("the topic exists");
    assert_eq!(
        ["max.message.bytes", "retention.ms", "min.insync.replicas"]
            .map(|key| described.get(key).and_then(|entry| entry.value.clone()).unwrap_or_default()),
        ["17956864", "86400000", "1"]
    );
}

async fn another_partition_count() {
    let made = settings_and_topics().await;
    let log = KafkaLog::open(made.clone()).await.expect("the topics exist");
    let reason = refusal(&Settings { ingestion_partitions: Some(6), ..made.clone() }).await;
    assert!(reason.contains("1 partitions instead of 6"), "{reason}");
    let grown = NewPartitions::new(&made.topics.ingestion, 2);
    admin(&made).create_partitions([&grown], &AdminOptions::new()).await.expect("growing the topic succeeds");
    let info = log.describe(Topic::Ingestion).await.expect("describing succeeds");
    assert_eq!(info.partitions.len(), 1);
    // A log opened before keeps its partitions: no key moves.
    for number in 0..64_u8 {
        let keyed = NewRecord { key: vec![number].into(), ..record("x") };
        let at = log.append(Topic::Ingestion, vec![keyed]).await.expect("the append succeeds");
        assert_eq!(at[0].partition, 0);
    }
    // The same is true of a log with a configured number of partitions,
    let grown = loop {
        let unconfigured = Settings { ingestion_partitions: None, ..made.clone() };
        let grown = KafkaLog::open(unconfigured).await.expect("the topics exist");
        // The broker may not know about the growth yet.
        if grown.describe(Topic::Ingestion).await.expect("describing succeeds").partitions.len() == 2 {
            break grown;
        }
    };
    make_topics(&made, 1).await;
    let log = KafkaLog::open(made.clone()).await.expect("the first partitions are usable");
    let info = log.describe(Topic::Ingestion).await.expect("describing succeeds");
    assert_eq!(info.partitions.len(), 1);
    let mut subscription = log.subscribe(Topic::Ingestion).await.expect("subscribing succeeds");
    let Ok(Delivery::Assigned { partition: 0 }) = subscription.next().await else {
        panic!("expected its only partition")
    };
    subscription.start(0, 63.into()).await.expect("the partition starts");
    let Ok(Delivery::Records { partition: 0, .. }) = subscription.next().await else {
        panic!("expected a record")
    };
    // until a writer without that setting uses the other partitions.
    for number in 0..64_u8 {
        let keyed = NewRecord { key: vec![number].into(), ..record("x") };
        grown.append(Topic::Ingestion, vec![keyed]).await.expect("the append succeeds");
    }
    let reason = refusal(&made).await;
    assert!(reason.contains("partition 1 holds records"), "{reason}");
}

async fn smaller_records() {
    let settings = settings().await;
    let small = NewTopic::new(&settings.topics.ingestion, 1, TopicReplication::Fixed(1));
    admin(&settings)
        .create_topics([&small], &AdminOptions::new())
        .await
        .expect("creating the topic succeeds");
    let reason = refusal(&settings).await;
    assert!(reason.contains("max.message.bytes"), "{reason}");
}

async fn overtaken() {
    let settings = settings_and_topics().await;
    let log = Arc::new(KafkaLog::open(settings).await.expect("the topics exist"));
    let large = NewRecord { value: vec![7; 1 << 20].into(), ..record("") };
    // More than a subscription prefetches.
    for _ in 0..64 {
        log.append(Topic::Ingestion, vec![large.clone()]).await.expect("the append succeeds");
    }
    let mut subscription = log.subscribe(Topic::Ingestion).await.expect("subscribing succeeds");
    let Ok(Delivery::Assigned { partition }) = subscription.next().await else {
        panic!("expected an assignment first")
    };
    subscription.start(partition, 0.into()).await.expect("the partition starts");
    let Ok(Delivery::Records { .. }) = subscription.next().await else { panic!("expected records") };
    log.trim(Topic::Ingestion, partition, 63).await.expect("trimming succeeds");
    let error = loop {
        match subscription.next().await {
            Ok(Delivery::Records { records, .. }) => {
                assert!(records.iter().all(|record| record.offset < 63), "records were skipped")
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Trimmed { first: 63, requested, .. } if requested < 63), "{error}");
    subscription.start(partition, 63.into()).await.expect("the first remaining offset is a valid start");
    let Ok(Delivery::Records { records, .. }) = subscription.next().await else { panic!("expected records") };
    assert_eq!(records[0].offset, 63);
}

/// Two of three partitions lose unread records; the third one continues.
async fn all_overtaken() {
    const PARTITIONS: u32 = 3;
    const LOST: [u32; 2] = [0, 2];
    let settings =
        new_settings(blocking(shared_address).await, Shape { partitions: PARTITIONS, ..Shape::default() });
    make_topics(&settings, PARTITIONS).await;
    let log = Arc::new(KafkaLog::open(settings).await.expect("the topics exist"));
    let keys = keys_of_partitions(&log, PARTITIONS).await;
    let large = |partition: u32| NewRecord {
        key: keys[partition as usize].clone(),
        value: vec![7; 1 << 20].into(),
        headers: vec![],
    };
    // More than a subscription prefetches.
    for _ in 0..32 {
        for partition in LOST {
            log.append(Topic::Ingestion, vec![large(partition)]).await.expect("the append succeeds");
        }
    }
    let mut subscription = log.subscribe(Topic::Ingestion).await.expect("subscribing succeeds");
    for _ in 0..PARTITIONS {
        let Ok(Delivery::Assigned { partition }) = subscription.next().await else {
            panic!("expected the assignments first")
        };
        subscription.start(partition, 0.into()).await.expect("the partition starts");
    }
    let Ok(Delivery::Records { .. }) = subscription.next().await else { panic!("expected records") };
    let info = log.describe(Topic::Ingestion).await.expect("describing succeeds");
    for partition in LOST {
        let end = info.partitions[partition as usize].end;
        log.trim(Topic::Ingestion, partition, end).await.expect("trimming succeeds");
    }
    let mut trimmed = Vec::new();
    while trimmed.len() < LOST.len() {
        match subscription.next().await {
            Ok(Delivery::Records { partition, .. }) => {
                assert!(!trimmed.contains(&partition), "delivered without a restart")
            }
            Err(Error::Trimmed { partition, .. }) => trimmed.push(partition),
            other => panic!("{other:?}"),
        }
    }
    trimmed.sort_unstable();
    assert_eq!(trimmed, LOST);
    let last = log.append(Topic::Ingestion, vec![large(1)]).await.expect("the append succeeds")[0];
    loop {
        let Ok(Delivery::Records { partition, records }) = subscription.next().await else {
            panic!("the third partition stopped")
        };
        assert_eq!(partition, last.partition);
        if records.last().is_some_and(|record| record.offset == last.offset) {
            break;
        }
    }
}

/// Returns a key for each partition, and appends a record with each.
async fn keys_of_partitions(log: &KafkaLog, partitions: u32) -> Vec<bytes::Bytes> {
    let mut keys = BTreeMap::new();
    for number in 0_u32.. {
        let key = bytes::Bytes::from(number.to_string());
        let keyed = NewRecord { key: key.clone(), ..record("x") };
        let at = log.append(Topic::Ingestion, vec![keyed]).await.expect("the append succeeds");
        keys.insert(at[0].partition, key);
        if keys.len() == partitions as usize {
            break;
        }
    }
    keys.into_values().collect()
}

/// Runs depend only on the number of ingestion partitions.
async fn any_partitions() {
    let settings = settings().await;
    let control = NewTopic::new(&settings.topics.control, 2, TopicReplication::Fixed(1))
        .set("max.message.bytes", "20000000");
    admin(&settings)
        .create_topics([&control], &AdminOptions::new())
        .await
        .expect("creating the topic succeeds");
    let found = topics_create(&settings, ONE_EACH).await.expect("creating the other topics succeeds");
    let partitions: Vec<_> = found.iter().map(|topic| topic.partitions).collect();
    assert_eq!(partitions, [1, 2, 1]);
    KafkaLog::open(settings).await.expect("all topics exist");
}

async fn trim_without_deleting() {
    let settings = Settings { delete_trimmed: false, ..settings_and_topics().await };
    let log = KafkaLog::open(settings).await.expect("the topics exist");
    log.append(Topic::Ingestion, vec![record("a"), record("b")]).await.expect("the append succeeds");
    log.trim(Topic::Ingestion, 0, 2).await.expect("trimming succeeds");
    assert_eq!(log.describe(Topic::Ingestion).await.expect("describing succeeds").partitions[0].first, 0);
}

/// The new topic has as many partitions and records as the old one.
async fn recreated() {
    let settings = settings_and_topics().await;
    let log = KafkaLog::open(settings.clone()).await.expect("the topics exist");
    let describe = async |log: &KafkaLog| {
        log.append(Topic::Ingestion, vec![record("x")]).await.expect("the append succeeds");
        log.describe(Topic::Ingestion).await.expect("describing succeeds")
    };
    let before = describe(&log).await;
    assert_ne!(before.identity, [0; 16]);
    log.close().await.expect("the log closes");
    let gone = [settings.topics.ingestion.as_str()];
    admin(&settings).delete_topics(&gone, &AdminOptions::new()).await.expect("deleting the topic succeeds");
    make_topics(&settings, 1).await;
    let log = KafkaLog::open(settings).await.expect("the topics exist");
    let after = describe(&log).await;
    assert_ne!(after.identity, before.identity);
    assert_eq!(after.partitions, before.partitions);
}

async fn no_server() {
    // Nothing listens on the discard port.
    let settings = Settings { bootstrap_servers: "127.0.0.1:9".into(), ..settings().await };
    let error = KafkaLog::open(settings).await.err().expect("no server is listening");
    assert!(error.is_temporary(), "{error}");
}

fn record(value: &'static str) -> NewRecord {
    NewRecord {
        key: bytes::Bytes::new(),
        value: bytes::Bytes::from_static(value.as_bytes()),
        headers: vec![],
    }
}
