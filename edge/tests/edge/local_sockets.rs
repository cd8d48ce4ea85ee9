//! The protocols of WebSockets, with a frontier that takes their messages directly.

use crate::server::LocalServer as Server;

#[path = "websocket.rs"]
#[allow(clippy::duplicate_mod, reason = "both ways to the frontier pass the same tests")]
mod websocket;
#[path = "websocket_binary.rs"]
#[allow(clippy::duplicate_mod, reason = "both ways to the frontier pass the same tests")]
mod websocket_binary;
