//! What can be put around any log: each layer implements the same traits as what it wraps.
//! There is one, which makes a log fail as real ones do; retrying is the caller's business, and measuring the service's.

mod faults;

pub use faults::{AppendFault, DeliveryFault, Faults, FaultyReader, FaultyWriter, Rates};
