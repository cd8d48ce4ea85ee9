//! Values in event files of TensorBoard that are more than a number: tensors and histograms.

use matyan_tfrecord::{Bin, Distribution, Elements, Histogram, TensorProto};
use prost::Message;
use pyo3::{create_exception, exceptions::PyValueError, prelude::*, types::PyBytes};

use crate::protobuf_message::ProtobufError;

create_exception!(matyan_client._core, TensorError, PyValueError, "The reason why a tensor is left out.");

/// Lower bound, upper bound and weight of a bin.
type BinParts = (f64, f64, f64);

/// Elements of a tensor in the order of rows.
#[pyclass(frozen, module = "matyan_client._core")]
pub(crate) struct Tensor {
    sizes: Vec<i64>,
    elements: Elements,
}

#[pymethods]
impl Tensor {
    /// Reads a `TensorProto`.
    #[new]
    fn new(data: &[u8]) -> PyResult<Self> {
        let tensor: TensorProto = decoded(data)?;
        let sizes = tensor.sizes();
        let elements = tensor.elements().map_err(|problem| TensorError::new_err(problem.to_string()))?;
        Ok(Self { sizes, elements })
    }

    /// Elements that are numbers; empty if they are texts.
    #[getter]
    fn numbers(&self) -> Vec<f64> {
        self.found_numbers().to_vec()
    }

    /// Elements that are texts, as bytes; None if they are numbers.
    #[getter]
    fn texts<'py>(&self, py: Python<'py>) -> Option<Vec<Bound<'py, PyBytes>>> {
        match &self.elements {
            Elements::Numbers(_) => None,
            Elements::Texts(texts) => Some(texts.iter().map(|text| PyBytes::new(py, text)).collect()),
        }
    }

    /// Returns the bins of a histogram; None if the tensor does not have the shape of one.
    fn bins(&self) -> Option<Vec<BinParts>> {
        Bin::of_rows(&self.sizes, self.found_numbers()).map(|bins| parts(&bins))
    }
}

impl Tensor {
    fn found_numbers(&self) -> &[f64] {
        match &self.elements {
            Elements::Numbers(numbers) => numbers,
            Elements::Texts(_) => &[],
        }
    }
}

/// Returns the bins of a `HistogramProto`; none if it is empty.
#[pyfunction]
pub(crate) fn histogram_bins(data: &[u8]) -> PyResult<Vec<BinParts>> {
    let histogram: Histogram = decoded(data)?;
    Ok(parts(&histogram.bins()))
}

/// Returns the weights of bins of equal width that stand for bins of any width, and their range; None without bins, or
/// if a number is not finite.
#[pyfunction]
pub(crate) fn equal_bins(bins: Vec<BinParts>) -> Option<(Vec<f64>, (f64, f64))> {
    let bins: Vec<Bin> = bins.into_iter().map(|(low, high, weight)| Bin { low, high, weight }).collect();
    let Distribution { low, high, weights } = Distribution::of_bins(&bins)?;
    Some((weights, (low, high)))
}

fn parts(bins: &[Bin]) -> Vec<BinParts> {
    bins.iter().map(|bin| (bin.low, bin.high, bin.weight)).collect()
}

fn decoded<M: Message + Default>(data: &[u8]) -> PyResult<M> {
    M::decode(data).map_err(|error| ProtobufError::new_err(error.to_string()))
}
