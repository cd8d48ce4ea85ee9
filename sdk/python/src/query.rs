//! Queries that readers of the web UI type.

use matyan_value::query_words;
use pyo3::{prelude::*, types::PyString};

use crate::convert;

/// Returns a query as the server reads it, with expressions in place of words.
#[pyfunction]
pub(crate) fn query_expression(query: &Bound<'_, PyString>) -> String {
    query_words::expression_of(&convert::text(query))
}
