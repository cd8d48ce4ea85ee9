//! Connection limits and retries, shared by the clients of all clouds.

use std::{sync::Arc, time::Duration};

use crate::Error;

/// Parts of one upload in flight at the same time, to hide the latency of a distant store. Google
/// accepts them only in order.
#[cfg(any(feature = "azure", feature = "s3"))]
pub(crate) const CONCURRENT_PARTS: usize = 3;

/// Connect timeout of one attempt. With retries, a call takes several times as long.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for a response to start, and longest silence within it. The total time is
/// unlimited, because content may be of any size.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Slowest upload speed that is tolerated, in bytes per second.
const MIN_BYTES_PER_SECOND: usize = 50_000;

/// Content sizes are rounded up to this or a power of two above it: the client pools
/// connections by their timeout.
const MIN_CONTENT_BYTES: usize = 1 << 20;

/// Timeout for the response to a request with this much content, including the time to send it.
pub(crate) fn response_timeout(content: usize) -> Duration {
    let content = content.max(MIN_CONTENT_BYTES).next_power_of_two();
    READ_TIMEOUT + Duration::from_secs(content.div_ceil(MIN_BYTES_PER_SECOND) as u64)
}

/// The first attempt and the retries. Few enough that a waiting caller soon learns that the
/// store is unavailable; background work retries anyway.
pub(crate) const ATTEMPTS: u32 = 4;

/// Delay before the second attempt; it grows from there.
pub(crate) const FIRST_BACKOFF: Duration = Duration::from_millis(100);

pub(crate) fn unavailable(doing: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let source: Box<dyn std::error::Error + Send + Sync> = source.into();
    let reason = format!("{doing} failed: {source}");
    Error::Unavailable { reason, is_doubtful: false, source: Some(Arc::from(source)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_grows_with_the_content() {
        for (content, seconds) in
            [(0, 81), (1, 81), (1 << 20, 81), (5 << 20, 228), (8 << 20, 228), (9 << 20, 396)]
        {
            assert_eq!(response_timeout(content).as_secs(), seconds, "{content}");
        }
    }
}
