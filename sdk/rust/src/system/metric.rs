//! One value of one resource.

use matyan_value::Context;

/// One value of one resource.
#[derive(Clone, Debug)]
pub struct SystemMetric {
    /// Name of the series, which starts with `__system__`.
    pub name: &'static str,
    /// Empty, or the index of a GPU.
    pub context: Context,
    /// Rounded to five digits after the point.
    pub value: f64,
}

pub(super) fn plain(name: &'static str, value: f64) -> SystemMetric {
    with_context(name, Context::default(), value)
}

pub(super) fn with_context(name: &'static str, context: Context, value: f64) -> SystemMetric {
    SystemMetric { name, context, value: (value * 1e5).round() / 1e5 }
}
