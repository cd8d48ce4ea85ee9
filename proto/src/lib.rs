//! The gRPC API of the whole system, generated from the files under `proto/proto`. They are the documentation; there is
//! no logic and no helper here. Why a crate of its own: the edge may depend on the API and on nothing behind it.

#![allow(clippy::all, clippy::large_futures, clippy::too_many_lines, unreachable_pub, reason = "generated code")]

/// The descriptor set of every file, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

pub mod common {
    pub mod v1 {
        tonic::include_proto!("matyan.common.v1");
    }
}
pub mod ingest {
    pub mod v1 {
        tonic::include_proto!("matyan.ingest.v1");
    }
}
pub mod log {
    pub mod v1 {
        tonic::include_proto!("matyan.log.v1");
    }
}
