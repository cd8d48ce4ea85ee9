//! The limit on open files. Shells set a low limit, and a thousand training runs mean a
//! thousand connections, so the process raises it to the maximum that the system allows.

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
