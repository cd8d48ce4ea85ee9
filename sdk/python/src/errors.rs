//! Conversion of errors to Python exceptions.

use std::{io, path::Path};

use matyan_sdk::{ArgumentError, UploadError, http::HttpError};
use pyo3::{
    PyErr,
    exceptions::{PyKeyboardInterrupt, PyOSError, PyOverflowError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyDict, PyString},
};

use crate::interruption::interruption;

/// A `TypeError` that names the argument.
pub(crate) fn wrong_type(argument: &str, expected: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let kind = value.get_type();
    let kind = kind.name().map_or_else(|_| "another type".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("`{argument}`: expected {expected}, not {kind}"))
}

/// The same exception with the key of the member of a dict that it is about.
pub(crate) fn of_member(error: PyErr, key: &Bound<'_, PyString>) -> PyErr {
    let py = key.py();
    let kind = error.get_type(py);
    // Others may have more arguments than a text.
    let renamed =
        [py.get_type::<PyTypeError>(), py.get_type::<PyValueError>(), py.get_type::<PyOverflowError>()];
    match key.repr() {
        Ok(key) if renamed.iter().any(|known| kind.is(known)) => {
            PyErr::from_type(kind, format!("member {key}: {}", error.value(py)))
        }
        _ => error,
    }
}

/// The exception for an argument that has the right type but an unusable value.
pub(crate) fn argument(error: &ArgumentError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// The exception for an argument of the constructor of a run, with the name that it has in Python.
pub(crate) fn constructor(error: ArgumentError) -> PyErr {
    let name = match error.argument {
        "run_id" => "run_hash",
        "parent.run_id" => "fork_from",
        name => name,
    };
    argument(&ArgumentError { argument: name, ..error })
}

/// The exception for an artifact or payload that cannot be accepted.
pub(crate) fn upload(error: UploadError) -> PyErr {
    match error {
        UploadError::Argument(error) => argument(&error),
        UploadError::File { ref source, .. } => file(source, error.to_string()),
    }
}

/// The exception for a request without a result; its classes are defined in
/// `matyan_client.errors`.
pub(crate) fn http(error: HttpError) -> PyErr {
    let (class, status, code) = match &error {
        HttpError::Interrupted => {
            return interruption().unwrap_or_else(|| PyKeyboardInterrupt::new_err(()));
        }
        HttpError::InvalidUrl { .. } => return PyValueError::new_err(error.to_string()),
        HttpError::File { source, .. } => {
            return file(source, error.to_string());
        }
        HttpError::NotFound { .. } | HttpError::NoProject { .. } => ("NotFoundError", Some(404), ""),
        HttpError::Refused { status, code, .. } => ("ServerError", Some(*status), code.as_str()),
        HttpError::Unsupported { .. } => ("UnsupportedError", None, ""),
        HttpError::Unreachable { .. } | HttpError::TimedOut { .. } => ("TransportError", None, ""),
        _ => ("ServerError", None, ""),
    };
    Python::attach(|py| {
        exception(py, class, &error.to_string(), status, code).unwrap_or_else(|failure| failure)
    })
}

/// The exception for a file that cannot be read.
pub(crate) fn file_at(error: &io::Error, path: &Path) -> PyErr {
    let text = error.to_string();
    match error.raw_os_error() {
        // `OSError` chooses its subclass by the number, and shows it.
        Some(number) => {
            let text = text.split(" (os error").next().unwrap_or_default().to_owned();
            PyOSError::new_err((number, text, path.to_owned()))
        }
        None => PyOSError::new_err(format!("{}: {text}", path.display())),
    }
}

fn file(source: &io::Error, text: String) -> PyErr {
    match source.raw_os_error() {
        // `OSError` chooses its subclass by the number.
        Some(number) => PyOSError::new_err((number, text)),
        None => PyOSError::new_err(text),
    }
}

fn exception(py: Python<'_>, class: &str, text: &str, status: Option<u16>, code: &str) -> PyResult<PyErr> {
    let keywords = PyDict::new(py);
    keywords.set_item("status", status)?;
    keywords.set_item("code", code)?;
    let class = py.import("matyan_client.errors")?.getattr(class)?;
    Ok(PyErr::from_value(class.call((text,), Some(&keywords))?))
}
