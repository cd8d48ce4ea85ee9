//! gRPC queries and control operations.
