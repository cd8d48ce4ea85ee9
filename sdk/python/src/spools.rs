//! Spools that other processes left, for the command line.

use std::{collections::HashSet, path::PathBuf};

use matyan_sdk::{Config, ServerUrls, SpoolState, SyncOptions};
use pyo3::prelude::*;

use crate::health;

/// A spool on this machine.
#[pyclass(frozen, get_all, module = "matyan_client._core")]
#[derive(Clone, Debug)]
pub(crate) struct SpoolInfo {
    /// Its directory.
    path: PathBuf,
    /// The run that its data belongs to.
    run_id: String,
    /// The server that its data is sent to.
    gateway_url: String,
    /// Time of creation in microseconds since the Unix epoch.
    created_us: i64,
    /// Size on disk.
    bytes: u64,
    /// Files that are not uploaded yet.
    uploads: usize,
    /// `in use`, `left`, `offline`, or `elsewhere`.
    state: &'static str,
}

/// Lists the spools of this user.
#[pyfunction]
pub(crate) fn spools(py: Python<'_>) -> Vec<SpoolInfo> {
    let (config, _) = Config::from_process();
    let found = py.detach(|| matyan_sdk::spools(&config));
    let found = found.into_iter().map(|spool| SpoolInfo {
        path: spool.path,
        run_id: spool.run_id,
        gateway_url: spool.gateway_url,
        created_us: spool.created_us,
        bytes: spool.bytes,
        uploads: spool.uploads,
        state: match spool.state {
            SpoolState::InUse => "in use",
            SpoolState::Left => "left",
            SpoolState::Offline => "offline",
            SpoolState::Elsewhere => "elsewhere",
        },
    });
    found.collect()
}

/// Removes the spool in a directory. Returns false if a process uses it, or if there is none.
#[pyfunction]
pub(crate) fn remove_spool(py: Python<'_>, path: PathBuf) -> PyResult<bool> {
    let (config, _) = Config::from_process();
    let removed = py.detach(|| {
        let found = matyan_sdk::spools(&config).into_iter().find(|spool| spool.path == path);
        found.map_or(Ok(false), |spool| matyan_sdk::remove_spool(&spool))
    });
    Ok(removed?)
}

/// Outcome of a `sync`: spools, finished spools, stored values, problems as pairs of level and text,
/// and the exception that ended the work, such as `KeyboardInterrupt`.
type SyncResult = (usize, usize, u64, Vec<(u8, String)>, Option<Py<PyAny>>);

/// Sends the spools that no process uses. `report` is called with the numbers of spools, finished
/// spools, connections, spools whose files the server refuses, and stored values; it ends the work by
/// returning false. With `runs`, only spools of these runs are sent. With `urls`, a backend and a
/// gateway, the data goes there instead of to the servers that it was recorded for.
#[pyfunction]
#[pyo3(signature = (elsewhere, report, runs=None, urls=None))]
pub(crate) fn sync(
    py: Python<'_>,
    elsewhere: bool,
    report: Py<PyAny>,
    runs: Option<HashSet<String>>,
    urls: Option<(String, String)>,
) -> SyncResult {
    let servers = urls.map(|(backend_url, gateway_url)| ServerUrls { backend_url, gateway_url });
    let options = SyncOptions { elsewhere, servers };
    let is_wanted =
        |found: &matyan_sdk::SpoolInfo| runs.as_ref().is_none_or(|runs| runs.contains(&found.run_id));
    let (config, _) = Config::from_process();
    let mut interruption = None;
    let (progress, notices) = py.detach(|| {
        matyan_sdk::sync(&config, &options, is_wanted, |progress| {
            let answer = Python::attach(|py| {
                py.check_signals()?;
                let numbers = (
                    progress.spools,
                    progress.finished,
                    progress.connected,
                    progress.refused,
                    progress.stored,
                );
                report.call1(py, numbers)?.extract(py)
            });
            answer.unwrap_or_else(|error| {
                interruption = Some(error);
                false
            })
        })
    });
    let interruption = interruption.map(|error: PyErr| error.into_value(py).into_any());
    let notices =
        notices.into_iter().map(|notice| (health::logging_level(notice.level), notice.message)).collect();
    (progress.spools, progress.finished, progress.stored, notices, interruption)
}
