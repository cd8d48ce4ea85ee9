//! Store, log and blobs: opened once, shared by every part of the process, closed last.
//! The only place that names an implementation.

mod log;
mod store;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use matyan_blob::{Blobs, Cloud, UrlSigner, fs::FsBlobs};
use tokio::time::timeout;

use super::{Error, clock};
use crate::settings::{BlobStore, Secret, Settings};
pub(crate) use log::Log;
pub(crate) use store::{Network, Store};

/// A start does not wait longer for a store of blobs.
const BUCKET_WITHIN: Duration = Duration::from_secs(5);

pub(crate) struct Substrates {
    pub(crate) log: Log,
    /// None in a process that may not reach state.
    pub(crate) store: Option<Store>,
    pub(crate) blobs: Arc<dyn Blobs>,
    /// What the URIs of artifacts begin with.
    pub(crate) blob_uri: String,
    /// Of upload URLs of our own; a cloud signs by itself.
    pub(crate) signer: Option<UrlSigner>,
}

impl Substrates {
    /// Side by side: each of them waits for the disk.
    pub(crate) async fn open(
        settings: &Settings,
        network: &Network,
        data_dir: Option<&Path>,
        secret: &Secret,
    ) -> Result<Self, Error> {
        let place = |folder: &str| data_dir.expect("what is embedded has a data directory").join(folder);
        let (log, store, blobs) = tokio::try_join!(
            Log::open(settings, place),
            Store::open(settings, network, place),
            blobs_open(settings, place, secret),
        )?;
        let OpenBlobs { blobs, uri: blob_uri, signer } = blobs;
        Ok(Self { log, store, blobs, blob_uri, signer })
    }

    /// Which of them has ended without being asked to, and takes the process with it. Cancel-safe.
    pub(crate) async fn ended(&self) -> Error {
        let store = async {
            match &self.store {
                Some(store) => store.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = store => Error::PartEnded { part: "the writing thread of the store" },
            () = self.log.ended() => Error::PartEnded { part: "the writing thread of the log" },
        }
    }

    /// Called when nobody uses them any more. The store comes first: what it has lost, the log still has.
    pub(crate) async fn close(&self, patience: Duration) -> Result<(), Error> {
        if let Some(store) = &self.store {
            store.close().await?;
        }
        self.log.close(patience).await
    }
}

struct OpenBlobs {
    blobs: Arc<dyn Blobs>,
    uri: String,
    signer: Option<UrlSigner>,
}

async fn blobs_open(
    settings: &Settings,
    place: impl Fn(&str) -> PathBuf,
    secret: &Secret,
) -> Result<OpenBlobs, Error> {
    let path = match &settings.blobs {
        BlobStore::Embedded => place("blobs"),
        BlobStore::Directory(path) => path.clone(),
        BlobStore::Cloud(cloud) => {
            bucket_make(settings, cloud).await;
            let blobs = cloud.open(clock::now_us()).await?;
            return Ok(OpenBlobs { blobs, uri: cloud.uri(), signer: None });
        }
    };
    let signer = UrlSigner::new(secret.reveal(), settings.upload_lifetime, clock::now_us());
    let open = {
        let signer = signer.clone();
        move || FsBlobs::open(&path, signer, clock::now_us())
    };
    let opened = tokio::task::spawn_blocking(open).await;
    let blobs = Arc::new(opened.expect("opening does not panic, and nobody cancels it")?);
    // Where the directory is concerns nobody but the operator.
    Ok(OpenBlobs { blobs, uri: "blobs:/".to_owned(), signer: Some(signer) })
}

/// As in Matyan 0.3, the frontier makes a bucket of Google or a container of Azure that is missing. One of S3 is made by
/// whoever runs it. Training goes on without.
async fn bucket_make(settings: &Settings, cloud: &Cloud) {
    if !settings.role.has_frontier() || matches!(cloud, Cloud::S3(_)) {
        return;
    }
    match timeout(BUCKET_WITHIN, cloud.create_bucket(clock::now_us())).await {
        Ok(Ok(created)) => tracing::info!(bucket = cloud.uri(), ?created, "the blobs have a place"),
        Ok(Err(error)) => tracing::warn!(bucket = cloud.uri(), %error, "the bucket is not made"),
        Err(_) => tracing::warn!(bucket = cloud.uri(), "the blob store does not answer"),
    }
}
