//! Names of runs that nobody has named.

use pyo3::prelude::*;

/// Returns the name that servers give to a run without a name.
#[pyfunction]
pub(crate) fn spoken_name(run_hash: &str) -> String {
    matyan_value::spoken_name(run_hash)
}
