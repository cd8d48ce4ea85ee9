//! Conversion of Python values to the values that are stored.

use matyan_value::{Context, Map, Value};
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString},
};

use crate::errors::wrong_type;

/// Returns any value. What is not plain data is converted by `matyan_client.values.plain`, which
/// never fails.
pub(crate) fn value(given: &Bound<'_, PyAny>) -> PyResult<Value> {
    if let Some(converted) = plain(given)? {
        return Ok(converted);
    }
    let converted = plain_function(given.py())?.call1((given,))?;
    plain(&converted)?.ok_or_else(|| wrong_type("value", "plain data", &converted))
}

/// Returns the members of a mapping, or an error that names the argument.
pub(crate) fn map(argument: &str, given: &Bound<'_, PyAny>) -> PyResult<Map> {
    match value(given)? {
        Value::Map(map) => Ok(map),
        _ => Err(wrong_type(argument, "a dict", given)),
    }
}

/// Returns the context of a series; None means no context.
pub(crate) fn context(given: Option<&Bound<'_, PyAny>>) -> PyResult<Context> {
    match given {
        None => Ok(Context::default()),
        Some(given) if given.is_none() => Ok(Context::default()),
        Some(given) if contains_itself(given, &mut Vec::new()) => {
            Err(PyValueError::new_err("`context`: it contains itself"))
        }
        Some(given) => Ok(Context::new(&map("context", given)?)),
    }
}

/// Reports whether a container is among its own members, at any level that is stored.
fn contains_itself<'py>(given: &Bound<'py, PyAny>, ancestors: &mut Vec<Bound<'py, PyAny>>) -> bool {
    let members: Vec<_> = if let Ok(dict) = given.cast::<PyDict>() {
        dict.values().iter().collect()
    } else if let Ok(list) = given.cast::<PyList>() {
        list.iter().collect()
    } else {
        return false;
    };
    if ancestors.iter().any(|ancestor| ancestor.is(given)) {
        return true;
    }
    if ancestors.len() >= matyan_value::MAX_DEPTH {
        return false;
    }
    ancestors.push(given.clone());
    let found = members.iter().any(|member| contains_itself(member, ancestors));
    ancestors.pop();
    found
}

/// Returns text in which a lone surrogate is replaced, because UTF-8 has no form for it.
pub(crate) fn text(given: &Bound<'_, PyString>) -> String {
    given.to_string_lossy().into_owned()
}

/// Returns plain data, or `None` if it contains anything else.
fn plain(given: &Bound<'_, PyAny>) -> PyResult<Option<Value>> {
    let converted = if given.is_none() {
        Value::Null
    } else if let Ok(text) = given.cast_exact::<PyString>() {
        // Lone surrogates are replaced in Python, where pairs of them are joined first.
        match text.to_str() {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => return Ok(None),
        }
    } else if let Ok(flag) = given.cast_exact::<PyBool>() {
        Value::Bool(flag.is_true())
    } else if let Ok(float) = given.cast_exact::<PyFloat>() {
        Value::Float(float.value())
    } else if let Ok(integer) = given.cast_exact::<PyInt>() {
        plain_integer(integer)?
    } else if let Ok(dict) = given.cast_exact::<PyDict>() {
        return plain_map(dict);
    } else if let Ok(list) = given.cast_exact::<PyList>() {
        return plain_list(list);
    } else {
        return Ok(None);
    };
    Ok(Some(converted))
}

fn plain_map(dict: &Bound<'_, PyDict>) -> PyResult<Option<Value>> {
    let mut map = Map::new();
    for (key, member) in dict.iter() {
        let Ok(key) = key.cast_exact::<PyString>() else { return Ok(None) };
        let (Ok(key), Some(member)) = (key.to_str(), nested(&member)?) else { return Ok(None) };
        map.insert(key.to_owned(), member);
    }
    Ok(Some(Value::Map(map)))
}

fn plain_list(list: &Bound<'_, PyList>) -> PyResult<Option<Value>> {
    let mut items = Vec::with_capacity(list.len());
    for item in list.iter() {
        let Some(item) = nested(&item)? else { return Ok(None) };
        items.push(item);
    }
    Ok(Some(Value::List(items)))
}

/// Descends one level. Data that contains itself is converted in Python, which cuts it off.
fn nested(given: &Bound<'_, PyAny>) -> PyResult<Option<Value>> {
    thread_local! {
        static DEPTH: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }
    DEPTH.with(|depth| {
        if depth.get() >= matyan_value::MAX_DEPTH {
            return Ok(None);
        }
        depth.set(depth.get() + 1);
        let converted = plain(given);
        depth.set(depth.get() - 1);
        converted
    })
}

fn plain_integer(integer: &Bound<'_, PyInt>) -> PyResult<Value> {
    if let Ok(small) = integer.extract() {
        return Ok(Value::Integer(small));
    }
    // Python refuses to write very long integers in decimal; hexadecimal has no limit.
    let negative = integer.lt(0)?;
    let magnitude = if negative { integer.call_method0("__invert__")? } else { integer.clone().into_any() };
    let bits: usize = magnitude.call_method0("bit_length")?.extract()?;
    let bytes = magnitude.call_method1("to_bytes", (bits.div_ceil(8), "big"))?;
    Ok(Value::integer(negative, bytes.cast::<PyBytes>()?.as_bytes()))
}

/// Returns the conversion in Python, for what Rust does not convert. It is first called before any
/// thread can track, see `prepare_for_forks`.
pub(crate) fn plain_function(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static PLAIN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    PLAIN
        .get_or_try_init(py, || Ok(py.import("matyan_client.values")?.getattr("plain")?.unbind()))
        .map(|function| function.bind(py))
}
