//! Throttling of librdkafka's log lines. While a broker is away, all clients log the same lines
//! about twice a second. So each kind of line is logged once per interval, with the number of
//! lines suppressed since.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::Mutex,
    time::{Duration, Instant},
};

use rdkafka::{ClientContext, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError};

/// Minimum interval between two lines of the same kind.
const INTERVAL: Duration = Duration::from_secs(30);

/// Age after which a kind is forgotten, so that its next line counts as new.
const FORGET_AFTER: Duration = Duration::from_secs(120);

/// Shared by the whole process, because all clients log the same lines.
static THROTTLE: Mutex<Throttle> = Mutex::new(Throttle { kinds: BTreeMap::new() });

struct Throttle {
    kinds: BTreeMap<String, LineKind>,
}

struct LineKind {
    logged_at: Instant,
    kept_back: u64,
}

impl Throttle {
    /// Returns the number of suppressed lines of this kind if the line should be logged
    /// now.
    fn due(&mut self, text: &str, now: Instant) -> Option<u64> {
        self.kinds.retain(|_, kind| now.duration_since(kind.logged_at) < FORGET_AFTER);
        let name = kind(text);
        if let Some(kind) = self.kinds.get_mut(&name)
            && now.duration_since(kind.logged_at) < INTERVAL
        {
            kind.kept_back += 1;
            return None;
        }
        let before = self.kinds.insert(name, LineKind { logged_at: now, kept_back: 0 });
        Some(before.map_or(0, |kind| kind.kept_back))
    }
}

/// The text without its variable parts: the thread, the duration, and all numbers except the
/// numbers in the broker's name at the start.
fn kind(text: &str) -> String {
    let line = text.strip_prefix("[thrd:").and_then(|text| Some(text.split_once("]: ")?.1)).unwrap_or(text);
    let line = line.split(" (after ").next().unwrap_or(line);
    let (broker, rest) = line.split_at(line.find(' ').unwrap_or(line.len()));
    broker.chars().chain(rest.chars().filter(|char| !char.is_ascii_digit())).collect()
}

fn due(text: &str) -> Option<u64> {
    THROTTLE.lock().expect("no thread panics while holding the memory").due(text, Instant::now())
}

pub(super) fn log(level: RDKafkaLogLevel, facility: &str, text: &str) {
    use RDKafkaLogLevel as Level;
    let Some(kept_back) = due(text) else { return };
    match level {
        Level::Emerg | Level::Alert | Level::Critical | Level::Error => {
            tracing::error!(target: "librdkafka", facility, kept_back, "{text}");
        }
        Level::Warning => tracing::warn!(target: "librdkafka", facility, kept_back, "{text}"),
        Level::Notice | Level::Info => tracing::info!(target: "librdkafka", facility, kept_back, "{text}"),
        Level::Debug => tracing::debug!(target: "librdkafka", facility, kept_back, "{text}"),
    }
}

pub(super) fn error(error: &KafkaError, reason: &str) {
    if let Some(kept_back) = due(reason) {
        tracing::error!(target: "librdkafka", %error, kept_back, "{reason}");
    }
}

/// Logs a problem that librdkafka retries automatically.
pub(super) fn warn(what: &str, error: &(dyn Error + 'static)) {
    if let Some(kept_back) = due(&format!("{what}: {error:?}")) {
        tracing::warn!(error, kept_back, "{what}");
    }
}

/// The context of a client that needs only throttled logging.
pub(super) struct ThrottledContext;

impl ClientContext for ThrottledContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }

    fn error(&self, source: KafkaError, reason: &str) {
        error(&source, reason);
    }
}

impl ConsumerContext for ThrottledContext {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_logged_once_per_interval() {
        let mut throttle = Throttle { kinds: BTreeMap::new() };
        let start = Instant::now();
        let mut due = |seconds, text: &str| throttle.due(text, start + Duration::from_secs(seconds));
        assert_eq!(due(1, "[thrd:k1:9092/1]: k1:9092/1: Refused 4 times (after 3ms)"), Some(0));
        assert_eq!(due(2, "k1:9092/1: Refused 5 times (after 14ms, 7 suppressed)"), None);
        assert_eq!(due(2, "k1:9092/1: Disconnected (after 14ms)"), Some(0), "a different kind");
        assert_eq!(due(2, "k2:9092/2: Refused 5 times"), Some(0), "a different broker");
        assert_eq!(due(3, "k1:9092/1: Refused 6 times"), None);
        assert_eq!(due(31, "k1:9092/1: Refused 7 times"), Some(2));
        assert_eq!(due(32, "k1:9092/1: Refused 8 times"), None);
        assert_eq!(due(300, "k1:9092/1: Refused 9 times"), Some(0), "new after a long pause");
        assert_eq!(throttle.kinds.len(), 1, "old kinds are forgotten");
    }
}
