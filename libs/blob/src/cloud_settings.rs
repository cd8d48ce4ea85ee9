//! Settings of the clouds' object stores: plain data, so that a build without a client can read and
//! check them too.

pub mod azure;
pub mod gcs;
pub mod s3;
