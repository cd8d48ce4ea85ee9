//! Real servers and small disks for tests. Each server is a process on loopback and on free ports, and ends with the
//! test program no matter how that ends. This crate depends on no Matyan crate, so that any of
//! them may use it in tests.
//!
//! Nothing is installed here: `make` does that, and sets environment variables to where each
//! server is installed. Tests of a server that is not installed are shown as ignored, with the
//! reason, unless `REQUIRE` names it (`REQUIRE=kafka,s3`).

pub mod foundationdb;
pub mod kafka;
pub mod mount;
pub mod objects;
mod process;
mod requirements;

pub use requirements::{is_required, unavailable_reason};
