//! Stores that wrap other stores, for tests of store users. There is no retry layer: `transact` retries
//! conflicts, and callers decide how long to wait for an unavailable store.

mod commit_history;
mod fault;
mod fence;

pub use fault::{Fault, Faults, FaultyStore};
pub use fence::FenceStore;
