//! `matyan bucket create`: creates the bucket or container for blobs. Idempotent, so that init
//! jobs can run it at every deployment.

use std::io::{self, Write};

use clap::Subcommand;
use matyan_blob::{BucketCreation, Cloud};
use tokio::runtime::Builder;

use crate::{settings::BlobStore, wire::clock};

const BUCKET_EXAMPLES: &str = "\
Examples:
  matyan bucket create                             configured by BLOB_BACKEND_TYPE, S3_BUCKET and so on
  matyan bucket create --blobs s3://artifacts      another bucket, with S3_ENDPOINT, S3_ACCESS_KEY and S3_SECRET_KEY
  matyan bucket create --blobs azure://artifacts   with AZURE_CONN_STR or AZURE_ACCOUNT_URL

A bucket that already exists is left unchanged, and the command succeeds. Blobs are never made public. Consider a lifecycle
rule on the bucket that discards incomplete uploads after some days.";

#[derive(Debug, Subcommand)]
pub(crate) enum BucketCommand {
    /// Create the bucket if it does not exist
    #[command(after_help = BUCKET_EXAMPLES)]
    Create,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to start the async runtime, or to write the output")]
    SetUp(#[source] io::Error),
    #[error(transparent)]
    Blobs(#[from] matyan_blob::Error),
}

pub(super) fn create(blobs: &BlobStore) -> Result<(), Error> {
    let result = match blobs {
        BlobStore::Cloud(cloud) => match create_bucket(cloud)? {
            BucketCreation::Created => format!("created {}", cloud.uri()),
            BucketCreation::AlreadyExists => format!("{} already exists", cloud.uri()),
        },
        BlobStore::Embedded | BlobStore::Directory(_) => {
            "blobs are stored in a directory, which needs no bucket".to_owned()
        }
    };
    writeln!(io::stdout(), "{result}").map_err(Error::SetUp)
}

fn create_bucket(cloud: &Cloud) -> Result<BucketCreation, Error> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::SetUp)?;
    Ok(runtime.block_on(cloud.create_bucket(clock::now_us()))?)
}
