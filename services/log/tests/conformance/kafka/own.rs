//! What only Kafka can get wrong: topics that others made, a login, retention.

use std::sync::Arc;

use libtest_mimic::Trial;
use matyan_log::{
    Delivery, Error, LogReader, LogWriter, NewRecord, Topic,
    conformance::{Fixture, Need, Shape, ignored_for, play},
    kafka::{KafkaLog, Security, Settings},
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};

use super::{Kafka, blocking, new_settings, shared, shared_address};

pub(crate) fn own_trials() -> Vec<Trial> {
    let lacking = Kafka.lacks(Need::Log);
    let trials = [
        Trial::test("kafka::missing_topics_are_made_only_when_told", || play(missing_topics())),
        Trial::test("kafka::another_partition_count_is_refused", || play(another_partition_count())),
        Trial::test("kafka::a_topic_for_smaller_records_is_refused", || play(smaller_records())),
        Trial::test("kafka::login_over_tls", || play(login_over_tls())),
        Trial::test("kafka::a_reader_overtaken_by_retention_is_told", || play(overtaken())),
        Trial::test("kafka::trim_deletes_only_when_told", || play(trim_without_deleting())),
        Trial::test("kafka::a_server_that_is_not_there_is_unavailable", || play(no_server())),
    ];
    trials.into_iter().map(|trial| ignored_for(lacking.clone(), trial)).collect()
}

async fn settings() -> Settings {
    new_settings(blocking(shared_address).await, Shape::default())
}

async fn refusal(settings: &Settings) -> String {
    match KafkaLog::open(settings.clone()).await {
        Err(Error::Topic { reason }) => reason,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it was opened"),
    }
}

fn admin(settings: &Settings) -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", &settings.bootstrap_servers)
        .create()
        .expect("a client is made")
}

async fn missing_topics() {
    let made = settings().await;
    let settings = Settings { create_topics: None, ..made.clone() };
    let reason = refusal(&settings).await;
    assert!(reason.contains(&settings.topics.ingestion) && reason.contains("missing"), "{reason}");
    KafkaLog::open(made).await.expect("they are made");
    KafkaLog::open(settings).await.expect("now they are there");
}

async fn another_partition_count() {
    let made = settings().await;
    let log = KafkaLog::open(made.clone()).await.expect("the topics are made");
    let reason = refusal(&Settings { ingestion_partitions: Some(6), ..made.clone() }).await;
    assert!(reason.contains("1 partitions instead of 6"), "{reason}");
    let grown = NewPartitions::new(&made.topics.ingestion, 2);
    admin(&made).create_partitions([&grown], &AdminOptions::new()).await.expect("the topic grows");
    loop {
        match log.describe(Topic::Ingestion).await {
            // The broker has not heard of it yet.
            Ok(info) => assert_eq!(info.partitions.len(), 1),
            Err(Error::Topic { reason }) => {
                break assert!(reason.contains("2 partitions instead of 1"), "{reason}");
            }
            Err(other) => panic!("{other}"),
        }
    }
}

async fn smaller_records() {
    let settings = settings().await;
    let small = NewTopic::new(&settings.topics.ingestion, 1, TopicReplication::Fixed(1));
    admin(&settings).create_topics([&small], &AdminOptions::new()).await.expect("the topic is made");
    let reason = refusal(&settings).await;
    assert!(reason.contains("max.message.bytes"), "{reason}");
}

async fn login_over_tls() {
    let (bootstrap_servers, ca_file) =
        blocking(|| shared(|broker| (broker.secure_address(), broker.certificate()))).await;
    let security = Security {
        protocol: Some("SASL_SSL".into()),
        sasl_mechanism: Some("PLAIN".into()),
        sasl_username: Some("user".into()),
        sasl_password: Some("password".into()),
        ca_file: Some(ca_file),
    };
    let settings = Settings { bootstrap_servers, security, ..settings().await };
    let log = KafkaLog::open(settings.clone()).await.expect("the login is right");
    log.append(Topic::Control, vec![record("x")]).await.expect("the append is answered");
    log.close().await.expect("it is closed");
    let wrong = Security { sasl_password: Some("wrong".into()), ..settings.security.clone() };
    assert!(KafkaLog::open(Settings { security: wrong, ..settings.clone() }).await.is_err());
    let unchecked = Security { ca_file: None, ..settings.security.clone() };
    assert!(
        KafkaLog::open(Settings { security: unchecked, ..settings }).await.is_err(),
        "nobody vouches for the broker"
    );
}

async fn overtaken() {
    let settings = settings().await;
    let log = Arc::new(KafkaLog::open(settings).await.expect("the topics are made"));
    let large = NewRecord { value: vec![7; 1 << 20].into(), ..record("") };
    // More than a subscription fetches ahead.
    for _ in 0..64 {
        log.append(Topic::Ingestion, vec![large.clone()]).await.expect("the append is answered");
    }
    let mut subscription = log.subscribe(Topic::Ingestion).await.expect("the subscription is made");
    let Ok(Delivery::Assigned { partition }) = subscription.next().await else {
        panic!("first comes the assignment")
    };
    subscription.start(partition, 0).await.expect("the partition is started");
    let Ok(Delivery::Records { .. }) = subscription.next().await else { panic!("then come records") };
    log.trim(Topic::Ingestion, partition, 63).await.expect("the log is trimmed");
    let error = loop {
        match subscription.next().await {
            Ok(Delivery::Records { records, .. }) => {
                assert!(records.iter().all(|record| record.offset < 63), "a gap")
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Trimmed { first: 63, asked, .. } if asked < 63), "{error}");
    subscription.start(partition, 63).await.expect("the rest can be read");
    let Ok(Delivery::Records { records, .. }) = subscription.next().await else { panic!("it is delivered") };
    assert_eq!(records[0].offset, 63);
}

async fn trim_without_deleting() {
    let settings = Settings { delete_trimmed: false, ..settings().await };
    let log = KafkaLog::open(settings).await.expect("the topics are made");
    log.append(Topic::Ingestion, vec![record("a"), record("b")]).await.expect("the append is answered");
    log.trim(Topic::Ingestion, 0, 2).await.expect("it is heard");
    assert_eq!(log.describe(Topic::Ingestion).await.expect("it is described").partitions[0].first, 0);
}

async fn no_server() {
    // Nothing listens on the discard port.
    let settings = Settings { bootstrap_servers: "127.0.0.1:9".into(), ..settings().await };
    let error = KafkaLog::open(settings).await.err().expect("there is no server");
    assert!(error.is_temporary(), "{error}");
}

fn record(value: &'static str) -> NewRecord {
    NewRecord {
        key: bytes::Bytes::new(),
        value: bytes::Bytes::from_static(value.as_bytes()),
        headers: vec![],
    }
}
