//! The machine under a run: its load, and the environment in which the script was started.
//!
//! Everything here reads files or asks the operating system, so it belongs on the I/O side, never
//! on the thread that trains. A part that cannot be read is left out; nothing here fails.

mod environment;
mod git;
mod gpu;
mod metric;
mod metrics;
mod packages;
mod params;

pub use git::diff as git_diff;
pub use metric::SystemMetric;
pub use metrics::MetricsSampler;
pub use params::{SystemParamsInput, params};
