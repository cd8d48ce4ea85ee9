//! The object stores of three clouds as one type, for wiring, commands and tests.

use std::fmt;

use crate::{
    BucketCreation, Clock, OpenBucket, Result,
    cloud_settings::{azure, gcs, s3},
};

#[derive(Clone)]
pub enum Cloud {
    S3(s3::Settings),
    Gcs(gcs::Settings),
    Azure(azure::Settings),
}

impl Cloud {
    /// Opens the store without contacting it; a missing bucket shows on the first call.
    #[cfg_attr(
        not(any(feature = "azure", feature = "s3")),
        expect(unused_variables, reason = "only Amazon's and Azure's clients sign with our clock")
    )]
    pub async fn open(&self, clock: Clock) -> Result<OpenBucket> {
        match self {
            #[cfg(feature = "s3")]
            Self::S3(settings) => crate::s3::open(settings, clock).await,
            #[cfg(feature = "gcs")]
            Self::Gcs(settings) => crate::gcs::open(settings),
            #[cfg(feature = "azure")]
            Self::Azure(settings) => crate::azure::open(settings, clock),
            #[cfg(not(all(feature = "azure", feature = "gcs", feature = "s3")))]
            _ => Err(self.missing_client()),
        }
    }

    /// Creates the bucket or container unless it exists.
    #[cfg_attr(
        not(feature = "s3"),
        expect(unused_variables, reason = "only Amazon's client signs with our clock")
    )]
    pub async fn create_bucket(&self, clock: Clock) -> Result<BucketCreation> {
        match self {
            #[cfg(feature = "s3")]
            Self::S3(settings) => crate::s3::create_bucket(settings, clock).await,
            #[cfg(feature = "gcs")]
            Self::Gcs(settings) => crate::gcs::create_bucket(settings).await,
            #[cfg(feature = "azure")]
            Self::Azure(settings) => crate::azure::create_bucket(settings).await,
            #[cfg(not(all(feature = "azure", feature = "gcs", feature = "s3")))]
            _ => Err(self.missing_client()),
        }
    }

    #[cfg(not(all(feature = "azure", feature = "gcs", feature = "s3")))]
    fn missing_client(&self) -> crate::Error {
        crate::Error::Setup { reason: format!("this build has no client for {}", self.uri()) }
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

/// Shows the URI only, because settings contain secrets.
impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri())
    }
}
