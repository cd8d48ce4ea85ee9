//! Real servers for tests, each a process on loopback and on free ports, that ends with the test program however that ends.
//! They know no crate of ours, so that any may play against them.
//!
//! Nothing is installed here: `make` does that, and tells by variables of the environment where each lies. What is not there
//! makes its tests show as ignored, with the reason, unless `REQUIRE` names it (`REQUIRE=kafka,s3`).

pub mod foundationdb;
pub mod kafka;
mod need;
pub mod objects;
mod process;

pub use need::{is_required, lacking};
