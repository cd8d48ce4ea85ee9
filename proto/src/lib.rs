//! The gRPC API of the whole system, generated from the files under `proto/proto`, which are its
//! documentation. Only a constant and the names of outcomes are written by hand. This is a
//! separate crate so that the edge can depend on the API without depending on any service.

#![allow(
    clippy::all,
    clippy::large_futures,
    clippy::too_many_lines,
    unreachable_pub,
    reason = "generated code"
)]

/// Descriptor set of all files, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Table of limits: the defaults of `matyan.common.v1.Limits`.
pub mod limits {
    include!(concat!(env!("OUT_DIR"), "/limits.rs"));
}

pub mod admin {
    pub mod v1 {
        tonic::include_proto!("matyan.admin.v1");
    }
}
pub mod apps {
    pub mod v1 {
        tonic::include_proto!("matyan.apps.v1");
    }
}
pub mod artifacts {
    pub mod v1 {
        tonic::include_proto!("matyan.artifacts.v1");
    }
}
pub mod backup {
    pub mod v1 {
        tonic::include_proto!("matyan.backup.v1");
    }
}
pub mod common {
    pub mod v1 {
        tonic::include_proto!("matyan.common.v1");
        include!(concat!(env!("OUT_DIR"), "/statuses.rs"));

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
                [Self::Finished, Self::Failed, Self::Interrupted]
                    .into_iter()
                    .find(|kind| kind.name() == Some(name))
            }
        }
    }
}
pub mod dashboards {
    pub mod v1 {
        tonic::include_proto!("matyan.dashboards.v1");
    }
}
pub mod experiments {
    pub mod v1 {
        tonic::include_proto!("matyan.experiments.v1");
    }
}
pub mod export {
    pub mod v1 {
        tonic::include_proto!("matyan.export.v1");
    }
}
pub mod ingest {
    pub mod v1 {
        tonic::include_proto!("matyan.ingest.v1");
    }
}
pub mod live {
    pub mod v1 {
        tonic::include_proto!("matyan.live.v1");
    }
}
pub mod log {
    pub mod v1 {
        tonic::include_proto!("matyan.log.v1");
    }
}
pub mod logs {
    pub mod v1 {
        tonic::include_proto!("matyan.logs.v1");
    }
}
pub mod notes {
    pub mod v1 {
        tonic::include_proto!("matyan.notes.v1");
    }
}
pub mod objects {
    pub mod v1 {
        tonic::include_proto!("matyan.objects.v1");
    }
}
pub mod project {
    pub mod v1 {
        tonic::include_proto!("matyan.project.v1");
    }
}
pub mod reports {
    pub mod v1 {
        tonic::include_proto!("matyan.reports.v1");
    }
}
pub mod runs {
    pub mod v1 {
        tonic::include_proto!("matyan.runs.v1");
    }
}
pub mod search {
    pub mod v1 {
        tonic::include_proto!("matyan.search.v1");
    }
}
pub mod series {
    pub mod v1 {
        tonic::include_proto!("matyan.series.v1");
    }
}
pub mod system {
    pub mod v1 {
        tonic::include_proto!("matyan.system.v1");
    }
}
pub mod tags {
    pub mod v1 {
        tonic::include_proto!("matyan.tags.v1");
    }
}
