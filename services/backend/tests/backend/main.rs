//! The services of the backend through generated clients, over an in-process transport: a real store, log, blob store and
//! worker in a folder of their own. What clients log goes through the log and the worker, as it does in production.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and helpers are no test functions")]

mod admin;
mod artifacts;
mod backup;
mod experiments;
mod logs;
mod notes;
mod objects;
mod project;
mod projects;
mod runs;
mod saved;
mod tags;
mod watch;
mod world;
