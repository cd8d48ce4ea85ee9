//! The workers: ingestion (log to store), control (events to blobs), and the jobs that keep the store in shape.
//! Deliberately absent: any API. What a worker did is seen in the store, and in its metrics.

mod deps;
mod error;
mod metrics;

mod record;

mod apply;
mod ingest;

mod control;
mod fold;
mod jobs;

pub use control::Control;
pub use deps::{Clock, Deps, Random};
pub use error::Error;
pub use fold::{FoldNotices, FoldThread};
pub use ingest::{IngestSettings, Ingestion, log_number};
pub use metrics::Metrics;

#[cfg(test)]
mod tests;
