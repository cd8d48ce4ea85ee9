//! The messages and the service on the wire.

#![allow(
    dead_code,
    clippy::all,
    clippy::large_futures,
    clippy::too_many_lines,
    unreachable_pub,
    reason = "generated code"
)]

tonic::include_proto!("optuna");
