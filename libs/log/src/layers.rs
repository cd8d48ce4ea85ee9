//! Layers that wrap any log; each implements the same traits as the log it wraps. The only one
//! injects realistic faults. Retries are left to callers, and metrics to services.

mod faults;

pub use faults::{AppendFault, DeliveryFault, Faults, FaultyReader, FaultyWriter, Rates};
