//! Conversion of the numbers that `track` is called with, most frequent types first.

use pyo3::{
    PyErr,
    exceptions::{PyOverflowError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyFloat, PyInt},
};

use crate::errors::wrong_type;

/// Returns the value of a float or int. Other types, also subclasses, may have their own meaning.
pub(crate) fn plain(value: &Bound<'_, PyAny>) -> Option<f64> {
    if let Ok(float) = value.cast_exact::<PyFloat>() {
        return Some(float.value());
    }
    if value.is_exact_instance_of::<PyInt>() {
        // An integer beyond the range of floats is left to `convertible`, which reports it.
        return value.extract().ok();
    }
    None
}

/// Returns what `float(value)` returns. Numeric text is accepted.
pub(crate) fn convertible(value: &Bound<'_, PyAny>) -> PyResult<f64> {
    // numpy would return the real part.
    if value.get_type().name()?.to_string().starts_with("complex") {
        return Err(wrong_type("value", "a real number", value));
    }
    let float =
        value.py().get_type::<PyFloat>().call1((value,)).or_else(|error| only_element(value).ok_or(error));
    let float = float.map_err(|error| {
        let py = value.py();
        let is_type = error.is_instance_of::<PyTypeError>(py);
        if error.is_instance_of::<PyOverflowError>(py) {
            return PyOverflowError::new_err("`value`: it does not fit into a float");
        }
        if !is_type && !error.is_instance_of::<PyValueError>(py) {
            return error;
        }
        let mut renamed = match value.get_type().name() {
            Ok(name) => format!("`value`: cannot convert {name} to float: {}", error.value(py)),
            Err(_) => format!("`value`: {}", error.value(py)),
        };
        if value.hasattr("__array__").unwrap_or(false) {
            renamed += "; `track_many` tracks several values, and `Distribution` or `Image` an array";
        }
        if is_type { PyTypeError::new_err(renamed) } else { PyValueError::new_err(renamed) }
    })?;
    Ok(float.cast::<PyFloat>()?.value())
}

/// Returns the element of an array with one, which numpy does not convert to a float.
fn only_element<'py>(value: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let array = value.call_method0("__array__").ok()?;
    let float = array.call_method0("item").and_then(|item| item.py().get_type::<PyFloat>().call1((item,)));
    float.ok()
}

/// Returns an optional integer argument. Integers of other libraries and floats without a fraction
/// are accepted.
pub(crate) fn step(name: &str, value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<i64>> {
    let step = integer(name, value)?;
    // There is no step after the largest one, and the least one is the mark of points without a step.
    if let (Some(i64::MIN | i64::MAX), Some(value)) = (step, value) {
        return Err(PyValueError::new_err(format!("`{name}`: {value} is out of range")));
    }
    Ok(step)
}

fn integer(name: &str, value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<i64>> {
    let Some(value) = value else { return Ok(None) };
    if value.is_exact_instance_of::<PyInt>() {
        return value.extract().map(Some).map_err(|error| out_of_range(name, value, error));
    }
    if value.is_none() {
        return Ok(None);
    }
    if let Ok(float) = value.cast::<PyFloat>() {
        return match whole(float.value()) {
            Some(integer) => Ok(Some(integer)),
            None if float.value().fract() == 0.0 => Err(wrong_type(name, "an integer", value)),
            None => {
                let found = format!("`{name}`: expected an integer, found {}", float.value());
                Err(PyTypeError::new_err(found))
            }
        };
    }
    match value.extract() {
        Ok(integer) => Ok(Some(integer)),
        Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => {
            Err(out_of_range(name, value, error))
        }
        // Tensors of floats convert to float only.
        Err(_) => value
            .call_method0("__float__")
            .and_then(|float| float.extract())
            .ok()
            .and_then(whole)
            .map(Some)
            .ok_or_else(|| wrong_type(name, "an integer", value)),
    }
}

/// Returns an optional epoch. Frameworks report fractions of epochs, which are rounded down.
pub(crate) fn epoch(value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<i64>> {
    if let Some(value) = value
        && let Ok(float) = value.cast::<PyFloat>()
    {
        let floor = whole(float.value().floor());
        return floor.map(Some).ok_or_else(|| wrong_type("epoch", "an integer", value));
    }
    step("epoch", value)
}

fn whole(float: f64) -> Option<i64> {
    // Above 2^53, a float no longer says which integer was meant.
    const LIMIT: f64 = 9_007_199_254_740_992.0;
    (float.fract() == 0.0 && float.abs() <= LIMIT).then_some(float as i64)
}

fn out_of_range(name: &str, value: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    if error.is_instance_of::<PyOverflowError>(value.py()) {
        PyOverflowError::new_err(format!("`{name}`: {value} does not fit into 64 bits"))
    } else {
        error
    }
}
