//! Tests of the SDK against a real server.

mod access;
mod delivery;
mod reading;
mod uploads;
