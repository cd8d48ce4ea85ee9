//! The object stores of three clouds as one type, for wiring, commands and tests.

use std::{fmt, sync::Arc};

use crate::{Blobs, BucketCreation, Clock, Result, azure, gcs, s3};

#[derive(Clone)]
pub enum Cloud {
    S3(s3::Settings),
    Gcs(gcs::Settings),
    Azure(azure::Settings),
}

impl Cloud {
    /// Opens the store without contacting it; a missing bucket shows on the first call.
    pub async fn open(&self, clock: Clock) -> Result<Arc<dyn Blobs>> {
        match self {
            Self::S3(settings) => s3::open(settings, clock).await,
            Self::Gcs(settings) => gcs::open(settings),
            Self::Azure(settings) => azure::open(settings, clock),
        }
    }

    /// Creates the bucket or container unless it exists.
    pub async fn create_bucket(&self, clock: Clock) -> Result<BucketCreation> {
        match self {
            Self::S3(settings) => s3::create_bucket(settings, clock).await,
            Self::Gcs(settings) => gcs::create_bucket(settings).await,
            Self::Azure(settings) => azure::create_bucket(settings).await,
        }
    }

    /// Prefix of keys in the URIs shown to people.
    pub fn uri(&self) -> String {
        match self {
            Self::S3(settings) => format!("s3://{}", settings.bucket),
            Self::Gcs(settings) => format!("gs://{}", settings.bucket),
            Self::Azure(settings) => format!("azure://{}", settings.container),
        }
    }
}

/// Shows the URI only, as settings contain secrets.
impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri())
    }
}
