//! Conversion of errors to Python exceptions.

use matyan_sdk::{ArgumentError, UploadError, http::HttpError};
use pyo3::{
    PyErr,
    exceptions::{PyKeyboardInterrupt, PyOSError, PyTypeError, PyValueError},
    prelude::*,
    types::PyDict,
};

use crate::interruption::interruption;

/// A `TypeError` that names the argument.
pub(crate) fn wrong_type(argument: &str, expected: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let kind = value.get_type();
    let kind = kind.name().map_or_else(|_| "another type".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("`{argument}`: expected {expected}, not {kind}"))
}

/// The exception for an argument that has the right type but an unusable value.
pub(crate) fn argument(error: &ArgumentError) -> PyErr {
    PyValueError::new_err(error.to_string())
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
        HttpError::NotFound { .. } => ("NotFoundError", Some(404), ""),
        HttpError::Refused { status, code, .. } => ("ServerError", Some(*status), code.as_str()),
        HttpError::Unsupported { .. } => ("UnsupportedError", None, ""),
        HttpError::Unreachable { .. } | HttpError::TimedOut { .. } => ("TransportError", None, ""),
        _ => ("ServerError", None, ""),
    };
    Python::attach(|py| {
        exception(py, class, &error.to_string(), status, code).unwrap_or_else(|failure| failure)
    })
}

fn file(source: &std::io::Error, text: String) -> PyErr {
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
