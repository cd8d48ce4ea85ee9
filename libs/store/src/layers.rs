//! Stores that wrap other stores, composed where the program is wired.
//!
//! `FaultStore` serves tests of store users, `MetricsStore` serves operators. There is no retry
//! layer: `transact` retries conflicts, and callers decide how long to wait for an unavailable
//! store.

#[cfg(feature = "faults")]
mod commit_history;
#[cfg(feature = "faults")]
mod fault;
mod metrics;

#[cfg(feature = "faults")]
pub use fault::{Fault, FaultStore, Faults};
pub use metrics::{MetricsStore, Outcome, Recorder};
