//! Settings of a log on Apache Kafka (`kafka:`): brokers, security, topics and consumer group.
//! Options that the delivery guarantees depend on are fixed by the log crate, and are not
//! settings.

use matyan_log::kafka_settings::{CreateTopics, Security, Settings, TopicNames, Transfer};

use super::{
    parse,
    reader::Reader,
    setting::Setting,
    table::{
        self, KAFKA_CA_FILE, KAFKA_CERTIFICATE_FILE, KAFKA_KEY_FILE, KAFKA_SASL_MECHANISM,
        KAFKA_SASL_PASSWORD, KAFKA_SASL_USERNAME,
    },
};

/// Reads the settings for a URI that starts with `kafka:`. Violations go to the reader.
pub(super) fn read(uri: &str, reader: &mut Reader) -> Settings {
    let topics = TopicNames {
        ingestion: reader.read(&table::KAFKA_INGESTION_TOPIC),
        control: reader.read(&table::KAFKA_CONTROL_TOPIC),
        dead_letters: reader.read(&table::KAFKA_DEAD_LETTERS_TOPIC),
    };
    check_names(&topics, reader);
    let group = reader.read(&table::KAFKA_CONSUMER_GROUP);
    Settings {
        topics,
        ingestion_partitions: reader.optional(&table::KAFKA_PARTITIONS),
        transfer: transfer(reader),
        security: security(reader),
        ..Settings::new(brokers(uri, reader), group)
    }
}

/// Reads the settings of `topics create`.
pub(super) fn read_topics(reader: &mut Reader) -> CreateTopics {
    let replication = reader.read(&table::REPLICATION);
    let quorum = if replication > 2 { "2" } else { "1" };
    let min_insync_replicas = reader.read_or(&table::MIN_INSYNC_REPLICAS, quorum);
    if min_insync_replicas > replication {
        let problem = format!("more than the {replication} replicas of --replication; use fewer");
        reader.refuse(&table::MIN_INSYNC_REPLICAS, problem);
    }
    CreateTopics {
        ingestion_partitions: reader.read(&table::KAFKA_PARTITIONS),
        replication,
        min_insync_replicas,
    }
}

/// Reads the brokers. In production, none may be the development default, no matter which
/// setting names it.
fn brokers(uri: &str, reader: &mut Reader) -> String {
    let (setting, brokers) = match uri.strip_prefix("kafka://") {
        Some(brokers) => {
            let brokers = parse::brokers(brokers).unwrap_or_else(|problem| {
                reader.refuse(&table::LOG, format!("`{uri}` {problem}"));
                String::new()
            });
            (&table::LOG, brokers)
        }
        None => (&table::KAFKA_BOOTSTRAP_SERVERS, reader.read(&table::KAFKA_BOOTSTRAP_SERVERS)),
    };
    let development = table::KAFKA_BOOTSTRAP_SERVERS.definition.default;
    if reader.is_production() && brokers.split(',').any(|broker| Some(broker.trim()) == development) {
        reader.refuse(setting, "blank or the development value; set your brokers");
    }
    brokers
}

fn check_names(TopicNames { ingestion, control, dead_letters }: &TopicNames, reader: &mut Reader) {
    check_name(&table::KAFKA_CONTROL_TOPIC, control, &[ingestion.as_str()], reader);
    check_name(&table::KAFKA_DEAD_LETTERS_TOPIC, dead_letters, &[ingestion.as_str(), control], reader);
}

fn check_name(setting: &Setting<String>, topic: &str, others: &[&str], reader: &mut Reader) {
    if others.contains(&topic) {
        reader.refuse(setting, format!("another topic is also named `{topic}`; use different names"));
    }
}

fn transfer(reader: &mut Reader) -> Transfer {
    Transfer {
        linger: reader.read(&table::KAFKA_LINGER_MS),
        compression: reader.read(&table::KAFKA_COMPRESSION),
        fetch_min_bytes: reader.read(&table::KAFKA_FETCH_MIN_BYTES),
        fetch_wait: reader.read(&table::KAFKA_FETCH_WAIT_MS),
    }
}

fn security(reader: &mut Reader) -> Security {
    let security = Security {
        protocol: reader.optional(&table::KAFKA_SECURITY_PROTOCOL),
        sasl_mechanism: reader.optional(&KAFKA_SASL_MECHANISM),
        sasl_username: reader.optional(&KAFKA_SASL_USERNAME),
        sasl_password: reader.optional(&KAFKA_SASL_PASSWORD),
        ca_file: reader.optional(&KAFKA_CA_FILE),
        certificate_file: reader.optional(&KAFKA_CERTIFICATE_FILE),
        key_file: reader.optional(&KAFKA_KEY_FILE),
    };
    let protocol = security.protocol.as_deref().unwrap_or("PLAINTEXT");
    let has_login = protocol.starts_with("SASL_");
    let has_tls = protocol.ends_with("SSL");
    for setting in [&KAFKA_SASL_MECHANISM, &KAFKA_SASL_USERNAME, &KAFKA_SASL_PASSWORD] {
        let problem = match (has_login, reader.is_set(setting)) {
            (true, false) => format!("not set, but required by the protocol {protocol}; set it"),
            (false, true) => format!(
                "set, but the protocol {protocol} has no login; set KAFKA_SECURITY_PROTOCOL to SASL_SSL, or unset this"
            ),
            _ => continue,
        };
        reader.refuse(setting, problem);
    }
    for setting in [&KAFKA_CA_FILE, &KAFKA_CERTIFICATE_FILE, &KAFKA_KEY_FILE] {
        if reader.is_set(setting) && !has_tls {
            let problem = format!(
                "set, but the protocol {protocol} has no TLS; set KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL, or unset this"
            );
            reader.refuse(setting, problem);
        }
    }
    let has_certificate = reader.is_set(&KAFKA_CERTIFICATE_FILE);
    let has_key = reader.is_set(&KAFKA_KEY_FILE);
    if has_certificate != has_key {
        let lacking = if has_key { &KAFKA_CERTIFICATE_FILE } else { &KAFKA_KEY_FILE };
        reader.refuse(lacking, "not set, but the other one of certificate and key is; set both or neither");
    }
    security
}
