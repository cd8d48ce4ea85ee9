//! Histograms of other trackers.

use matyan_tfrecord::{Bin, Distribution};
use pyo3::prelude::*;

/// Returns the weights of bins of equal width that stand for bins of any width, and their range; None without bins, or
/// if a number is not finite. A bin is a lower bound, an upper bound and a weight.
#[pyfunction]
pub(crate) fn equal_bins(bins: Vec<(f64, f64, f64)>) -> Option<(Vec<f64>, (f64, f64))> {
    let bins: Vec<Bin> = bins.into_iter().map(|(low, high, weight)| Bin { low, high, weight }).collect();
    let Distribution { low, high, weights } = Distribution::of_bins(&bins)?;
    Some((weights, (low, high)))
}
