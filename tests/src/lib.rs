//! The harness of the whole-system tests: a real server process, and clients that talk to it like
//! users. It depends on no crate of the server except the generated API, so a test sees the same
//! system as a user.

pub mod binary;
pub mod certificate;
pub mod channel;
pub mod codec;
pub mod collector;
pub mod cores;
pub mod eventually;
pub mod exact_http;
pub mod github;
pub mod json;
pub mod kafka;
pub mod load;
pub mod loopback;
pub mod position;
pub mod raw;
pub mod reading;
pub mod secrets_at_rest;
pub mod server;
pub mod service;
pub mod stalled_upload;
pub mod vectors;

pub use channel::channel;
pub use eventually::{eventually, eventually_blocking};
pub use reading::Reader;
pub use server::Server;
pub use service::Service;
