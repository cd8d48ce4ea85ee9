//! Blobs in a bucket of S3, or of a compatible service, through Amazon's own client. Upload URLs
//! sign the host and nothing else, so that clients may send any content type or none; their host
//! may differ from the host that this program uses itself.

mod bucket;
mod client;
mod connection;
mod delete;
mod failure;
mod multipart_upload;
mod resumable_read;

pub use crate::cloud_settings::s3::{Credentials, Settings};

use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};

use crate::{BucketCreation, Clock, Error, OpenBucket, Result, bucket::BucketBlobs};
use bucket::S3Bucket;
use connection::BucketConnection;
use failure::BucketLocation;

/// Region whose buckets are created without a location constraint.
const NO_CONSTRAINT: &str = "us-east-1";

/// Opens the store without contacting it.
pub async fn open(settings: &Settings, clock: Clock) -> Result<OpenBucket> {
    let credentials = client::credentials(settings, clock.clone()).await;
    let connect =
        |endpoint: &str| client::connect(settings, endpoint, settings.virtual_host, &credentials, &clock);
    let client = connect(&settings.endpoint);
    let signer = settings.public_endpoint.as_deref().map_or_else(|| client.clone(), connect);
    let connection = BucketConnection { client, location: BucketLocation::new(settings) };
    let bucket = S3Bucket { connection, signer, clock };
    Ok(BucketBlobs::new(bucket, settings.lifetime).into())
}

/// Creates the bucket unless it exists. Requires a permission that the running system does not
/// need: to create buckets.
pub async fn create_bucket(settings: &Settings, clock: Clock) -> Result<BucketCreation> {
    let credentials = client::credentials(settings, clock.clone()).await;
    // Path style in any case: the host name of a bucket that does not exist yet need not
    // resolve.
    let client = client::connect(settings, &settings.endpoint, false, &credentials, &clock);
    let constraint = (settings.region != NO_CONSTRAINT).then(|| {
        let region = BucketLocationConstraint::from(settings.region.as_str());
        CreateBucketConfiguration::builder().location_constraint(region).build()
    });
    let create = client.create_bucket().bucket(&settings.bucket);
    let Err(error) = create.set_create_bucket_configuration(constraint).send().await else {
        return Ok(BucketCreation::Created);
    };
    match error.as_service_error() {
        Some(error) if error.is_bucket_already_owned_by_you() => Ok(BucketCreation::AlreadyExists),
        Some(error) if error.is_bucket_already_exists() => Err(Error::Setup {
            reason: format!(
                "the bucket `{}` belongs to another account: choose another name for S3_BUCKET",
                settings.bucket
            ),
        }),
        _ => Err(BucketLocation::new(settings).failure("creating the bucket", error)),
    }
}

#[cfg(test)]
mod tests;
