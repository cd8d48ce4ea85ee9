//! Stores that wrap other stores, composed where the program is wired.
//!
//! `FaultStore` and `FenceStore` serve tests of store users, `MetricsStore` serves operators. There is no retry
//! layer: `transact` retries conflicts, and callers decide how long to wait for an unavailable
//! store.

#[cfg(feature = "faults")]
mod commit_history;
#[cfg(feature = "faults")]
mod fault;
#[cfg(feature = "faults")]
mod fence;
mod metrics;

#[cfg(feature = "faults")]
pub use fault::{Fault, FaultStore, Faults};
#[cfg(feature = "faults")]
pub use fence::FenceStore;
pub use metrics::{MetricsStore, Outcome, Recorder};
