//! The workers: ingestion (log to store), control (events to blobs), and the jobs that keep the
//! store tidy. They deliberately have no API except the health check. The results of a worker
//! are visible in the store and in its metrics.
//!
//! The modules are rooms on floors, from the ground up; a blank line between the `mod` declarations
//! separates two floors. A file imports only from its own room and from rooms on lower floors.

mod deps;
mod error;
mod heartbeat;
mod metrics;

mod record;

mod apply;

mod fold;
mod trial_points;

mod ingest;
mod job_scheduler;

mod control;
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
