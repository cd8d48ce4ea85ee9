//! The limit on open files. Shells set a low limit, and a thousand training runs mean a
//! thousand connections, so the process raises it to the maximum that the system allows. An eighth
//! of it is kept for the files of the store and the log.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit as far as allowed. On failure, the process still works, but with fewer
/// connections.
pub(crate) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, ?current, ?maximum, "failed to raise the limit on open files");
    }
}

/// A part of the limit.
struct Share {
    numerator: u64,
    denominator: u64,
}

/// The share of each kind of connection: connections and WebSockets of two ports take five eighths.
const CONNECTIONS: Share = Share { numerator: 5, denominator: 32 };

/// The share of the blobs that uploads and downloads of a port hold open: two ports take a quarter.
const BLOBS: Share = Share { numerator: 1, denominator: 8 };

impl Share {
    fn of(&self, files: u64) -> usize {
        usize::try_from(files / self.denominator * self.numerator).unwrap_or(usize::MAX).max(1)
    }
}

/// Lowers the limits on connections, uploads and downloads to what the limit on open files allows.
pub(crate) fn limit_files(settings: &mut matyan_edge::Settings) {
    // Without a limit on open files, no other limit has to be lowered.
    let Some(files) = getrlimit(Resource::Nofile).current else { return };
    let most = CONNECTIONS.of(files);
    if settings.max_connections > most {
        tracing::warn!(
            wanted = settings.max_connections,
            most,
            files,
            "allowing fewer WebSockets: the limit on open files is too low"
        );
    }
    settings.max_connections = settings.max_connections.min(most);
    settings.max_open = settings.max_open.min(most);
    settings.max_blob_calls = settings.max_blob_calls.min(BLOBS.of(files));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_and_the_log_keep_an_eighth_of_the_files() {
        for files in [256, 1_024, 65_536, 1 << 20] {
            let ports = 2 * (2 * CONNECTIONS.of(files) + BLOBS.of(files)) as u64;
            assert_eq!(files - ports, files / 8);
        }
        // The default number of WebSockets needs no more than the limit of the unit and of compose.
        assert!(CONNECTIONS.of(65_536) >= matyan_edge::Settings::default().max_connections);
    }
}
