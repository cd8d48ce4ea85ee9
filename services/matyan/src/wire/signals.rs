//! SIGTERM and SIGINT: the first signal starts a clean shutdown, the second exits the process
//! immediately.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Shells report a process that died from signal N as exit code 128 + N.
const EXIT_BASE: i32 = 128;

pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Installs the handlers. From here on neither signal terminates the process directly.
    pub(crate) fn install() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal, and returns its name and kind. Cancel-safe.
    pub(crate) async fn next(&mut self) -> (&'static str, SignalKind) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", SignalKind::terminate()),
            _ = self.interrupt.recv() => ("SIGINT", SignalKind::interrupt()),
        }
    }

    /// Exits on the next signal: a second one means that the user does not want to wait.
    /// Acknowledged data is safe even then.
    pub(crate) async fn exit_on_next(&mut self) -> ! {
        let (name, kind) = self.next().await;
        tracing::warn!(signal = name, "received second signal; exiting immediately");
        std::process::exit(EXIT_BASE + kind.as_raw_value());
    }
}
