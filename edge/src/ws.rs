//! The WebSocket side of ingestion: a socket is a client of `IngestService.Stream`, in JSON or in protobuf.

pub mod json;
