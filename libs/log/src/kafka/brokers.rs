//! Whether a client still knows any broker. librdkafka forgets all of them when the cluster tells that it has none at the moment,
//! as one of a single broker does while that is fenced, and may then never look for any again. What it tells of itself shows
//! that, and nothing else does: brokers that are merely away stay known. So such a client is made anew.

use std::{
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Statistics, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError,
};

use super::told;

/// How often a client tells of itself.
pub(super) const TELL: Duration = Duration::from_secs(5);

/// To look for brokers anew takes a moment; whoever knows none for so long does not look.
const LOST_WAIT: Duration = Duration::from_secs(15);

/// What a client has told of the brokers that it knows: the context of one that is polled.
pub(super) struct Brokers {
    wait: Duration,
    missing_since: Mutex<Option<Instant>>,
}

impl Default for Brokers {
    fn default() -> Self {
        Self::new(LOST_WAIT)
    }
}

impl Brokers {
    pub(super) fn new(wait: Duration) -> Self {
        Self { wait, missing_since: Mutex::default() }
    }

    pub(super) fn heard(&self, statistics: &Statistics) {
        // The others are places for brokers that are to be found through these.
        let is_real = |source: &str| source == "configured" || source == "learned";
        let knows_any = statistics.brokers.values().any(|broker| is_real(&broker.source));
        let mut since = self.missing_since();
        *since = if knows_any { None } else { since.or_else(|| Some(Instant::now())) };
    }

    /// True once the client has to be made anew.
    pub(super) fn are_lost(&self) -> bool {
        self.missing_since().is_some_and(|since| since.elapsed() >= self.wait)
    }

    fn missing_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.missing_since.lock().expect("nobody panics while holding a time")
    }
}

impl ClientContext for Brokers {
    fn stats(&self, statistics: Statistics) {
        self.heard(&statistics);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        told::log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        told::error(&error, reason);
    }
}

impl ConsumerContext for Brokers {}

#[cfg(test)]
mod tests {
    use rdkafka::{
        ClientConfig,
        consumer::{BaseConsumer, Consumer},
    };

    use super::*;

    /// What a real client tells of itself within a few of its reports.
    fn is_lost(servers: Option<&str>) -> bool {
        let mut config = ClientConfig::new();
        config.set("group.id", "group").set("statistics.interval.ms", "20");
        if let Some(servers) = servers {
            config.set("bootstrap.servers", servers);
        }
        let client: BaseConsumer<Brokers> = config.create_with_context(Brokers::new(Duration::ZERO)).unwrap();
        let start = Instant::now();
        while !client.context().are_lost() && start.elapsed() < Duration::from_secs(2) {
            drop(client.poll(Duration::from_millis(20)));
        }
        client.context().are_lost()
    }

    #[test]
    fn only_a_client_that_knows_no_broker_is_lost() {
        assert!(is_lost(None));
        // Nothing listens on the discard port, and it is known all the same.
        assert!(!is_lost(Some("127.0.0.1:9")));
    }
}
