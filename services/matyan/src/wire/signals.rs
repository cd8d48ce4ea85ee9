//! SIGTERM and SIGINT: the first asks for a clean end, the second ends the process at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a shell makes of a process that a signal has ended.
const EXIT_BASE: i32 = 128;

pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on neither signal ends the process by itself.
    pub(crate) fn install() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next signal's name. Cancel-safe.
    pub(crate) async fn next(&mut self) -> (&'static str, SignalKind) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", SignalKind::terminate()),
            _ = self.interrupt.recv() => ("SIGINT", SignalKind::interrupt()),
        }
    }

    /// Whoever signals twice does not want to wait. What was acknowledged is safe also then.
    pub(crate) async fn exit_on_next(&mut self) -> ! {
        let (name, kind) = self.next().await;
        tracing::warn!(signal = name, "second signal, ending at once");
        std::process::exit(EXIT_BASE + kind.as_raw_value());
    }
}
