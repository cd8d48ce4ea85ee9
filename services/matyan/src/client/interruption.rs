//! Signals that end a command, which completes or removes what it has begun before it ends.

use tokio::signal::unix::{SignalKind, signal};

use super::Error;

/// Waits for the first signal that ends a program.
pub(super) fn interruption() -> Result<impl Future<Output = ()>, Error> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::SetUp)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::SetUp)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
