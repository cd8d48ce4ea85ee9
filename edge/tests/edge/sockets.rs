//! The protocols of WebSockets, with a frontier that is reached over gRPC.

use crate::server::Server;

#[path = "websocket.rs"]
mod websocket;
#[path = "websocket_binary.rs"]
mod websocket_binary;
