//! Tracking of values given from Python: which values are numbers, tensors or objects, and the series of each.

use std::sync::{Arc, atomic::Ordering};

use matyan_sdk::{Series, now_us};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyList, PyMapping, PyString, PyTuple},
};

use super::state::{CoreRun, RunState};
use crate::{
    convert,
    errors::{argument, of_member},
    number,
    series_cache::{SeriesCache, SeriesKey},
    tracked_tensors::{self, TrackedTensors},
};

/// Arguments of `track` except for the value.
pub(super) struct Point<'a, 'py> {
    pub(super) name: &'a Bound<'py, PyString>,
    pub(super) step: Option<i64>,
    pub(super) epoch: Option<i64>,
    pub(super) context: Option<&'a Bound<'py, PyAny>>,
    pub(super) time_us: i64,
}

/// Tracks each member of a dict under its key.
pub(super) fn track_members<'py>(
    slf: &Bound<'py, CoreRun>,
    value: &Bound<'py, PyAny>,
    step: Option<i64>,
    epoch: Option<i64>,
    context: Option<&Bound<'py, PyAny>>,
) -> PyResult<()> {
    let Ok(members) = value.cast::<PyMapping>() else {
        return Err(PyValueError::new_err("metric `name` is required"));
    };
    // A bad member does not keep the others from being tracked.
    let mut outcome = Ok(());
    let tensors = TrackedTensors::new(slf.py());
    // Values that share their step and time are sent without the numbers of their series.
    let time_us = now_us();
    for member in members.items()?.iter() {
        let (name, value): (Bound<'py, PyAny>, Bound<'py, PyAny>) = member.extract()?;
        // Code of the previous member may have closed the run.
        let state = slf.get().live("track")?;
        let tracked = match name.cast::<PyString>() {
            Ok(name) => {
                let point = Point { name, step, epoch, context, time_us };
                track_one(slf, state, &value, &point, &tensors).map_err(|error| of_member(error, name))
            }
            Err(_) => Err(PyTypeError::new_err(format!(
                "`value`: the keys of a dict are names of series: expected a str, not {}",
                name.get_type().name()?
            ))),
        };
        outcome = outcome.and(tracked);
    }
    let copied = tensors.track(slf, step, epoch);
    outcome.and(copied)
}

/// Tracks a value, or adds it to the tensors of the call.
pub(super) fn track_one<'py>(
    slf: &Bound<'py, CoreRun>,
    state: &RunState,
    value: &Bound<'py, PyAny>,
    point: &Point<'_, 'py>,
    tensors: &TrackedTensors<'py>,
) -> PyResult<()> {
    let key = SeriesKey::new(point.name, value.get_type(), point.context);
    // A hit also proves that values of this type are numbers.
    let cached = key.as_ref().and_then(|key| state.cache.get(key));
    let plain = number::plain(value);
    if cached.is_none() && plain.is_none() {
        match kind_of(state, key.as_ref(), value)? {
            ValueKind::Number => {}
            ValueKind::Tensor(cached) => {
                tracked_tensors::check_single(value)?;
                let series = match cached {
                    Some(series) => series,
                    None => state.defined_series(&state.tensor_cache, key, value, point)?,
                };
                if !tracked_tensors::is_on_host(value)? {
                    return tensors.add(value, series);
                }
                let number = number::convertible(value)?;
                state.track(value.py(), &series, number, point.step, point.epoch, point.time_us)?;
                return attend(slf, state);
            }
            ValueKind::Other => {
                let Point { name, step, epoch, context, .. } = *point;
                slf.call_method1("_track_other", (value, name, step, epoch, context))?;
                return Ok(());
            }
        }
    }
    let number = plain.map_or_else(|| number::convertible(value), Ok)?;
    let series = match cached {
        Some(series) => series,
        None => state.defined_series(&state.cache, key, value, point)?,
    };
    state.track(value.py(), &series, number, point.step, point.epoch, point.time_us)?;
    attend(slf, state)
}

/// Stores values of devices that have arrived, and reports notices, if that is due.
fn attend(slf: &Bound<'_, CoreRun>, state: &RunState) -> PyResult<()> {
    if state.wants_attention.load(Ordering::Relaxed) || state.run.has_notices() {
        state.wants_attention.store(false, Ordering::Relaxed);
        slf.call_method0("_attend")?;
    }
    Ok(())
}

/// The ways in which a value that is neither a float nor an int is tracked.
enum ValueKind {
    /// By `float`.
    Number,
    /// As a tensor or an array that may be on a device, whose series may be known.
    Tensor(Option<Arc<Series>>),
    /// As an object or a list of objects. Objects have a method `json`.
    Other,
}

fn kind_of(state: &RunState, key: Option<&SeriesKey<'_>>, value: &Bound<'_, PyAny>) -> PyResult<ValueKind> {
    // A hit proves that values of this type are tensors.
    if let Some(series) = key.and_then(|key| state.tensor_cache.get(key)) {
        return Ok(ValueKind::Tensor(Some(series)));
    }
    let kind = value.get_type();
    let is_container = value.is_instance_of::<PyList>()
        || value.is_instance_of::<PyTuple>()
        || value.cast::<PyMapping>().is_ok();
    Ok(if is_container || kind.hasattr("json")? {
        ValueKind::Other
    } else if tracked_tensors::may_be_on_device(&kind)? {
        ValueKind::Tensor(None)
    } else {
        ValueKind::Number
    })
}

impl RunState {
    /// Makes the series of a point, and remembers it.
    fn defined_series(
        &self,
        cache: &SeriesCache,
        key: Option<SeriesKey<'_>>,
        value: &Bound<'_, PyAny>,
        point: &Point<'_, '_>,
    ) -> PyResult<Arc<Series>> {
        let dtype = convert::text(&value.get_type().name()?);
        let context = convert::context(point.context)?;
        let series = self.run.series(&convert::text(point.name), &context, &dtype);
        let series = series.map_err(|error| argument(&error))?;
        if let Some(key) = key {
            cache.insert(key, Arc::clone(&series));
        }
        Ok(series)
    }
}
