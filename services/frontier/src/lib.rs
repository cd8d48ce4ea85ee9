//! gRPC ingestion and presign: validates, publishes, never stores.
