//! Tests of the edge through real sockets on loopback, with a fake frontier that behaves as
//! each test demands.
//! The responses of the real frontier are tested in its crate; these tests are about how the
//! edge handles them.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking, and the lint also applies to helpers")]

mod access;
mod backend;
mod call_limits;
mod caller_outage;
mod compression;
mod deadlines;
mod frontier;
mod grpc;
mod http_calls;
#[cfg(feature = "mlflow")]
mod mlflow;
mod projects;
mod rest;
mod server;
mod sessions;
mod sign_in;
mod ui;
#[cfg(feature = "wandb")]
mod wandb;
#[cfg(feature = "wandb")]
mod wandb_access;
#[cfg(feature = "wandb")]
mod wandb_artifacts;
#[cfg(feature = "wandb")]
mod wandb_writes;
mod websocket;
mod websocket_binary;
