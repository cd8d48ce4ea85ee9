//! The workers: ingestion (log to store), control (events to blobs), and the jobs that keep the
//! store tidy. They deliberately have no API except the health check. The results of a worker
//! are visible in the store and in its metrics.

mod deps;
mod error;
mod heartbeat;
mod metrics;

mod record;

mod apply;
mod ingest;

mod control;
mod fold;
mod job_scheduler;
mod trial_points;

mod system;

pub use control::{ControlSettings, ControlWorker};
pub use deps::{Clock, Deps, Random};
pub use error::Error;
pub use fold::{FoldNotices, FoldThread};
pub use heartbeat::Heartbeat;
pub use ingest::{IngestSettings, IngestionWorker, StoppedPartitions, log_number};
pub use metrics::Metrics;
pub use system::System;

#[cfg(test)]
mod tests;
