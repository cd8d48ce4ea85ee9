//! Fuzz targets: every parser of bytes that come from outside, each a function that must never panic, whatever the bytes.
//!
//! One list, run two ways: by mutation of recorded data on the stable toolchain, some seconds each, with all other tests;
//! and guided by coverage, by libFuzzer, as long as one likes.

mod archive;
mod seeds;
mod targets;

pub use seeds::seeds;
pub use targets::{TARGETS, Target};
