//! Messages of other trackers in Python: fields by number.

use bytes::Bytes;
use matyan_protobuf::{Error, FieldsByNumber};
use pyo3::{create_exception, exceptions::PyValueError, prelude::*, types::PyBytes};

create_exception!(matyan_client._core, ProtobufError, PyValueError, "Bytes that are not a protobuf message.");

/// Fields of a message. The last value of a field counts unless the field is repeated.
#[pyclass(frozen, module = "matyan_client._core")]
pub(crate) struct ProtobufMessage(FieldsByNumber);

#[pymethods]
impl ProtobufMessage {
    #[new]
    fn new(data: &[u8]) -> PyResult<Self> {
        FieldsByNumber::parse(Bytes::copy_from_slice(data)).map(Self).map_err(raised)
    }

    fn __contains__(&self, number: u64) -> bool {
        self.0.contains(number)
    }

    /// Returns a varint as a signed number; 0 if absent.
    fn integer(&self, number: u64) -> i64 {
        self.0.integer(number)
    }

    /// Returns bytes; empty if absent.
    fn content<'py>(&self, py: Python<'py>, number: u64) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.content(number))
    }

    /// Returns text; empty if absent.
    fn text(&self, number: u64) -> String {
        self.0.text(number)
    }

    /// Returns a message; an empty one if absent.
    fn message(&self, number: u64) -> PyResult<Self> {
        self.0.message(number).map(Self).map_err(raised)
    }

    /// Returns a repeated message.
    fn messages(&self, number: u64) -> PyResult<Vec<Self>> {
        let messages = self.0.messages(number).map_err(raised)?;
        Ok(messages.into_iter().map(Self).collect())
    }

    /// Returns repeated bytes.
    fn contents<'py>(&self, py: Python<'py>, number: u64) -> Vec<Bound<'py, PyBytes>> {
        self.0.contents(number).map(|bytes| PyBytes::new(py, bytes)).collect()
    }
}

fn raised(error: Error) -> PyErr {
    ProtobufError::new_err(error.to_string())
}
