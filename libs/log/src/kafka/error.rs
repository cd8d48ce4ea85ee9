//! Conversion of librdkafka's errors. Nearly all are temporary. Setup errors, which waiting
//! does not fix, are recognized by code, never by text.

use std::sync::Arc;

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

use crate::Error;

/// Converts an error of a request to the brokers.
pub(super) fn request(source: KafkaError) -> Error {
    use RDKafkaErrorCode as Code;
    let set_up = match source.rdkafka_error_code() {
        // `UnknownPartition` also means that a partition has no leader at the moment.
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition) => {
            "a topic or partition is missing: create it, or configure another"
        }
        Some(
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed,
        ) => {
            "Kafka denies access: grant this user the rights to read and write the topics and to join the group"
        }
        Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism) => {
            "Kafka refuses the login: check the mechanism, user, and password"
        }
        Some(Code::MessageSizeTooLarge) => {
            "a topic accepts no more records, or none of this size: use the topic that has replaced it, or raise its `max.message.bytes`"
        }
        _ => return unavailable("a request to Kafka failed", source),
    };
    Error::Topic { reason: format!("{set_up} ({source})") }
}

/// True if the brokers did not know a topic or partition, which may be temporary.
pub(super) fn is_missing(source: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let missing = [Code::UnknownTopic, Code::UnknownTopicOrPartition, Code::UnknownPartition];
    source.rdkafka_error_code().is_some_and(|code| missing.contains(&code))
}

/// Converts an error of creating or configuring a client, before any contact with a broker.
pub(super) fn client(source: KafkaError) -> Error {
    Error::Topic { reason: format!("the Kafka settings are invalid: {source}") }
}

pub(super) fn unavailable(reason: &str, source: KafkaError) -> Error {
    Error::Unavailable { reason: reason.into(), source: Some(Arc::new(source)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: RDKafkaErrorCode, is_temporary: bool) {
        assert_eq!(request(KafkaError::MessageProduction(code)).is_temporary(), is_temporary, "{code:?}");
    }

    #[test]
    fn only_setup_errors_are_permanent() {
        use RDKafkaErrorCode as Code;
        for code in [
            Code::MessageTimedOut,
            Code::AllBrokersDown,
            Code::NotEnoughReplicas,
            Code::QueueFull,
            Code::UnknownPartition,
        ] {
            check(code, true);
        }
        for code in [Code::UnknownTopicOrPartition, Code::TopicAuthorizationFailed, Code::MessageSizeTooLarge]
        {
            check(code, false);
        }
    }
}
