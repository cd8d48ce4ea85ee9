//! The gRPC API of the whole system, generated from the files under `proto/proto`, which are its
//! documentation. Only two constants, the names of outcomes and statuses, and the codec, which refuses requests that
//! would take too much memory, are written by hand. This is a separate crate so that the edge can depend on the API
//! without depending on any service.

#![allow(
    clippy::all,
    clippy::large_futures,
    clippy::too_many_lines,
    unreachable_pub,
    reason = "generated code"
)]

pub mod codec;
pub mod decoded_size;

/// A module for each package, such as `matyan::common::v1`.
mod packages {
    include!(concat!(env!("OUT_DIR"), "/packages.rs"));
}

/// Table of limits: the defaults of `matyan.common.v1.Limits`.
pub mod limits {
    include!(concat!(env!("OUT_DIR"), "/limits.rs"));
}

/// The right that each rpc needs, by its path, in the order of the paths.
pub mod accesses {
    include!(concat!(env!("OUT_DIR"), "/accesses.rs"));
}

/// Statuses of error codes.
mod statuses {
    include!(concat!(env!("OUT_DIR"), "/statuses.rs"));
}

pub use packages::matyan::*;

use common::v1::{LogPosition, OutcomeKind};

/// Descriptor set of all files, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Entry of a column of steps, epochs or times for a point that has none. No client may send this
/// number as a step, an epoch or a time.
pub const ABSENT: i64 = i64::MIN;

/// Domain of every `google.rpc.ErrorInfo` of Matyan's services. The reason is a `Code`.
pub const ERROR_DOMAIN: &str = "matyan";

/// Names of gRPC statuses, by their numbers.
const STATUS_NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The name that the specification gives to a gRPC status.
pub fn status_name(number: i32) -> &'static str {
    usize::try_from(number).ok().and_then(|number| STATUS_NAMES.get(number)).unwrap_or(&"UNKNOWN")
}

impl LogPosition {
    /// Value of `log` if the writer of the record cannot know it.
    pub const UNKNOWN_LOG: u32 = u32::MAX;
}

impl OutcomeKind {
    /// Returns the name that REST, queries and archives use. None if it is unspecified.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Unspecified => None,
            Self::Finished => Some("finished"),
            Self::Failed => Some("failed"),
            Self::Interrupted => Some("interrupted"),
        }
    }

    /// Returns the kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Finished, Self::Failed, Self::Interrupted].into_iter().find(|kind| kind.name() == Some(name))
    }
}
