//! Conversion of decoded answers to Python objects.

use matyan_sdk::reading::{Key, Tree};
use pyo3::{
    IntoPyObjectExt,
    prelude::*,
    types::{PyBytes, PyDict, PyList},
};

/// Returns a tree as dicts and lists.
pub(crate) fn object<'py>(py: Python<'py>, tree: &Tree) -> PyResult<Bound<'py, PyAny>> {
    match tree {
        Tree::Null => Ok(py.None().into_bound(py)),
        Tree::Bool(flag) => flag.into_bound_py_any(py),
        Tree::Integer(integer) => integer.into_bound_py_any(py),
        Tree::Float(float) => float.into_bound_py_any(py),
        Tree::Text(text) => text.into_bound_py_any(py),
        Tree::Bytes(bytes) => Ok(PyBytes::new(py, bytes).into_any()),
        Tree::List(elements) => {
            let list = PyList::empty(py);
            for element in elements {
                list.append(object(py, element)?)?;
            }
            Ok(list.into_any())
        }
        Tree::Map(members) => Ok(dict(py, members)?.into_any()),
    }
}

/// Returns the members of a map as a dict.
pub(crate) fn dict<'py>(py: Python<'py>, members: &[(Key, Tree)]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (key, value) in members {
        let value = object(py, value)?;
        match key {
            Key::Text(text) => dict.set_item(text, value)?,
            Key::Index(index) => dict.set_item(index, value)?,
        }
    }
    Ok(dict)
}
