//! What librdkafka's errors mean for the caller: nearly all of them end by themselves.
//! A set-up that no waiting heals is told apart by its code, never by its text.

use std::sync::Arc;

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

use crate::Error;

/// From a call to the brokers.
pub(super) fn request(source: KafkaError) -> Error {
    use RDKafkaErrorCode as Code;
    let set_up = match source.rdkafka_error_code() {
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => {
            "a topic or partition is missing: make it, or name another"
        }
        Some(
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed,
        ) => {
            "Kafka refuses access: give this user the rights to write and read the topics and to join the group"
        }
        Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism) => {
            "Kafka refuses the login: check mechanism, user and password"
        }
        Some(Code::MessageSizeTooLarge) => {
            "a topic takes smaller records than it has to: raise its `max.message.bytes`"
        }
        _ => return unavailable("Kafka did not do what it was asked", source),
    };
    Error::Topic { reason: format!("{set_up} ({source})") }
}

/// Whether the brokers that were asked did not know a topic or partition, which may be so for a moment.
pub(super) fn is_missing(source: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let missing = [Code::UnknownTopic, Code::UnknownTopicOrPartition, Code::UnknownPartition];
    source.rdkafka_error_code().is_some_and(|code| missing.contains(&code))
}

/// From making or configuring a client: before any broker was asked.
pub(super) fn client(source: KafkaError) -> Error {
    Error::Topic { reason: format!("the settings for Kafka are refused: {source}") }
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
    fn only_what_no_waiting_heals_is_lasting() {
        use RDKafkaErrorCode as Code;
        for code in [Code::MessageTimedOut, Code::AllBrokersDown, Code::NotEnoughReplicas, Code::QueueFull] {
            check(code, true);
        }
        for code in [Code::UnknownTopicOrPartition, Code::TopicAuthorizationFailed, Code::MessageSizeTooLarge]
        {
            check(code, false);
        }
    }
}
