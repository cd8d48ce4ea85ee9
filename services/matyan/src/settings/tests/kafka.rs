//! Settings of a log on Kafka, and of its topics.

use std::time::Duration;

use matyan_log::kafka_settings::{Compression, Transfer};

use super::*;

/// An append in flight must end before its frame is retried, while there is still time for a retry.
#[test]
fn an_append_to_kafka_takes_three_quarters_of_the_hold() {
    let up = resolve(Role::Up, &[("log", "kafka:")], &[]).unwrap();
    assert_eq!(kafka(&up).append_wait * 4, matyan_frontier::Settings::default().hold * 3);
}

#[test]
fn kafka_settings_are_applied() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let settings = resolve(
        Role::Up,
        &[("log", "kafka:")],
        &[
            ("KAFKA_DATA_INGESTION_TOPIC", "in"),
            ("KAFKA_CONTROL_EVENTS_TOPIC", "control"),
            ("KAFKA_DEAD_LETTERS_TOPIC", "dead"),
            ("KAFKA_DATA_INGESTION_PARTITIONS", "12"),
            ("KAFKA_CONSUMER_GROUP", "ours"),
            ("KAFKA_LINGER_MS", "0"),
            ("KAFKA_COMPRESSION", "lz4"),
            ("KAFKA_FETCH_MIN_BYTES", "65536"),
            ("KAFKA_FETCH_WAIT_MS", "50"),
            ("KAFKA_SECURITY_PROTOCOL", "sasl_ssl"),
            ("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
            ("KAFKA_SASL_USERNAME", "user"),
            ("KAFKA_SASL_PASSWORD", "hunter2"),
            ("KAFKA_CA_FILE", path),
        ],
    )
    .unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
    let kafka = kafka(&settings);
    let topics = &kafka.topics;
    let names = [&topics.ingestion, &topics.control, &topics.dead_letters].map(String::as_str);
    assert_eq!(
        (names, kafka.ingestion_partitions, kafka.group.as_str()),
        (["in", "control", "dead"], Some(12), "ours")
    );
    let transfer = Transfer {
        linger: Duration::ZERO,
        compression: Compression::Lz4,
        fetch_min_bytes: 65_536,
        fetch_wait: Duration::from_millis(50),
    };
    assert_eq!(kafka.transfer, transfer);
    assert_eq!(kafka.bootstrap_servers, "localhost:9092");
    assert_eq!(kafka.security.protocol.as_deref(), Some("SASL_SSL"));
    assert_eq!(kafka.security.sasl_password.as_deref(), Some("hunter2"));
    assert_eq!(kafka.security.ca_file.as_deref(), Some(file.path()));
}

#[test]
fn requests_are_collected_as_by_default_and_wrong_settings_are_refused() {
    let settings = resolve(Role::Up, &[("log", "kafka:")], &[]).unwrap();
    assert_eq!(kafka(&settings).transfer, Transfer::default());
    let wrong = [
        ("KAFKA_LINGER_MS", "1s"),
        ("KAFKA_COMPRESSION", "zip"),
        ("KAFKA_FETCH_MIN_BYTES", "0"),
        ("KAFKA_FETCH_WAIT_MS", "1"),
    ];
    check_refused(
        Role::Up,
        &[("log", "kafka:")],
        &wrong,
        &[
            "KAFKA_LINGER_MS: `1s` (from KAFKA_LINGER_MS in the environment) is not a time; use",
            "KAFKA_COMPRESSION: `zip` (from KAFKA_COMPRESSION in the environment) is not a compression; use",
            "KAFKA_FETCH_MIN_BYTES: `0` (from KAFKA_FETCH_MIN_BYTES in the environment) is not a number of bytes; use",
            "KAFKA_FETCH_WAIT_MS: `1` (from KAFKA_FETCH_WAIT_MS in the environment) is not a time; use",
        ],
    );
}

#[test]
fn all_violations_of_kafka_settings_are_reported_together() {
    check_refused(
        Role::Up,
        &[("log", "kafka://a:1,b")],
        &[
            ("KAFKA_DATA_INGESTION_TOPIC", "a b"),
            ("KAFKA_CONTROL_EVENTS_TOPIC", "same"),
            ("KAFKA_DEAD_LETTERS_TOPIC", "same"),
            ("KAFKA_DATA_INGESTION_PARTITIONS", "0"),
            ("KAFKA_SASL_MECHANISM", "GSSAPI"),
            ("KAFKA_SASL_PASSWORD", "hunter2"),
            ("KAFKA_CA_FILE", "/nowhere"),
            ("KAFKA_KEY_FILE", "/nowhere"),
        ],
        &[
            "KAFKA_DATA_INGESTION_TOPIC: `a b` (from KAFKA_DATA_INGESTION_TOPIC in the environment) is not a valid Kafka name",
            "KAFKA_DEAD_LETTERS_TOPIC: another topic is also named `same`; use",
            "KAFKA_DATA_INGESTION_PARTITIONS: `0` (from KAFKA_DATA_INGESTION_PARTITIONS in the environment) is not a number",
            "KAFKA_SASL_MECHANISM: `GSSAPI` (from KAFKA_SASL_MECHANISM in the environment) is not supported; use",
            "KAFKA_CA_FILE: `/nowhere` (from KAFKA_CA_FILE in the environment) cannot be read",
            "KAFKA_KEY_FILE: `/nowhere` (from KAFKA_KEY_FILE in the environment) cannot be read",
            "KAFKA_SASL_MECHANISM: set, but the protocol PLAINTEXT has no login; set",
            "KAFKA_SASL_PASSWORD: set, but the protocol PLAINTEXT has no login; set",
            "KAFKA_CA_FILE: set, but the protocol PLAINTEXT has no TLS; set",
            "KAFKA_KEY_FILE: set, but the protocol PLAINTEXT has no TLS; set",
            "KAFKA_CERTIFICATE_FILE: not set, but the other",
            "MATYAN_LOG: `kafka://a:1,b` contains `b`, which",
        ],
    );
    let login = [("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"), ("KAFKA_SASL_USERNAME", "user")];
    check_refused(
        Role::Up,
        &[("log", "kafka:")],
        &login,
        &["KAFKA_SASL_MECHANISM: not set, but", "KAFKA_SASL_PASSWORD: not set, but"],
    );
}

fn resolve_topics(flags: Pairs<'_>, variables: Pairs<'_>) -> Result<TopicsSettings, String> {
    TopicsSettings::resolve(map(flags), map(variables)).map_err(|violations| violations.to_string())
}

#[test]
fn topics_create_settings_are_applied() {
    let made = resolve_topics(&[], &[]).unwrap();
    assert_eq!((made.topics.ingestion_partitions, made.topics.replication), (6, 1));
    assert_eq!(
        (made.topics.min_insync_replicas, made.kafka.bootstrap_servers.as_str()),
        (1, "localhost:9092")
    );
    let made = resolve_topics(&[("replication", "3"), ("partitions", "9")], &[("MATYAN_LOG", "kafka://a:1")]);
    let made = made.unwrap();
    assert_eq!((made.topics.ingestion_partitions, made.topics.min_insync_replicas), (9, 2));
    assert_eq!(made.kafka.bootstrap_servers, "a:1");
    let refused = resolve_topics(&[("log", "embedded:"), ("min-insync-replicas", "2")], &[]).unwrap_err();
    assert!(
        refused.contains("use --log kafka://host:port") && refused.contains("KAFKA_MIN_INSYNC_REPLICAS: "),
        "{refused}"
    );
}
