//! The clock of points and events.

use std::time::{SystemTime, UNIX_EPOCH};

/// The time of points that are tracked now, in microseconds since the Unix epoch.
#[inline]
pub fn now_us() -> i64 {
    // A clock before 1970 is wrong anyway.
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
}
