//! Tensors and arrays of JAX, which may be on a device. The core finds their series, and Python copies
//! their values, all of one call together.

use std::sync::Arc;

use matyan_sdk::Series;
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyList, PyTuple, PyType},
};

/// A series that a value will be added to when it has arrived.
#[pyclass(frozen, module = "matyan_client._core")]
pub(crate) struct TrackedSeries {
    pub(crate) series: Arc<Series>,
}

#[pymethods]
impl TrackedSeries {
    #[getter]
    fn name(&self) -> &str {
        self.series.name()
    }
}

/// The tensors of one call with their series.
pub(crate) struct TrackedTensors<'py> {
    members: Bound<'py, PyList>,
}

impl<'py> TrackedTensors<'py> {
    pub(crate) fn new(py: Python<'py>) -> Self {
        Self { members: PyList::empty(py) }
    }

    pub(crate) fn add(&self, value: &Bound<'py, PyAny>, series: Arc<Series>) -> PyResult<()> {
        let series = Bound::new(value.py(), TrackedSeries { series })?;
        self.members.append((value, series))
    }

    /// Starts to copy all values.
    pub(crate) fn track(
        self,
        run: &Bound<'py, PyAny>,
        step: Option<i64>,
        epoch: Option<i64>,
    ) -> PyResult<()> {
        if !self.members.is_empty() {
            run.call_method1("_track_tensors", (self.members, step, epoch))?;
        }
        Ok(())
    }
}

/// Reports whether values of a type may be on a device: tensors have a method `detach`, and arrays of JAX
/// `copy_to_host_async`.
pub(crate) fn may_be_on_device(kind: &Bound<'_, PyType>) -> PyResult<bool> {
    Ok(kind.hasattr("detach")? || kind.hasattr("copy_to_host_async")?)
}

/// Reports whether a tensor can be read without waiting for a device. It is not known of an array of JAX.
pub(crate) fn is_on_host(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    match value.getattr("device").and_then(|device| device.getattr("type")) {
        Ok(device_type) => device_type.eq("cpu"),
        Err(_) => Ok(!value.hasattr("copy_to_host_async")?),
    }
}

/// Checks that a tensor or an array has one element.
pub(crate) fn check_single(value: &Bound<'_, PyAny>) -> PyResult<()> {
    let is_tensor = value.hasattr("numel")?;
    let count = if is_tensor { value.call_method0("numel")? } else { value.getattr("size")? };
    if count.eq(1)? {
        return Ok(());
    }
    let shape = value.getattr("shape")?.try_iter()?.collect::<PyResult<Vec<_>>>()?;
    let shape = PyTuple::new(value.py(), shape)?;
    let message = format!("`value`: expected one element, found the shape {shape}");
    Err(if is_tensor { PyValueError::new_err(message) } else { PyTypeError::new_err(message) })
}
