//! The limit on open files. Shells set a low limit, and a thousand training runs mean a
//! thousand connections, so the process raises it to the maximum that the system allows. A part
//! of it is kept for the files of the store, the log and the blobs.

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

/// Parts of the limit that each kind of connection may use: connections and WebSockets of two
/// ports take three quarters.
const PARTS: (u64, u64) = (3, 16);

/// Lowers the limits on connections to what the limit on open files allows.
pub(crate) fn limit_connections(settings: &mut matyan_edge::Settings) {
    // Without a limit there is nothing to keep.
    let Some(files) = getrlimit(Resource::Nofile).current else { return };
    let most = usize::try_from(files / PARTS.1 * PARTS.0).unwrap_or(usize::MAX).max(1);
    if settings.max_connections > most {
        let (wanted, files) = (settings.max_connections, files);
        tracing::warn!(wanted, most, files, "allowing fewer WebSockets: the limit on open files is too low");
    }
    settings.max_connections = settings.max_connections.min(most);
    settings.max_open = settings.max_open.min(most);
}
