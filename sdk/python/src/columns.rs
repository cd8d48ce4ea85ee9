//! Series at full resolution as columns that other libraries use without a copy.

use std::sync::Arc;

use matyan_proto::ABSENT;
use matyan_sdk::reading::SeriesColumns;
use pyo3::{
    IntoPyObjectExt,
    exceptions::{PyIndexError, PyValueError},
    prelude::*,
    types::{PyCapsule, PyDict, PyIterator, PyList, PySlice},
};

use crate::arrow::{self, Field, Numbers};

/// A column of numbers, which cannot be changed.
///
/// It is a sequence, and `numpy.asarray` and everything that reads Arrow takes it without a copy.
#[pyclass(frozen, sequence, module = "matyan_client._core")]
#[derive(Clone, Debug)]
pub(crate) struct Column {
    numbers: Numbers,
}

/// A metric of a run: its identity, and its points in columns of equal length.
///
/// Everything that reads Arrow takes it as a table without a copy.
#[pyclass(frozen, get_all, module = "matyan_client._core", name = "SeriesColumns")]
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// Name of the metric.
    name: String,
    /// Context as JSON text.
    context_json: String,
    /// Name of the type that was tracked.
    dtype: String,
    /// Steps in ascending order.
    steps: Column,
    /// Values.
    values: Column,
    /// Epochs, or None if no point has one.
    epochs: Option<Column>,
    /// Times in microseconds since the Unix epoch, or None if the server has none.
    times_us: Option<Column>,
}

#[pymethods]
impl Column {
    fn __len__(&self) -> usize {
        self.numbers.len()
    }

    fn __getitem__<'py>(&self, py: Python<'py>, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let length = self.numbers.len();
        if let Ok(slice) = index.cast::<PySlice>() {
            let indices = slice.indices(length as isize)?;
            let positions = (0..indices.slicelength as isize).map(|at| indices.start + at * indices.step);
            let items = positions.map(|at| item(py, &self.numbers, at as usize));
            return Ok(PyList::new(py, items.collect::<PyResult<Vec<_>>>()?)?.into_any());
        }
        let index: isize = index.extract()?;
        let index = if index < 0 { index + length as isize } else { index };
        if !(0..length as isize).contains(&index) {
            return Err(PyIndexError::new_err("the column has no such row"));
        }
        item(py, &self.numbers, index as usize)
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        self.tolist(py)?.try_iter()
    }

    /// Returns the numbers as a list.
    fn tolist<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        match &self.numbers {
            Numbers::Integers(integers) => PyList::new(py, integers.iter()),
            Numbers::Floats(floats) => PyList::new(py, floats.iter()),
        }
    }

    /// The array interface of numpy, version 3. The array keeps this object alive.
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (address, kind) = match &self.numbers {
            Numbers::Integers(integers) => (integers.as_ptr() as usize, 'i'),
            Numbers::Floats(floats) => (floats.as_ptr() as usize, 'f'),
        };
        let order = if cfg!(target_endian = "big") { '>' } else { '<' };
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("shape", (self.numbers.len(),))?;
        interface.set_item("typestr", format!("{order}{kind}8"))?;
        // The second item means that the memory must not be written.
        interface.set_item("data", (address, true))?;
        Ok(interface)
    }

    /// Returns the column as an array of numpy, without a copy if none is needed. pandas reads only
    /// this.
    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        slf: &Bound<'py, Self>,
        dtype: Option<&Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let options = PyDict::new(slf.py());
        options.set_item("dtype", dtype)?;
        options.set_item("copy", copy)?;
        slf.py().import("numpy")?.call_method("array", (slf,), Some(&options))
    }

    /// Returns the type of the column as a capsule of an `ArrowSchema`.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        arrow::schema(py, &self.numbers)
    }

    /// Returns the column as capsules of an `ArrowSchema` and an `ArrowArray`. The requested type is
    /// ignored, as the protocol allows.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        let _ = requested_schema;
        Ok((arrow::schema(py, &self.numbers)?, arrow::array(py, &self.numbers)?))
    }

    fn __repr__(&self) -> String {
        let kind = match self.numbers {
            Numbers::Integers(_) => "int64",
            Numbers::Floats(_) => "float64",
        };
        format!("Column(dtype={kind}, length={})", self.numbers.len())
    }
}

#[pymethods]
impl Series {
    fn __len__(&self) -> usize {
        self.values.numbers.len()
    }

    /// Returns the type of the table as a capsule of an `ArrowSchema`.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        arrow::table_schema(py, &self.fields()?)
    }

    /// Returns the points as a table: a capsule of an `ArrowArrayStream`. The requested schema is
    /// ignored, as the protocol allows.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema;
        arrow::table_stream(py, self.fields()?)
    }

    fn __repr__(&self) -> String {
        let name = &self.name;
        let context = &self.context_json;
        format!("SeriesColumns(name={name:?}, context={context}, length={})", self.values.numbers.len())
    }
}

impl Series {
    /// Columns of the table of points that the series has. They come from a server, and
    /// consumers trust that all have the length of the table.
    fn fields(&self) -> PyResult<Vec<Field>> {
        let mut fields =
            vec![Field::new(c"step", &self.steps.numbers), Field::new(c"value", &self.values.numbers)];
        fields.extend(self.epochs.as_ref().map(|epochs| Field::new(c"epoch", &epochs.numbers)));
        fields.extend(self.times_us.as_ref().map(|times| Field::times(c"time", &times.numbers)));
        if fields.iter().any(|field| field.len() != self.steps.numbers.len()) {
            return Err(PyValueError::new_err("the server sent columns of different lengths"));
        }
        Ok(fields)
    }
}

impl From<Vec<i64>> for Column {
    fn from(integers: Vec<i64>) -> Self {
        Self { numbers: Numbers::Integers(Arc::new(integers)) }
    }
}

impl From<Vec<f64>> for Column {
    fn from(floats: Vec<f64>) -> Self {
        Self { numbers: Numbers::Floats(Arc::new(floats)) }
    }
}

impl From<SeriesColumns> for Series {
    fn from(series: SeriesColumns) -> Self {
        let SeriesColumns { name, context, dtype, steps, values, epochs, times_us } = series;
        let length = values.len();
        let epochs = if epochs.iter().all(|epoch| *epoch == ABSENT) {
            None
        } else if epochs.contains(&ABSENT) {
            // Only a float can say that a point has no epoch.
            Some(
                epochs
                    .iter()
                    .map(|epoch| if *epoch == ABSENT { f64::NAN } else { *epoch as f64 })
                    .collect::<Vec<_>>()
                    .into(),
            )
        } else {
            Some(epochs.into())
        };
        let times_us = (times_us.len() == length).then(|| times_us.into());
        let steps = steps.into();
        let values = values.into();
        Self { name, context_json: context, dtype, steps, values, epochs, times_us }
    }
}

fn item<'py>(py: Python<'py>, numbers: &Numbers, index: usize) -> PyResult<Bound<'py, PyAny>> {
    match numbers {
        Numbers::Integers(integers) => integers[index].into_bound_py_any(py),
        Numbers::Floats(floats) => floats[index].into_bound_py_any(py),
    }
}
