//! Wrappers that implement the trait around another store; the wiring code composes them.

mod faults;

pub use faults::{BlobCall, BlobFault, FaultyBlobs};
