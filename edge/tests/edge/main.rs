//! The edge through its front door: real sockets on loopback, and behind it a small frontier that does as a test says.
//! What the real frontier answers is tested where it lives; here it is what the edge makes of the answers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and helpers are no test functions")]

mod backend;
mod frontier;
mod grpc;
mod http_calls;
mod rest;
mod server;
mod ui;
mod websocket;
mod websocket_binary;
