//! gRPC queries and control operations: reads the store, writes control changes to it, and
//! appends deletions to the log. It holds only a log writer, so it cannot read the log.
//!
//! The modules are rooms on floors, listed below from the ground up; a blank line between the `mod`
//! declarations separates two floors. A file imports only from its own room and from rooms on lower
//! floors. Each gRPC service is a struct that holds its dependencies.
//!
//! 1. `server`: the state, calls, streams, conversions and errors that all services share.
//! 2. `view`: runs as they are found and shown.
//! 3. `changes`: the changes of runs as they are committed; `listing`: lists that are read page by page.
//! 4. `access`, `admin`, `logs`, `series`, `system`: services of one subject each.
//! 5. `query`: plans, candidates, tables, searches and exports.
//! 6. `edit`: runs, experiments, tags, notes, documents and projects.
//! 7. `artifacts`: the files of runs; `studies`: studies, whose trials are runs.
//! 8. `backup`, `subscriptions`: services that use several other rooms.
//! 9. `services`: the list of the services.

mod server;

mod view;

mod changes;
mod listing;

mod access;
mod admin;
mod logs;
mod series;
mod system;

mod query;

mod edit;

mod artifacts;
mod studies;

mod backup;
mod subscriptions;

mod services;

pub use query::table::MAX_TABLE_BYTES;
pub use server::{
    audit::{AuditEvent, AuditLog, Audited},
    deps::{Clock, Deps},
    evaluation::{BusyTaskThreads, Evaluation},
    live_readers::LiveReaders,
    metrics::Metrics,
    run_samples::RunSamples,
    scheduling::{interruptible, run_on_idle_cores},
    uri_key::UriKey,
};
pub use services::Backend;
pub use system::{IngestionProblem, UploadProblem};
