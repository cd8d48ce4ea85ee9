//! Whether a server fits this package, for the command line.

use pyo3::prelude::*;

/// Returns advice for the user if a server of this version is older than this package.
#[pyfunction]
pub(crate) fn version_advice(server: &str) -> Option<String> {
    matyan_sdk::version_advice(server)
}
