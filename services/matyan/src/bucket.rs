//! `matyan bucket create`: creates the bucket or container for blobs. Idempotent, so that init
//! jobs can run it at every deployment.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    process::ExitCode,
};

use matyan_blob::{BucketCreation, Cloud};
use tokio::runtime::Builder;

use crate::{
    BAD_SETTINGS, chain,
    settings::{BlobStore, Environment, Settings},
    wire::clock,
};

pub(crate) fn create(flags: BTreeMap<String, String>) -> ExitCode {
    let cloud = match Settings::resolve_blobs(flags, Environment::of_process()) {
        Ok(BlobStore::Cloud(cloud)) => cloud,
        Ok(BlobStore::Embedded | BlobStore::Directory(_)) => {
            return print_result("blobs are stored in a directory, which needs no bucket");
        }
        Err(violations) => {
            eprintln!("{violations}");
            return ExitCode::from(BAD_SETTINGS);
        }
    };
    match create_bucket(&cloud) {
        Ok(BucketCreation::Created) => print_result(&format!("created {}", cloud.uri())),
        Ok(BucketCreation::AlreadyExists) => print_result(&format!("{} already exists", cloud.uri())),
        Err(error) => {
            eprintln!("matyan: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn create_bucket(cloud: &Cloud) -> Result<BucketCreation, Box<dyn std::error::Error>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(cloud.create_bucket(clock::now_us()))?)
}

fn print_result(text: &str) -> ExitCode {
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
