//! Stores that wrap other stores, composed where the program is wired.
//!
//! `FaultStore` serves tests of store users, `MetricsStore` serves operators. There is no retry
//! layer: `transact` retries conflicts, and callers decide how long to wait for an unavailable
//! store.

mod commit_history;
mod fault;
mod metrics;

pub use fault::{Fault, FaultStore, Faults};
pub use metrics::{MetricsStore, Outcome, Recorder};
