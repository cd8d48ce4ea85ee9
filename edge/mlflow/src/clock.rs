//! Times in milliseconds since 1970, as in MLflow.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{MlflowError, Result};

/// Latest time in milliseconds, so that microseconds fit as well.
const MAX_TIME_MS: i64 = i64::MAX / 1_000;

/// Now, in milliseconds.
pub(crate) fn now_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(MAX_TIME_MS)
}

/// A time that is not before 1970.
pub(crate) fn checked_time(name: &str, time_ms: i64) -> Result<i64> {
    if (0..=MAX_TIME_MS).contains(&time_ms) {
        return Ok(time_ms);
    }
    Err(MlflowError::invalid(format!(
        "Invalid value {time_ms} for parameter '{name}' supplied: it must be a nonnegative time in milliseconds"
    )))
}
