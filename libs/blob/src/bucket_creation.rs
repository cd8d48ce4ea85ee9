//! Outcome of creating a bucket, which is the same for all clouds.

/// Whether a bucket had to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketCreation {
    Created,
    AlreadyExists,
}
