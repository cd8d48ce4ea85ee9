//! Ctrl-C while a thread waits for the server.

use std::cell::{Cell, RefCell};

use pyo3::prelude::*;
use tokio::runtime::Handle;

thread_local! {
    /// The exception of a signal handler that ended a wait of this thread.
    static INTERRUPTION: RefCell<Option<PyErr>> = const { RefCell::new(None) };
    static IS_BACKGROUND: Cell<bool> = const { Cell::new(false) };
}

/// Marks a thread of the core that must never wait for the interpreter.
#[cfg(unix)]
pub(crate) fn mark_background_thread() {
    IS_BACKGROUND.set(true);
}

/// Runs Python's signal handlers. An exception, such as `KeyboardInterrupt`, ends the wait. Background
/// threads run no handlers, and must not wait for the interpreter.
pub(crate) fn interrupted() -> bool {
    if IS_BACKGROUND.get() || Handle::try_current().is_ok() {
        return false;
    }
    // At the end of the interpreter, there is nothing to interrupt.
    let Some(Err(error)) = Python::try_attach(|py| py.check_signals()) else { return false };
    INTERRUPTION.set(Some(error));
    true
}

/// Returns the exception that ended the wait.
pub(crate) fn interruption() -> Option<PyErr> {
    INTERRUPTION.take()
}
