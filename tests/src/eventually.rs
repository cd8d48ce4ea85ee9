//! Waits on a state, never on time. The guard only keeps a broken run from hanging; it is no performance limit.

use std::{fmt::Debug, time::Duration};

const GUARD: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(10);

/// Asks until the answer is `Ok`, and panics with the last state seen when that never comes.
pub async fn eventually<T, E: Debug>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, E>) -> T {
    let start = tokio::time::Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(state) if start.elapsed() > GUARD => panic!("never happened: {what}; last state: {state:?}"),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// The same for a question that blocks, and waits for a change by itself.
pub fn eventually_blocking<T, E: Debug>(what: &str, mut ask: impl FnMut() -> Result<T, E>) -> T {
    let start = std::time::Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(state) if start.elapsed() > GUARD => panic!("never happened: {what}; last state: {state:?}"),
            Err(_) => {}
        }
    }
}
