//! The state of a run's delivery.

use matyan_sdk::NoticeLevel;
use pyo3::prelude::*;

/// State of the delivery to the server.
#[pyclass(frozen, get_all, module = "matyan_client._core")]
#[derive(Clone, Debug)]
pub(crate) struct Health {
    /// Records that are not stored by the server yet.
    pending: u64,
    /// Files that are not uploaded yet.
    pending_uploads: usize,
    /// Age of the oldest pending record in seconds.
    oldest_s: f64,
    /// Values and files that are lost: the spool was full, the server rejected them, a file was gone, or the run was
    /// deleted on the server.
    dropped: u64,
    /// The part of `dropped` that the server rejected.
    rejected: u64,
    /// Whether a server is connected.
    connected: bool,
    /// The last problem, if any.
    last_error: Option<String>,
}

#[pymethods]
impl Health {
    fn __repr__(&self) -> String {
        let Self { pending, pending_uploads, oldest_s, dropped, rejected, connected, last_error } = self;
        let connected = if *connected { "True" } else { "False" };
        let last_error = last_error.as_ref().map_or_else(|| "None".to_owned(), |text| format!("{text:?}"));
        format!(
            "Health(pending={pending}, pending_uploads={pending_uploads}, oldest_s={oldest_s:.3}, dropped={dropped}, rejected={rejected}, \
             connected={connected}, last_error={last_error})"
        )
    }
}

impl Health {
    /// The state of a run that is only read.
    pub(crate) fn idle() -> Self {
        Self {
            pending: 0,
            pending_uploads: 0,
            oldest_s: 0.0,
            dropped: 0,
            rejected: 0,
            connected: false,
            last_error: None,
        }
    }
}

impl From<matyan_sdk::Health> for Health {
    fn from(health: matyan_sdk::Health) -> Self {
        let matyan_sdk::Health {
            pending,
            pending_uploads,
            oldest_s,
            dropped,
            rejected,
            connected,
            last_error,
            ..
        } = health;
        Self { pending, pending_uploads, oldest_s, dropped, rejected, connected, last_error }
    }
}

/// Returns the level of a notice as a level of Python's `logging`.
pub(crate) fn logging_level(level: NoticeLevel) -> u8 {
    match level {
        NoticeLevel::Info => 20,
        NoticeLevel::Warning => 30,
        NoticeLevel::Error => 40,
    }
}
