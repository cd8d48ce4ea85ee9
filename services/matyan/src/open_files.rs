//! How many files the process may have open. Shells give few, and a thousand training runs are a thousand connections; what
//! the system allows is there for the asking.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Asks for all that is allowed. Without it the process works as well, for fewer connections.
pub(crate) fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, ?current, ?maximum, "the limit of open files cannot be raised");
    }
}
