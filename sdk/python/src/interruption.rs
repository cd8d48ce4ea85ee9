//! Ctrl-C while a thread waits for the server.

use std::cell::RefCell;

use pyo3::prelude::*;

thread_local! {
    /// The exception of a signal handler that ended a wait of this thread.
    static INTERRUPTION: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Runs Python's signal handlers. An exception, such as `KeyboardInterrupt`, ends the wait.
pub(crate) fn interrupted() -> bool {
    // At the end of the interpreter, there is nothing to interrupt.
    let Some(Err(error)) = Python::try_attach(|py| py.check_signals()) else { return false };
    INTERRUPTION.set(Some(error));
    true
}

/// Returns the exception that ended the wait.
pub(crate) fn interruption() -> Option<PyErr> {
    INTERRUPTION.take()
}
