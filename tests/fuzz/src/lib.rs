//! Fuzz targets: a function for every parser of external bytes, which must not panic on any
//! input.
//!
//! The list is run in two ways: with mutations of recorded data on the stable toolchain, for a
//! few seconds each, as part of the normal tests; and with libFuzzer, guided by coverage, for
//! any length of time.

mod archive;
mod client_files;
mod seeds;
mod stored_files;
mod targets;

pub use seeds::seeds;
pub use targets::{TARGETS, Target};
