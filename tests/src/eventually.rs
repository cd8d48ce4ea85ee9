//! Waits for a state, never for a fixed time. The guard only keeps a failing test from hanging;
//! it is not a performance limit.

use std::{fmt::Debug, time::Duration};

const GUARD: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(10);

/// Polls until the result is `Ok`. Panics with the last state if that takes longer than the
/// guard.
pub async fn eventually<T, E: Debug>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, E>) -> T {
    let start = tokio::time::Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(state) if start.elapsed() > GUARD => {
                panic!("timed out waiting: {what}; last state: {state:?}")
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Like `eventually`, for a check that blocks, and itself waits for a change.
pub fn eventually_blocking<T, E: Debug>(what: &str, mut ask: impl FnMut() -> Result<T, E>) -> T {
    let start = std::time::Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(state) if start.elapsed() > GUARD => {
                panic!("timed out waiting: {what}; last state: {state:?}")
            }
            Err(_) => {}
        }
    }
}
