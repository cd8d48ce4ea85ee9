//! The object stores of three clouds, behind one set of settings each: what wiring, commands and tests choose from.

use std::{fmt, sync::Arc};

use crate::{Blobs, Clock, Created, Result, azure, gcs, s3};

#[derive(Clone)]
pub enum Cloud {
    S3(s3::Settings),
    Gcs(gcs::Settings),
    Azure(azure::Settings),
}

impl Cloud {
    /// Asks nothing of the store yet: whether the bucket is there, the first call tells.
    pub async fn open(&self, clock: Clock) -> Result<Arc<dyn Blobs>> {
        match self {
            Self::S3(settings) => s3::open(settings, clock).await,
            Self::Gcs(settings) => gcs::open(settings),
            Self::Azure(settings) => azure::open(settings, clock),
        }
    }

    /// Makes the bucket, or container, if it is not there.
    pub async fn create_bucket(&self, clock: Clock) -> Result<Created> {
        match self {
            Self::S3(settings) => s3::create_bucket(settings, clock).await,
            Self::Gcs(settings) => gcs::create_bucket(settings).await,
            Self::Azure(settings) => azure::create_bucket(settings).await,
        }
    }

    /// What stands before a key in the URIs that people see.
    pub fn uri(&self) -> String {
        match self {
            Self::S3(settings) => format!("s3://{}", settings.bucket),
            Self::Gcs(settings) => format!("gs://{}", settings.bucket),
            Self::Azure(settings) => format!("azure://{}", settings.container),
        }
    }
}

/// Without what is secret.
impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri())
    }
}
