//! A limit on messages that say nothing new. Otherwise a server could keep the I/O thread busy with them.

use std::time::Duration;

use tokio::time::Instant;

/// Time in which messages without anything new are counted.
const PERIOD: Duration = Duration::from_secs(65);
/// Most messages without anything new, within `PERIOD`, before a connection is given up. A server of Matyan
/// sends a few.
const MOST_IDLE_MESSAGES: u32 = 10_000;

/// The number of messages since the last one that brought anything new.
#[derive(Default)]
pub(crate) struct IdleMessages {
    count: u32,
    /// When the first of them arrived.
    since: Option<Instant>,
}

impl IdleMessages {
    /// Forgets the counted messages, because a message has brought something new.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Counts a message without anything new. Returns whether there are more than any server needs to send.
    pub(crate) fn count(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        if now.duration_since(since) > PERIOD {
            self.reset();
            return false;
        }
        self.count += 1;
        self.count > MOST_IDLE_MESSAGES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_until_end(interval: Duration, is_new: fn(u32) -> bool) -> Option<u32> {
        let mut idle = IdleMessages::default();
        let mut now = Instant::now();
        (1..=3 * MOST_IDLE_MESSAGES).find(|number| {
            now += interval;
            if is_new(*number) {
                idle.reset();
                return false;
            }
            idle.count(now)
        })
    }

    #[test]
    fn rule_74_only_a_flood_of_messages_without_news_ends_a_connection() {
        assert_eq!(count_until_end(Duration::ZERO, |_| false), Some(MOST_IDLE_MESSAGES + 1));
        // Pings of a server that has nothing else to say.
        assert_eq!(count_until_end(Duration::from_secs(20), |_| false), None);
        assert_eq!(count_until_end(Duration::ZERO, |number| number % 100 == 0), None);
    }
}
