//! Wrappers that are stores themselves, put around any store where the program is wired.
//!
//! `FaultStore` is for tests of what uses a store, `MetricsStore` for operators. There is no retry layer: `transact` owns
//! the retries of conflicts, and how long to wait for an unavailable store is the caller's decision.

mod fault;
mod metrics;
mod survivors;

pub use fault::{Fault, FaultStore, Faults};
pub use metrics::{MetricsStore, Outcome, Recorder};
