//! Tests of the SDK against a real server.

mod access;
mod delivery;
mod hostile_server;
mod older_server;
mod reading;
mod tls;
mod uploads;
