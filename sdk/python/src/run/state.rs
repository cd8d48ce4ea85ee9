//! The state of a run that is open.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use matyan_sdk::{Run, Series, SpoolFull};
use pyo3::{exceptions::PyRuntimeError, prelude::*, types::PyString};

#[cfg(unix)]
use crate::descriptors::RunLines;
use crate::{
    convert, errors::argument, interruption::interruption, series_cache::SeriesCache, system::PendingParams,
};

/// Starts as the message of the client of Matyan 0.3.
const CLOSED: &str = "WebSocket transport not initialized: the run is closed; `Run(hash)` continues it";

/// A run of this process, or nothing for a run that is only read.
#[pyclass(frozen, subclass, name = "Run", module = "matyan_client._core")]
pub(crate) struct CoreRun {
    pub(super) state: OnceLock<RunState>,
}

pub(super) struct RunState {
    pub(super) run: Arc<Run>,
    pub(super) closed: Arc<AtomicBool>,
    pub(super) system_params: PendingParams,
    /// The terminal lines, if descriptors are captured.
    #[cfg(unix)]
    pub(super) lines: OnceLock<Arc<RunLines>>,
    /// Whether the run still accepts data although it is closed, because the script has ended.
    pub(super) accepts_late: AtomicBool,
    /// Whether `_attend` is called at the next `track`.
    pub(super) wants_attention: AtomicBool,
    /// Whether `track` waits when the spool is full.
    may_wait: bool,
    pub(super) cache: SeriesCache,
    /// The series of tensors, whose values take another way.
    pub(super) tensor_cache: SeriesCache,
}

/// Name, context, and name of the type of the values of a series.
pub(super) type SeriesArguments<'py> = (Bound<'py, PyString>, Option<Bound<'py, PyAny>>, String);

impl CoreRun {
    /// Returns the open run, or an error that says why it cannot be written to.
    pub(super) fn live(&self, action: &str) -> PyResult<&RunState> {
        let Some(state) = self.state.get() else {
            return Err(PyRuntimeError::new_err(format!("Cannot {action} on a read-only run")));
        };
        if state.closed.load(Ordering::Relaxed) && !state.accepts_late.load(Ordering::Relaxed) {
            return Err(PyRuntimeError::new_err(CLOSED));
        }
        Ok(state)
    }
}

impl RunState {
    pub(super) fn new(run: Run) -> Self {
        let may_wait = run.config().spool_full == SpoolFull::Block;
        Self {
            run: Arc::new(run),
            closed: Arc::default(),
            system_params: PendingParams::default(),
            #[cfg(unix)]
            lines: OnceLock::new(),
            accepts_late: AtomicBool::new(false),
            wants_attention: AtomicBool::new(false),
            may_wait,
            cache: SeriesCache::default(),
            tensor_cache: SeriesCache::default(),
        }
    }

    pub(super) fn track(
        &self,
        py: Python<'_>,
        series: &Series,
        number: f64,
        step: Option<i64>,
        epoch: Option<i64>,
        time_us: i64,
    ) -> PyResult<()> {
        if self.may_wait {
            return self.append(py, |run| run.track_at(series, number, step, epoch, time_us));
        }
        self.run.track_at(series, number, step, epoch, time_us);
        Ok(())
    }

    /// Calls the core while other threads of the script run. An exception of a signal handler, such
    /// as `KeyboardInterrupt`, ends a wait for space in the spool.
    pub(super) fn append<T: Send>(&self, py: Python<'_>, call: impl FnOnce(&Run) -> T + Send) -> PyResult<T> {
        let outcome = py.detach(|| call(&self.run));
        match self.may_wait.then(interruption).flatten() {
            Some(error) => Err(error),
            None => Ok(outcome),
        }
    }

    pub(super) fn series(&self, (name, context, dtype): &SeriesArguments<'_>) -> PyResult<Arc<Series>> {
        let context = convert::context(context.as_ref())?;
        self.run.series(&convert::text(name), &context, dtype).map_err(|error| argument(&error))
    }
}
