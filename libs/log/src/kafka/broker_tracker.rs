//! Detection of clients that have lost all brokers.
//!
//! librdkafka forgets all brokers if the cluster reports that it has no brokers at the moment, like
//! a single-broker cluster while its broker is fenced. The library may then never look for brokers.
//! Only its statistics reveal that; brokers that are merely unreachable remain known. Such a client
//! must be replaced.

use std::{
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Statistics, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError,
};

use super::log_throttle;

/// Interval of librdkafka's statistics.
pub(super) const STATISTICS_INTERVAL: Duration = Duration::from_secs(5);

/// Time without any known broker after which a client counts as lost. Refreshing the brokers
/// takes only a moment.
const LOST_WAIT: Duration = Duration::from_secs(15);

/// Tracks, from its statistics, whether a client knows any broker. Serves as the context of a
/// polled client.
pub(super) struct BrokerTracker {
    wait: Duration,
    missing_since: Mutex<Option<Instant>>,
}

impl Default for BrokerTracker {
    fn default() -> Self {
        Self::new(LOST_WAIT)
    }
}

impl BrokerTracker {
    pub(super) fn new(wait: Duration) -> Self {
        Self { wait, missing_since: Mutex::default() }
    }

    pub(super) fn record(&self, statistics: &Statistics) {
        // The other sources are placeholders for brokers that have yet to be discovered.
        let knows_any = statistics
            .brokers
            .values()
            .any(|broker| broker.source == "configured" || broker.source == "learned");
        let mut since = self.missing_since();
        *since = if knows_any { None } else { since.or_else(|| Some(Instant::now())) };
    }

    /// True once the client must be replaced.
    pub(super) fn are_lost(&self) -> bool {
        self.missing_since().is_some_and(|since| since.elapsed() >= self.wait)
    }

    fn missing_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.missing_since.lock().expect("no thread panics while holding a time")
    }
}

impl ClientContext for BrokerTracker {
    fn stats(&self, statistics: Statistics) {
        self.record(&statistics);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_throttle::log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_throttle::error(&error, reason);
    }
}

impl ConsumerContext for BrokerTracker {}

#[cfg(test)]
mod tests {
    use rdkafka::{
        ClientConfig,
        consumer::{BaseConsumer, Consumer},
    };

    use super::*;

    /// True if a real client counts as lost after several statistics reports.
    fn is_lost(servers: Option<&str>) -> bool {
        let mut config = ClientConfig::new();
        config.set("group.id", "group").set("statistics.interval.ms", "20");
        if let Some(servers) = servers {
            config.set("bootstrap.servers", servers);
        }
        let client: BaseConsumer<BrokerTracker> =
            config.create_with_context(BrokerTracker::new(Duration::ZERO)).unwrap();
        let start = Instant::now();
        while !client.context().are_lost() && start.elapsed() < Duration::from_secs(2) {
            drop(client.poll(Duration::from_millis(20)));
        }
        client.context().are_lost()
    }

    #[test]
    fn only_a_client_without_known_brokers_is_lost() {
        assert!(is_lost(None));
        // Nothing listens on the discard port, but the broker is still known.
        assert!(!is_lost(Some("127.0.0.1:9")));
    }
}
