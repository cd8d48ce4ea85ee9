//! Sending of one spool, for as long as it takes: connect, send, and start over when the connection
//! is lost. Nothing is ever given up.

pub(crate) mod backoff;
pub(crate) mod binary;
pub(crate) mod connection;
pub(crate) mod deleted_run;
pub(crate) mod dialer;
pub(crate) mod exchange;
pub(crate) mod first_line;
#[cfg(feature = "grpc")]
pub(crate) mod grpc;
pub(crate) mod idle_messages;
pub(crate) mod json;
pub(crate) mod link;
pub(crate) mod older_server;
pub(crate) mod outbox;
pub(crate) mod stop_and_wait;
pub(crate) mod target;
pub(crate) mod task;
pub(crate) mod websocket;
