//! Tests of the backend through its gRPC services.

mod backend;
#[cfg(test)]
mod search;
