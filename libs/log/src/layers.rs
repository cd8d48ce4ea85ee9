//! Layers for tests. One wraps any log, implements the same traits, and injects realistic faults.
//! The other is the disk of an embedded log, and loses unsynced changes. Retries are left to
//! callers, and metrics to services.

mod faults;
mod lossy_disk;

pub use faults::{AppendFault, DeliveryFault, Faults, FaultyReader, FaultyWriter, Rates};
pub use lossy_disk::{DiskOperation, LossyDisk};
