//! Properties that the guarantees depend on, and checks before any contact with a broker.

use super::{super::Transfer, *};

fn settings() -> Settings {
    Settings::new("127.0.0.1:9092", "workers")
}

#[track_caller]
fn check(config: &ClientConfig, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(config.get(name), Some(*value), "{name}");
    }
}

#[test]
fn rule_03_nothing_is_reordered_skipped_or_acknowledged_by_one_broker() {
    let producer = [
        ("partitioner", "murmur2_random"),
        ("acks", "all"),
        ("enable.idempotence", "true"),
        ("message.timeout.ms", "30000"),
        ("queue.buffering.max.messages", "0"),
    ];
    check(&settings().producer(), &producer);
    for config in [settings().group_member(Topic::Ingestion), settings().fetcher(Topic::Ingestion)] {
        let consumer = [
            ("auto.offset.reset", "error"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("group.id", "workers-data-ingestion"),
            ("check.crcs", "true"),
        ];
        check(&config, &consumer);
    }
    check(
        &settings().group_member(Topic::Control),
        &[("partition.assignment.strategy", "cooperative-sticky")],
    );
}

#[test]
fn rule_03_no_client_creates_a_topic() {
    let settings = settings();
    for config in [
        settings.client(),
        settings.producer(),
        settings.dead_letter_producer(),
        settings.group_member(Topic::Ingestion),
        settings.fetcher(Topic::Ingestion),
        settings.record_reader(Topic::DeadLetters),
    ] {
        check(&config, &[("allow.auto.create.topics", "false")]);
    }
}

#[test]
fn security_reaches_every_client_and_no_log_line() {
    let security = Security {
        protocol: Some("SASL_SSL".into()),
        sasl_mechanism: Some("PLAIN".into()),
        sasl_username: Some("user".into()),
        sasl_password: Some("secret".into()),
        ca_file: Some("/certificates/ca.pem".into()),
        certificate_file: Some("/certificates/own.pem".into()),
        key_file: Some("/certificates/own.key".into()),
    };
    let settings = Settings { security, ..settings() };
    let expected = [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "user"),
        ("sasl.password", "secret"),
        ("ssl.ca.location", "/certificates/ca.pem"),
        ("ssl.certificate.location", "/certificates/own.pem"),
        ("ssl.key.location", "/certificates/own.key"),
    ];
    for config in [
        settings.client(),
        settings.producer(),
        settings.group_member(Topic::Control),
        settings.fetcher(Topic::Control),
    ] {
        check(&config, &expected);
    }
    assert!(!format!("{settings:?}").contains("secret"));
}

#[test]
fn empty_security_settings_keep_the_library_defaults() {
    for name in ["security.protocol", "sasl.mechanism", "sasl.username", "ssl.ca.location"] {
        assert_eq!(settings().client().get(name), None, "{name}");
    }
}

#[test]
fn records_are_collected_and_compressed_as_set() {
    check(&settings().producer(), &[("linger.ms", "2"), ("compression.type", "none")]);
    check(&settings().fetcher(Topic::Ingestion), &[("fetch.min.bytes", "1"), ("fetch.wait.max.ms", "200")]);
    let transfer = Transfer {
        linger: Duration::ZERO,
        compression: Compression::Lz4,
        fetch_min_bytes: 65_536,
        fetch_wait: Duration::from_millis(500),
    };
    let settings = Settings { transfer, ..settings() };
    check(&settings.producer(), &[("linger.ms", "0"), ("compression.type", "lz4")]);
    check(&settings.fetcher(Topic::Control), &[("fetch.min.bytes", "65536"), ("fetch.wait.max.ms", "500")]);
}

#[track_caller]
fn refused(settings: Settings, word: &str) {
    let error = settings.validate().unwrap_err();
    assert!(error.to_string().contains(word), "{error}");
}

#[test]
fn wrong_settings_are_refused_by_name() {
    settings().validate().unwrap();
    refused(Settings { bootstrap_servers: " ".into(), ..settings() }, "bootstrap_servers");
    refused(Settings { group: String::new(), ..settings() }, "group");
    refused(Settings { append_wait: Duration::from_millis(1), ..settings() }, "append_wait");
    let transfer = Transfer { linger: Duration::from_secs(8), ..Transfer::default() };
    refused(Settings { transfer, ..settings() }, "linger");
    let transfer = Transfer { fetch_min_bytes: 0, ..Transfer::default() };
    refused(Settings { transfer, ..settings() }, "fetch_min_bytes");
    let topics = TopicNames { control: "data-ingestion".into(), ..TopicNames::default() };
    refused(Settings { topics, ..settings() }, "same name");
    let security = Security { sasl_username: Some("user".into()), ..Security::default() };
    refused(Settings { security, ..settings() }, "password");
}
