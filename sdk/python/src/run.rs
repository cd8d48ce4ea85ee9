//! The class `Run` of the core, from which the public class derives. `track` is called as it is;
//! everything else has a wrapper in Python.

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use matyan_sdk::{
    CloseLimits, CloseProgress, Columns, Config, Content, LoggingRecord, Object, Outcome, Properties, Run,
    RunOptions, Series, SpoolFull, system::SystemParamsInput,
};
use matyan_value::Map;
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
    types::{PyDict, PyList, PyMapping, PyString, PyTuple},
};

use crate::{
    convert,
    errors::{argument, upload, wrong_type},
    health::{self, Health},
    number,
    payload::{self, Media},
    series_cache::{SeriesCache, SeriesKey},
    system::{self, PendingParams},
};

/// Interval between two looks for Ctrl-C, in seconds.
const SIGNAL_INTERVAL: f64 = 0.1;

/// Begins as the message of the client of Matyan 0.3.
const CLOSED: &str = "WebSocket transport not initialized: the run is closed";

/// A run of this process, or nothing for a run that is only read.
#[pyclass(frozen, subclass, name = "Run", module = "matyan_client._core")]
pub(crate) struct CoreRun {
    state: OnceLock<RunState>,
}

struct RunState {
    run: Arc<Run>,
    closed: Arc<AtomicBool>,
    system_params: PendingParams,
    /// Whether `track` waits when the spool is full.
    may_wait: bool,
    cache: SeriesCache,
}

/// Name, context, and name of the type of the values of a series.
type SeriesName<'py> = (Bound<'py, PyString>, Option<Bound<'py, PyAny>>, String);

/// Arguments of `track` except for the value.
struct Point<'a, 'py> {
    name: &'a Bound<'py, PyString>,
    step: Option<i64>,
    epoch: Option<i64>,
    context: Option<&'a Bound<'py, PyAny>>,
}

#[pymethods]
impl CoreRun {
    /// Arguments belong to the constructor of the derived class.
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Self { state: OnceLock::new() }
    }

    /// Begins to write, and returns the id of the run. Does not wait for a server.
    #[pyo3(signature = (run_id, urls, experiment, *, force_resume, offline))]
    fn _open(
        &self,
        py: Python<'_>,
        run_id: Option<String>,
        urls: (String, String),
        experiment: Option<String>,
        force_resume: bool,
        offline: bool,
    ) -> PyResult<String> {
        convert::plain_function(py)?;
        // Wrong settings have been reported by the first run of the process.
        let (config, _) = Config::from_process();
        let (backend_url, gateway_url) = urls;
        let config = Config { backend_url, gateway_url, ..config };
        let options = RunOptions { run_id, experiment, force_resume, offline, config };
        let run = py.detach(|| Run::new(options)).map_err(|error| argument(&error))?;
        let run_id = run.id().to_owned();
        let may_wait = run.config().spool_full == SpoolFull::Block;
        let state = RunState {
            run: Arc::new(run),
            closed: Arc::default(),
            system_params: PendingParams::default(),
            may_wait,
            cache: SeriesCache::default(),
        };
        self.state.set(state).map_err(|_| PyRuntimeError::new_err("the run is already open"))?;
        Ok(run_id)
    }

    /// Tracks a number or an object as the next point of a series.
    ///
    /// A dict without a name tracks each of its members under its key. Without a step, the step
    /// after the largest one of the series is used.
    #[pyo3(signature = (value, name=None, step=None, epoch=None, *, context=None))]
    fn track<'py>(
        slf: &Bound<'py, Self>,
        value: &Bound<'py, PyAny>,
        name: Option<&Bound<'py, PyAny>>,
        step: Option<&Bound<'py, PyAny>>,
        epoch: Option<&Bound<'py, PyAny>>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let state = slf.get().live("track")?;
        let step = number::step("step", step)?;
        let epoch = number::epoch(epoch)?;
        let Some(name) = name.filter(|name| !name.is_none()) else {
            return track_members(slf, value, step, epoch, context);
        };
        let name = name.cast::<PyString>().map_err(|_| wrong_type("name", "a str", name))?;
        track_one(slf, state, value, &Point { name, step, epoch, context })
    }

    /// Tracks a number whose type is given by name.
    fn _track_number(
        &self,
        py: Python<'_>,
        number: f64,
        series: SeriesName<'_>,
        step: Option<i64>,
        epoch: Option<i64>,
    ) -> PyResult<()> {
        let state = self.live("track")?;
        let series = state.series(&series)?;
        state.track(py, &series, number, step, epoch);
        Ok(())
    }

    /// Tracks whole columns. Bytes are numbers in the byte order of the machine.
    fn _track_columns(
        &self,
        py: Python<'_>,
        series: SeriesName<'_>,
        values: &Bound<'_, PyAny>,
        steps: Option<&Bound<'_, PyAny>>,
        epochs: Option<&Bound<'_, PyAny>>,
        times_us: Option<Vec<i64>>,
    ) -> PyResult<()> {
        let state = self.live("track")?;
        let series = state.series(&series)?;
        let values = payload::doubles("values", values)?;
        let steps = steps.map(|steps| payload::integers("steps", steps)).transpose()?;
        let epochs = epochs.map(|epochs| payload::integers("epochs", epochs)).transpose()?;
        let (steps, epochs, times_us) = (steps.as_deref(), epochs.as_deref(), times_us.as_deref());
        let columns = Columns { values: &values, steps, epochs, times_us };
        py.detach(|| state.run.track_many(&series, &columns)).map_err(|error| argument(&error))
    }

    /// Tracks an object: what is stored with the series, and the payload that is stored as a file.
    fn _track_object(
        &self,
        py: Python<'_>,
        value: &Bound<'_, PyAny>,
        media: Option<&Bound<'_, PyAny>>,
        series: SeriesName<'_>,
        step: Option<i64>,
        epoch: Option<i64>,
    ) -> PyResult<()> {
        let state = self.live("track")?;
        let (name, context, dtype) = series;
        let (name, context) = (convert::text(&name), convert::context(context.as_ref())?);
        let value = convert::map("value", value)?;
        let object = Object { name: &name, context: &context, dtype: &dtype, step, epoch, value: &value };
        let Some(media) = media else {
            return py.detach(|| state.run.log_object(&object)).map_err(|error| argument(&error));
        };
        let media = Media::new(media)?;
        let payload = media.payload();
        py.detach(|| state.run.log_payload(&object, 0, payload)).map_err(upload)
    }

    /// Sets params, by descent into maps with a single key.
    fn _set_params(&self, py: Python<'_>, params: &Bound<'_, PyAny>) -> PyResult<()> {
        let state = self.live("set params of")?;
        let params = convert::map("params", params)?;
        py.detach(|| state.run.set_params(&params)).map_err(|error| argument(&error))
    }

    /// Sets the properties that are not None.
    #[pyo3(signature = (*, name=None, description=None, archived=None, experiment=None))]
    fn _set_properties(
        &self,
        py: Python<'_>,
        name: Option<String>,
        description: Option<String>,
        archived: Option<bool>,
        experiment: Option<String>,
    ) -> PyResult<()> {
        let state = self.live("change")?;
        let properties = Properties { name, description, archived, experiment };
        py.detach(|| state.run.set_properties(properties)).map_err(|error| argument(&error))
    }

    fn _add_tag(&self, tag: &Bound<'_, PyString>) -> PyResult<()> {
        self.live("tag")?.run.add_tag(&convert::text(tag)).map_err(|error| argument(&error))
    }

    fn _remove_tag(&self, tag: &Bound<'_, PyString>) -> PyResult<()> {
        self.live("tag")?.run.remove_tag(&convert::text(tag)).map_err(|error| argument(&error))
    }

    fn _log_record(
        &self,
        level: i64,
        message: &Bound<'_, PyString>,
        timestamp: f64,
        location: Option<(String, i64)>,
        extra: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let state = self.live("log to")?;
        let message = convert::text(message);
        let extra: Option<Map> = extra.map(|extra| convert::map("extra", extra)).transpose()?;
        let record = LoggingRecord {
            message: &message,
            level,
            timestamp,
            logger_info: location.as_ref().map(|(file, line)| (file.as_str(), *line)),
            extra_args: extra.as_ref(),
        };
        state.run.log_record(record).map_err(|error| argument(&error))
    }

    fn _terminal_line(&self, line: &Bound<'_, PyString>, number: i64) -> PyResult<()> {
        self.live("log to")?.run.terminal_line(&convert::text(line), number).map_err(|error| argument(&error))
    }

    /// Tracks the load of the machine at this interval in seconds.
    fn _track_system_metrics(&self, interval: f64) -> PyResult<()> {
        let state = self.live("track")?;
        let interval = Duration::try_from_secs_f64(interval)
            .map_err(|_| PyValueError::new_err("`interval`: expected a positive number of seconds"))?;
        system::track_metrics(&state.run, &state.closed, interval);
        Ok(())
    }

    /// Describes the machine in the params, in the background.
    fn _log_system_params(
        &self,
        executable: String,
        arguments: Vec<String>,
        module_paths: Vec<PathBuf>,
        directory: PathBuf,
        environment: Vec<(String, String)>,
    ) -> PyResult<()> {
        let state = self.live("set params of")?;
        let input = SystemParamsInput { executable, arguments, module_paths, directory, environment };
        state.system_params.start(&state.run, input);
        Ok(())
    }

    /// Stores a file. A large one is read in the background.
    fn _log_artifact(&self, py: Python<'_>, path: PathBuf, name: &str) -> PyResult<()> {
        let state = self.live("log an artifact of")?;
        py.detach(|| state.run.log_artifact(Content::File(&path), name, None)).map_err(upload)
    }

    /// Waits until everything tracked so far is stored; false if that takes longer than `timeout`.
    fn _flush(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        let Some(state) = self.state.get() else { return Ok(true) };
        py.detach(|| state.system_params.wait());
        let mut remaining = timeout.max(0.0);
        // In pieces, so that Ctrl-C is noticed.
        loop {
            let piece = remaining.min(SIGNAL_INTERVAL);
            if py.detach(|| state.run.flush(Duration::from_secs_f64(piece))) {
                return Ok(true);
            }
            py.check_signals()?;
            remaining -= piece;
            if remaining <= 0.0 {
                return Ok(false);
            }
        }
    }

    /// Marks the run as finished; only the first call counts. The error is that of a failed run.
    fn _finish(&self, py: Python<'_>, outcome: &str, error: String) -> PyResult<()> {
        let Some(state) = self.state.get() else { return Ok(()) };
        let outcome = match outcome {
            "finished" => Outcome::Finished,
            "failed" => Outcome::Failed(error),
            "interrupted" => Outcome::Interrupted,
            other => return Err(PyValueError::new_err(format!("`outcome`: unknown: {other}"))),
        };
        py.detach(|| state.system_params.wait());
        state.closed.store(true, Ordering::Relaxed);
        state.run.finish(Some(&outcome));
        Ok(())
    }

    /// Waits until a finished run is stored. `progress` is called with what is pending, and ends
    /// the wait by returning false.
    ///
    /// Returns the number of values that are not stored yet, and the directory where they are.
    fn _close(
        &self,
        py: Python<'_>,
        reachable: f64,
        unreachable: f64,
        progress: &Bound<'_, PyAny>,
    ) -> PyResult<(u64, Option<PathBuf>)> {
        let Some(state) = self.state.get() else { return Ok((0, None)) };
        let limits = CloseLimits {
            reachable: Duration::from_secs_f64(reachable.max(0.0)),
            unreachable: Duration::from_secs_f64(unreachable.max(0.0)),
        };
        let callback = progress.clone().unbind();
        let report = py.detach(|| {
            state.run.close(limits, |CloseProgress { pending, total }| {
                Python::attach(|py| {
                    // Ctrl-C arrives as an exception of the callback: the wait ends.
                    let answer = callback.call1(py, (pending, total));
                    answer.and_then(|answer| answer.extract(py)).unwrap_or(false)
                })
            })
        });
        Ok((report.pending, report.spool))
    }

    #[getter]
    fn health(&self) -> Health {
        self.state.get().map_or_else(Health::idle, |state| state.run.health().into())
    }

    /// Returns the position of the newest stored batch in the log of the server.
    fn _last_position(&self) -> Option<(u32, u32, u64)> {
        self.state.get()?.run.last_position()
    }

    /// Returns problems in the background since the last call, as pairs of level and text.
    fn _notices(&self) -> Vec<(u8, String)> {
        let notices = self.state.get().map(|state| state.run.notices()).unwrap_or_default();
        notices.into_iter().map(|notice| (health::logging_level(notice.level), notice.message)).collect()
    }
}

impl CoreRun {
    /// Returns the open run, or an error that says why it cannot be written to.
    fn live(&self, action: &str) -> PyResult<&RunState> {
        let Some(state) = self.state.get() else {
            return Err(PyRuntimeError::new_err(format!("Cannot {action} on a read-only run")));
        };
        if state.closed.load(Ordering::Relaxed) {
            return Err(PyRuntimeError::new_err(CLOSED));
        }
        Ok(state)
    }
}

impl RunState {
    fn track(&self, py: Python<'_>, series: &Series, number: f64, step: Option<i64>, epoch: Option<i64>) {
        if self.may_wait {
            // Waiting for space in the spool must not stop the other threads of the script.
            py.detach(|| self.run.track(series, number, step, epoch));
        } else {
            self.run.track(series, number, step, epoch);
        }
    }

    fn series(&self, (name, context, dtype): &SeriesName<'_>) -> PyResult<Arc<Series>> {
        let context = convert::context(context.as_ref())?;
        self.run.series(&convert::text(name), &context, dtype).map_err(|error| argument(&error))
    }
}

/// Tracks each member of a dict under its key.
fn track_members<'py>(
    slf: &Bound<'py, CoreRun>,
    value: &Bound<'py, PyAny>,
    step: Option<i64>,
    epoch: Option<i64>,
    context: Option<&Bound<'py, PyAny>>,
) -> PyResult<()> {
    let Ok(members) = value.cast::<PyMapping>() else {
        return Err(PyValueError::new_err("metric `name` is required"));
    };
    for member in members.items()?.iter() {
        let (name, value): (Bound<'py, PyAny>, Bound<'py, PyAny>) = member.extract()?;
        let name = name.cast::<PyString>().map_err(|_| wrong_type("name", "a str", &name))?;
        // Code of the previous member may have closed the run.
        let state = slf.get().live("track")?;
        track_one(slf, state, &value, &Point { name, step, epoch, context })?;
    }
    Ok(())
}

fn track_one<'py>(
    slf: &Bound<'py, CoreRun>,
    state: &RunState,
    value: &Bound<'py, PyAny>,
    point: &Point<'_, 'py>,
) -> PyResult<()> {
    let key = SeriesKey::new(point.name, value.get_type(), point.context);
    // A hit also proves that values of this type are numbers.
    let cached = key.as_ref().and_then(|key| state.cache.get(key));
    let plain = number::plain(value);
    if cached.is_none() && plain.is_none() && !is_number(value)? {
        let (name, step, epoch, context) = (point.name, point.step, point.epoch, point.context);
        slf.call_method1("_track_other", (value, name, step, epoch, context))?;
        return Ok(());
    }
    let number = plain.map_or_else(|| number::convertible(value), Ok)?;
    let series = match cached {
        Some(series) => series,
        None => {
            let dtype = convert::text(&value.get_type().name()?);
            let series = state.series(&(point.name.clone(), point.context.cloned(), dtype))?;
            if let Some(key) = key {
                state.cache.insert(key, Arc::clone(&series));
            }
            series
        }
    };
    state.track(value.py(), &series, number, point.step, point.epoch);
    Ok(())
}

/// Reports whether a value is converted by `float`. Objects have a method `json`, and tensors,
/// which may be on a device, a method `detach`.
fn is_number(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let kind = value.get_type();
    let is_container = value.is_instance_of::<PyList>()
        || value.is_instance_of::<PyTuple>()
        || value.cast::<PyMapping>().is_ok();
    Ok(!is_container && !kind.hasattr("json")? && !kind.hasattr("detach")?)
}
