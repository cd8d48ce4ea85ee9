//! The class `Run` of the core, from which the public class derives. `track` is called as it is;
//! everything else has a wrapper in Python.

mod state;
mod tracking;

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use matyan_sdk::{
    ArgumentError, CloseLimits, CloseProgress, Columns, Config, Content, LoggingRecord, Object, Outcome,
    ParentRun, Properties, Run, RunOptions, UploadError, now_us, system::SystemParamsInput,
};
use matyan_value::Map;
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
    types::{PyDict, PyString, PyTuple},
};

#[cfg(unix)]
use crate::descriptors::{self, RunLines};
use crate::{
    convert,
    errors::{self, argument, file_at, upload, wrong_type},
    health::{self, Health},
    interruption::interrupted,
    number, opened_file,
    payload::{self, Media},
    server, system,
    tracked_tensors::{TrackedSeries, TrackedTensors},
};
pub(crate) use state::CoreRun;
use state::{RunState, SeriesArguments};
use tracking::{Point, track_members, track_one};

/// Result of `_close`: numbers, the directory of the data that is not stored, and the exception that ended
/// the wait.
type Ending = (CloseSummary, Option<PathBuf>, Option<Py<PyAny>>);

/// Values that are not stored yet, values that were dropped, and spools of child processes that are
/// not stored yet.
type CloseSummary = (u64, u64, usize);

#[pymethods]
impl CoreRun {
    /// Arguments belong to the constructor of the derived class.
    #[new]
    #[pyo3(signature = (*_arguments, **_keywords))]
    fn new(_arguments: &Bound<'_, PyTuple>, _keywords: Option<&Bound<'_, PyDict>>) -> Self {
        Self { state: OnceLock::new() }
    }

    /// Starts to write, and returns the id of the run and the problems of the settings, which are
    /// reported once. Does not wait for a server.
    #[expect(clippy::too_many_arguments, reason = "they have names in Python")]
    #[pyo3(signature = (run_id, urls, experiment, *, parent=None, force_resume, offline, joins, created_us=None, token=None))]
    fn _open(
        &self,
        py: Python<'_>,
        run_id: Option<String>,
        urls: (String, String),
        experiment: Option<String>,
        parent: Option<(String, Option<i64>)>,
        force_resume: bool,
        offline: bool,
        joins: bool,
        created_us: Option<i64>,
        token: Option<&str>,
    ) -> PyResult<(String, Vec<String>)> {
        static WARNED: AtomicBool = AtomicBool::new(false);
        convert::plain_function(py)?;
        let (config, mut warnings) = Config::from_process();
        if WARNED.swap(true, Ordering::Relaxed) {
            warnings.clear();
        }
        let (backend_url, gateway_url) = urls;
        let token = server::token(token)?.or_else(|| config.token.clone());
        let config = Config { backend_url, gateway_url, token, ..config };
        let interrupted = Some(interrupted as fn() -> bool);
        let parent = parent.map(|(run_id, step)| ParentRun { run_id, step });
        let options = RunOptions {
            run_id,
            experiment,
            parent,
            force_resume,
            offline,
            created_us,
            client: Some(concat!("matyan-client ", env!("CARGO_PKG_VERSION")).to_owned()),
            joins,
            interrupted,
            config,
        };
        let run = py.detach(|| Run::new(options)).map_err(errors::constructor)?;
        let run_id = run.id().to_owned();
        self.state.set(RunState::new(run)).map_err(|_| PyRuntimeError::new_err("the run is already open"))?;
        Ok((run_id, warnings))
    }

    /// Tracks a number or an object as the next point of a series.
    ///
    /// `value` is a number, a tensor or an array with one element, an object such as `Image` or
    /// `Text`, or a list of objects of one type. A dict without a name tracks each of its members
    /// under its key; a member that cannot be tracked raises an error after the others are tracked.
    /// `name` and `context`, a dict such as `{"subset": "train"}`, identify the series. `step` is an
    /// integer; without one, it is the step after the largest one of the series. A second value
    /// for a step replaces the first. `epoch` is stored with the point; fractions are rounded down.
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
        let tensors = TrackedTensors::new(slf.py());
        let point = Point { name, step, epoch, context, time_us: now_us() };
        track_one(slf, state, value, &point, &tensors)?;
        tensors.track(slf, step, epoch)
    }

    /// Tracks a number whose type is given by name.
    fn _track_number(
        &self,
        py: Python<'_>,
        number: f64,
        series: SeriesArguments<'_>,
        step: Option<i64>,
        epoch: Option<i64>,
    ) -> PyResult<()> {
        let state = self.live("track")?;
        let series = state.series(&series)?;
        state.track(py, &series, number, step, epoch, now_us())
    }

    /// Takes the step that a point without one would get now. None if the server assigns steps.
    fn _reserve_step(&self, series: &TrackedSeries) -> PyResult<Option<i64>> {
        Ok(self.live("track")?.run.reserve_step(&series.series))
    }

    /// Tracks values that have arrived from a device, each with its series and step.
    fn _track_arrived(
        &self,
        py: Python<'_>,
        points: Vec<(PyRef<'_, TrackedSeries>, Option<i64>)>,
        values: Vec<f64>,
        epoch: Option<i64>,
        time_us: i64,
    ) -> PyResult<()> {
        let state = self.live("track")?;
        let points: Vec<_> =
            points.iter().map(|(tracked, step)| (Arc::clone(&tracked.series), *step)).collect();
        let epochs = epoch.map(|epoch| [epoch]);
        let times_us = [time_us];
        let outcome = state.append(py, |run| {
            points.iter().zip(&values).try_for_each(|((series, step), value)| {
                let steps = step.map(|step| [step]);
                let columns = Columns {
                    values: std::slice::from_ref(value),
                    steps: steps.as_ref().map(<[_; 1]>::as_slice),
                    epochs: epochs.as_ref().map(<[_; 1]>::as_slice),
                    times_us: Some(&times_us),
                };
                run.track_many(series, &columns)
            })
        });
        outcome?.map_err(|error| argument(&error))
    }

    /// Makes the next `track` of a number call `_attend`.
    fn _request_attention(&self) {
        if let Some(state) = self.state.get() {
            state.wants_attention.store(true, Ordering::Relaxed);
        }
    }

    /// Tracks whole columns. Bytes are numbers in the byte order of the machine.
    fn _track_columns(
        &self,
        py: Python<'_>,
        series: SeriesArguments<'_>,
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
        let steps = steps.as_deref();
        let epochs = epochs.as_deref();
        let times_us = times_us.as_deref();
        let columns = Columns { values: &values, steps, epochs, times_us };
        state.append(py, |run| run.track_many(&series, &columns))?.map_err(|error| argument(&error))
    }

    /// Tracks objects at the same step: for each of them the map that is stored with the series, and the
    /// payload that is stored as a file. Absent, the time is now.
    #[pyo3(signature = (members, series, step, epoch, time_us=None))]
    fn _track_objects<'py>(
        &self,
        py: Python<'py>,
        members: Vec<(Bound<'py, PyAny>, Option<Bound<'py, PyAny>>)>,
        series: SeriesArguments<'py>,
        step: Option<i64>,
        epoch: Option<i64>,
        time_us: Option<i64>,
    ) -> PyResult<()> {
        let state = self.live("track")?;
        let (name, context, dtype) = series;
        let name = convert::text(&name);
        let context = convert::context(context.as_ref())?;
        let mut values = Vec::with_capacity(members.len());
        let mut media = Vec::with_capacity(members.len());
        for (value, payload) in &members {
            values.push(convert::map("value", value)?);
            media.push(payload.as_ref().map(Media::new).transpose()?);
        }
        let payloads: Vec<_> = media.iter().map(|media| media.as_ref().map(Media::payload)).collect();
        let object =
            Object { name: &name, context: &context, dtype: &dtype, step, epoch, time_us, values: &values };
        state.append(py, |run| run.log_payloads(&object, &payloads))?.map_err(upload)
    }

    /// Sets params, by descent into maps with a single key.
    fn _set_params(&self, py: Python<'_>, params: &Bound<'_, PyAny>) -> PyResult<()> {
        let state = self.live("set params")?;
        let params = convert::map("params", params)?;
        state.append(py, |run| run.set_params(&params))?.map_err(|error| renamed(error, "val"))
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
        let state = self.live("change properties")?;
        let properties = Properties { name, description, archived, experiment };
        state.append(py, |run| run.set_properties(properties))?.map_err(|error| argument(&error))
    }

    fn _add_tag(&self, py: Python<'_>, tag: &Bound<'_, PyString>) -> PyResult<()> {
        let tag = convert::text(tag);
        let state = self.live("change tags")?;
        state.append(py, |run| run.add_tag(&tag))?.map_err(|error| renamed(error, "value"))
    }

    fn _remove_tag(&self, py: Python<'_>, tag: &Bound<'_, PyString>) -> PyResult<()> {
        let tag = convert::text(tag);
        let state = self.live("change tags")?;
        state.append(py, |run| run.remove_tag(&tag))?.map_err(|error| renamed(error, "tag_name"))
    }

    fn _log_record(
        &self,
        py: Python<'_>,
        level: i64,
        message: &Bound<'_, PyString>,
        timestamp: f64,
        location: Option<(String, i64)>,
        extra: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let state = self.live("log")?;
        let message = convert::text(message);
        let extra: Option<Map> = extra.map(|extra| convert::map("extra", extra)).transpose()?;
        let record = LoggingRecord {
            message: &message,
            level,
            timestamp,
            logger_info: location.as_ref().map(|(file, line)| (file.as_str(), *line)),
            extra_args: extra.as_ref(),
        };
        state.append(py, |run| run.log_record(record))?.map_err(|error| renamed(error, "msg"))
    }

    fn _terminal_line(&self, py: Python<'_>, line: &Bound<'_, PyString>, number: i64) -> PyResult<()> {
        let state = self.live("log")?;
        let line = convert::text(line);
        state.append(py, |run| run.terminal_line(&line, number))?.map_err(|error| argument(&error))
    }

    /// Starts to store the text that is written to the descriptors 1 and 2.
    #[cfg(unix)]
    fn _capture_descriptors(&self) -> PyResult<()> {
        let state = self.live("log")?;
        let lines = state.lines.get_or_init(|| RunLines::new(&state.run));
        Ok(descriptors::start(lines)?)
    }

    /// Ends the capture, after everything that was written before.
    #[cfg(unix)]
    fn _release_descriptors(&self, py: Python<'_>) {
        if let Some(lines) = self.state.get().and_then(|state| state.lines.get()) {
            py.detach(|| descriptors::stop(lines));
        }
    }

    /// Stores the text that was written before, with the unfinished line.
    #[cfg(unix)]
    fn _flush_descriptors(&self, py: Python<'_>) {
        if let Some(lines) = self.state.get().and_then(|state| state.lines.get()) {
            py.detach(|| descriptors::flush(lines));
        }
    }

    /// Tracks the load of the machine at this interval in seconds.
    fn _track_system_metrics(&self, interval: f64) -> PyResult<()> {
        let state = self.live("track")?;
        let interval = Duration::try_from_secs_f64(interval)
            .map_err(|_| PyValueError::new_err("`interval`: expected a positive number of seconds"))?;
        system::track_metrics(&state.run, &state.closed, interval);
        Ok(())
    }

    /// Describes the machine in the params, in the background, and uploads changes since the last
    /// commit on request.
    fn _log_system_params(
        &self,
        executable: String,
        arguments: Vec<String>,
        module_paths: Vec<PathBuf>,
        directory: PathBuf,
        environment: Vec<(String, String)>,
        git_diff: bool,
    ) -> PyResult<()> {
        let state = self.live("set params")?;
        let input = SystemParamsInput { executable, arguments, module_paths, directory, environment };
        state.system_params.start(&state.run, input, git_diff);
        Ok(())
    }

    /// Stores a file. A large one is read in the background. With a descriptor, no other file is read.
    #[pyo3(signature = (path, name, descriptor = None))]
    fn _log_artifact(
        &self,
        py: Python<'_>,
        path: PathBuf,
        name: &str,
        descriptor: Option<i32>,
    ) -> PyResult<()> {
        let state = self.live("log artifacts")?;
        let opened = descriptor.map(|descriptor| opened_file::open(&path, Some(descriptor))).transpose();
        let opened = opened.map_err(|error| file_at(&error, &path))?;
        let content =
            opened.as_ref().map_or(Content::File(&path), |file| Content::OpenFile { file, path: &path });
        py.detach(|| state.run.log_artifact(content, name, None)).map_err(|error| match error {
            // In Python, the path is the path of the file.
            UploadError::Argument(error) if error.argument == "path" => renamed(error, "name"),
            error => upload(error),
        })
    }

    /// Waits until everything tracked so far is stored; false if that takes longer than `timeout`, or
    /// if only a reachable server is waited for and it is not.
    fn _flush(&self, py: Python<'_>, timeout: f64, only_reachable: bool) -> PyResult<bool> {
        let Some(state) = self.state.get() else { return Ok(true) };
        let start = Instant::now();
        let limit = Duration::try_from_secs_f64(timeout.max(0.0)).unwrap_or(Duration::MAX);
        let mut interruption = Ok(());
        let mut keep_waiting = || {
            if interruption.is_ok() {
                interruption = Python::attach(|py| py.check_signals());
            }
            interruption.is_ok()
        };
        let is_stored = py.detach(|| {
            let is_described = state.system_params.wait(limit, &mut keep_waiting);
            let left = limit.saturating_sub(start.elapsed());
            is_described
                && keep_waiting()
                && state
                    .run
                    .flush_while(left, || keep_waiting() && (!only_reachable || state.run.may_be_reachable()))
        });
        interruption.map(|()| is_stored)
    }

    /// Marks the run as finished; only the first call counts. The error is the error of a failed run, and
    /// the time is given for a run that is imported. The copy of an active run stays active. At the
    /// exit of the script, later exit hooks and other threads may still record.
    #[pyo3(signature = (outcome, error, time_us=None, *, stays_active=false, is_exit=false))]
    fn _finish(
        &self,
        py: Python<'_>,
        outcome: Option<&str>,
        error: String,
        time_us: Option<i64>,
        stays_active: bool,
        is_exit: bool,
    ) -> PyResult<()> {
        let Some(state) = self.state.get() else { return Ok(()) };
        let outcome = match outcome {
            None => None,
            Some("finished") => Some(Outcome::Finished),
            Some("failed") => Some(Outcome::Failed(error)),
            Some("interrupted") => Some(Outcome::Interrupted),
            Some(other) => return Err(PyValueError::new_err(format!("`outcome`: unknown: {other}"))),
        };
        py.detach(|| state.system_params.wait(Duration::MAX, || true));
        state.accepts_late.store(is_exit, Ordering::Relaxed);
        state.closed.store(true, Ordering::Relaxed);
        match time_us {
            _ if stays_active => state.run.leave_active(),
            Some(time_us) => state.run.finish_at(outcome.as_ref(), time_us),
            None => state.run.finish(outcome.as_ref()),
        }
        Ok(())
    }

    /// Waits until a finished run is stored. `progress` is called with the number of pending items, and ends
    /// the wait by returning false.
    ///
    /// Returns the numbers of values that are not stored yet, of values that were dropped, and of
    /// spools of child processes that are not stored yet; the directory of the values that are
    /// not stored yet; and the exception that ended the wait, such as `KeyboardInterrupt`.
    fn _close(
        &self,
        py: Python<'_>,
        reachable: f64,
        unreachable: f64,
        progress: &Bound<'_, PyAny>,
    ) -> PyResult<Ending> {
        let Some(state) = self.state.get() else { return Ok(((0, 0, 0), None, None)) };
        let limits = CloseLimits {
            reachable: Duration::from_secs_f64(reachable.max(0.0)),
            unreachable: Duration::from_secs_f64(unreachable.max(0.0)),
        };
        let callback = progress.clone().unbind();
        let (report, interruption) = py.detach(|| {
            let mut interruption = None;
            let progress = |CloseProgress { pending, total }| {
                let answer = Python::attach(|py| {
                    py.check_signals()?;
                    callback.call1(py, (pending, total))?.extract(py)
                });
                answer.unwrap_or_else(|error| {
                    interruption = Some(error);
                    false
                })
            };
            let report = if state.accepts_late.load(Ordering::Relaxed) {
                state.run.close_at_exit(limits, progress)
            } else {
                state.run.close(limits, progress)
            };
            (report, interruption)
        });
        let interruption = interruption.map(|error| error.into_value(py).into_any());
        let summary = (report.pending, report.dropped, report.child_spools);
        Ok((summary, report.spool, interruption))
    }

    #[getter]
    fn health(&self) -> Health {
        self.state.get().map_or_else(Health::idle, |state| state.run.health().into())
    }

    /// Returns the position of the newest stored batch in the log of the server.
    fn _last_position(&self) -> Option<(u32, u32, u64)> {
        self.state.get()?.run.last_position()
    }

    /// Returns pairs of level and text for the problems in the background since the last call.
    fn _notices(&self) -> Vec<(u8, String)> {
        let notices = self.state.get().map(|state| state.run.notices()).unwrap_or_default();
        notices.into_iter().map(|notice| (health::logging_level(notice.level), notice.message)).collect()
    }
}

/// The exception for an argument of the core with the name that it has in Python.
fn renamed(error: ArgumentError, name: &'static str) -> PyErr {
    argument(&ArgumentError { argument: name, ..error })
}
