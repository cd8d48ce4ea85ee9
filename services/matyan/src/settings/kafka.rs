//! Settings of a log on Apache Kafka (`kafka:`): brokers, security, topics and consumer group.
//! Options that the delivery guarantees depend on are fixed by the log crate, and are not
//! settings.

use matyan_log::kafka::{CreateTopics, Security, Settings, TopicNames};

use super::{
    names::{self, SettingName},
    parse,
    reader::Reader,
    source::Sources,
};

const DEVELOPMENT_BROKER: &str = "localhost:9092";

/// Default consumer group. Matyan 0.3 has its own consumers, which cannot share a group with
/// these.
const GROUP: &str = "matyan";

/// Reads the settings for a URI that begins with `kafka:`. Violations go to the reader.
pub(super) fn read(uri: &str, production: bool, from: &Sources, reader: &mut Reader) -> Settings {
    let text = |name, default, reader: &mut Reader| reader.parse(from, name, default, parse::topic);
    let topics = TopicNames {
        ingestion: text(names::KAFKA_INGESTION_TOPIC, "data-ingestion", reader),
        control: text(names::KAFKA_CONTROL_TOPIC, "control-events", reader),
        dead_letters: text(names::KAFKA_DEAD_LETTERS_TOPIC, "dead-letters", reader),
    };
    check_names(&topics, reader);
    let group = text(names::KAFKA_CONSUMER_GROUP, GROUP, reader);
    Settings {
        topics,
        ingestion_partitions: reader.optional(from, names::KAFKA_PARTITIONS, parse::partitions),
        security: security(from, reader),
        ..Settings::new(brokers(uri, production, from, reader), group)
    }
}

/// Reads the settings of `topics create`.
pub(super) fn read_topics(from: &Sources, reader: &mut Reader) -> CreateTopics {
    let replication = reader.parse(from, names::REPLICATION, "1", parse::replicas);
    let quorum = if replication > 2 { "2" } else { "1" };
    let min_insync_replicas = reader.parse(from, names::MIN_INSYNC_REPLICAS, quorum, parse::replicas);
    if min_insync_replicas > replication {
        let problem = format!("more than the {replication} replicas of --replication; use fewer");
        reader.refuse(names::MIN_INSYNC_REPLICAS.variables[0], problem);
    }
    CreateTopics {
        ingestion_partitions: reader.parse(from, names::KAFKA_PARTITIONS, "6", parse::partitions),
        replication,
        min_insync_replicas,
    }
}

/// Reads the brokers. In production, none may be the development default, no matter which
/// setting names it.
fn brokers(uri: &str, production: bool, from: &Sources, reader: &mut Reader) -> String {
    let (name, brokers) = match uri.strip_prefix("kafka://") {
        Some(brokers) => {
            let name = names::LOG;
            let brokers = parse::brokers(brokers).unwrap_or_else(|problem| {
                reader.refuse(name.variables[0], format!("`{uri}` {problem}"));
                String::new()
            });
            (name, brokers)
        }
        None => {
            let name = names::KAFKA_BOOTSTRAP_SERVERS;
            (name, reader.parse(from, name, DEVELOPMENT_BROKER, parse::brokers))
        }
    };
    if production && brokers.split(',').any(|broker| broker.trim() == DEVELOPMENT_BROKER) {
        reader.refuse(name.variables[0], "blank or the development value; set your brokers");
    }
    brokers
}

fn check_names(TopicNames { ingestion, control, dead_letters }: &TopicNames, reader: &mut Reader) {
    let mut differ = |name: SettingName, topic: &String, others: &[&String]| {
        if others.contains(&topic) {
            let problem = format!("another topic is also named `{topic}`; use different names");
            reader.refuse(name.variables[0], problem);
        }
    };
    differ(names::KAFKA_CONTROL_TOPIC, control, &[ingestion]);
    differ(names::KAFKA_DEAD_LETTERS_TOPIC, dead_letters, &[ingestion, control]);
}

fn security(from: &Sources, reader: &mut Reader) -> Security {
    let security = Security {
        protocol: reader.optional(from, names::KAFKA_SECURITY_PROTOCOL, parse::security_protocol),
        sasl_mechanism: reader.optional(from, names::KAFKA_SASL_MECHANISM, parse::sasl_mechanism),
        sasl_username: from.find(names::KAFKA_SASL_USERNAME).map(|found| found.value),
        sasl_password: from.find(names::KAFKA_SASL_PASSWORD).map(|found| found.value),
        ca_file: reader.optional(from, names::KAFKA_CA_FILE, parse::readable_file),
        certificate_file: reader.optional(from, names::KAFKA_CERTIFICATE_FILE, parse::readable_file),
        key_file: reader.optional(from, names::KAFKA_KEY_FILE, parse::readable_file),
    };
    let protocol = security.protocol.as_deref().unwrap_or("PLAINTEXT");
    let (has_login, has_tls) = (protocol.starts_with("SASL_"), protocol.ends_with("SSL"));
    let is_set = |name: SettingName| from.find(name).is_some();
    for name in [names::KAFKA_SASL_MECHANISM, names::KAFKA_SASL_USERNAME, names::KAFKA_SASL_PASSWORD] {
        let problem = match (has_login, is_set(name)) {
            (true, false) => format!("not set, but required by the protocol {protocol}; set it"),
            (false, true) => format!(
                "set, but the protocol {protocol} has no login; set KAFKA_SECURITY_PROTOCOL to SASL_SSL, or unset this"
            ),
            _ => continue,
        };
        reader.refuse(name.variables[0], problem);
    }
    for name in [names::KAFKA_CA_FILE, names::KAFKA_CERTIFICATE_FILE, names::KAFKA_KEY_FILE] {
        if is_set(name) && !has_tls {
            let problem = format!(
                "set, but the protocol {protocol} has no TLS; set KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL, or unset this"
            );
            reader.refuse(name.variables[0], problem);
        }
    }
    let (certificate, key) = (names::KAFKA_CERTIFICATE_FILE, names::KAFKA_KEY_FILE);
    if is_set(certificate) != is_set(key) {
        let lacking = if is_set(key) { certificate } else { key };
        reader.refuse(
            lacking.variables[0],
            "not set, but the other one of certificate and key is; set both or neither",
        );
    }
    security
}
