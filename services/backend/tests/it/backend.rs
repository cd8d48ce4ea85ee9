//! Tests of the backend's services through generated clients, over an in-process transport: a
//! real store, log, blob store and worker in a separate directory. Client data passes through
//! the log and the worker, as in production.

#![expect(
    clippy::unwrap_used,
    reason = "tests fail by panicking, and clippy does not recognize helpers as tests"
)]

mod admin;
mod artifacts;
mod audit;
mod backup;
mod bin;
mod branches;
mod bulk_edits;
mod completion;
mod damaged_runs;
mod documents;
mod every_rpc;
mod experiments;
mod follow;
mod grants;
mod harness;
mod live_isolation;
mod login;
mod logs;
mod metric_goals;
mod notes;
mod objects;
mod partial_batches;
mod project;
mod project_isolation;
mod project_list;
mod projects;
mod resolve;
mod runs;
mod safe_edits;
mod series_edits;
mod sign_in;
mod studies;
mod subscriptions;
mod tags;
mod ui_state;
mod watch;
mod watch_runs;
