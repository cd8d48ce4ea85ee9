//! Limits of what clients may write to a blob store, in one place that no writer can pass: single
//! uploads, parts of large ones, and blobs of a backup. A disk with a directory of blobs keeps some
//! free space, because the log and the store may be on it; a project has a maximum size; and content
//! that stops arriving is given up.
//!
//! Reading order: `limited_blobs` (the blob store with limits), `metered_content`, `free_space`,
//! `project_quota`, `open_uploads`, `unsized_upload`.
//!
//! Deliberately absent: limits for workers. They store data that was acknowledged, so they use the
//! blob store without this layer; ingestion limits that data.

mod free_space;
mod limited_blobs;
mod metered_content;
mod open_uploads;
mod project_quota;
#[cfg(test)]
mod tests;
mod unsized_upload;

pub use limited_blobs::LimitedBlobs;
pub use metered_content::within_idle_limit;
pub use unsized_upload::{MAX_UNSIZED_PARTS, UnsizedUpload, UnsizedUploads};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadLimits {
    /// Maximum size of a blob that is stored in a directory, whose disk may be shared with the log.
    pub max_bytes: u64,
    /// Space that uploads leave free on the disk of a directory, but at most a tenth of it.
    pub min_free_bytes: u64,
    /// Maximum bytes of the blobs of a project; 0: no limit.
    pub max_project_bytes: u64,
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self { max_bytes: 100 << 30, min_free_bytes: 5 << 30, max_project_bytes: 0 }
    }
}

/// Reason why a limit refuses content. Names the settings of the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitReached {
    #[error(
        "uploads are limited to {limit} bytes: split the content, or ask the operator to raise `max_upload_bytes`"
    )]
    Size { limit: u64 },
    #[error(
        "the disk for uploads has {free} bytes left after uploads in progress have arrived, and {wanted} must remain \
         free: try again later, free some space, or ask the operator to lower `min_free_bytes`"
    )]
    FreeSpace { free: u64, wanted: u64 },
    #[error(
        "the project has {used} bytes of uploads, and the limit is {limit}: delete runs or artifacts, or ask the \
         operator to raise `max_project_upload_bytes`, or `project_upload_bytes` for this project"
    )]
    ProjectBytes { used: u64, limit: u64 },
    #[error(
        "the project has {limit} open uploads in parts, which is the limit: complete or abort some of them; \
         abandoned ones expire after a week"
    )]
    OpenUploads { limit: usize },
}

impl LimitReached {
    /// Whether the same call may succeed later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::FreeSpace { .. } | Self::OpenUploads { .. })
    }

    /// The limit, unless it depends on the disk.
    pub fn limit(&self) -> Option<u64> {
        match self {
            Self::Size { limit } | Self::ProjectBytes { limit, .. } => Some(*limit),
            Self::OpenUploads { limit } => Some(*limit as u64),
            Self::FreeSpace { .. } => None,
        }
    }
}
