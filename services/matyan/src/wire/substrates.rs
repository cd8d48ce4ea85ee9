//! Store, log and blobs: opened once, shared by every part of the process, closed last.
//! The only place that names an implementation.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use matyan_blob::{Blobs, UrlSigner, fs::FsBlobs};
use matyan_log::embedded::EmbeddedLog;
use matyan_model::project::format_open;
use matyan_store::embedded::EmbeddedStore;

use super::{Error, clock};
use crate::settings::{Secret, Settings};

pub(crate) struct Substrates {
    pub(crate) log: Arc<EmbeddedLog>,
    /// None in a process that may not reach state.
    pub(crate) store: Option<Arc<EmbeddedStore>>,
    pub(crate) blobs: Arc<dyn Blobs>,
    /// What the URIs of artifacts begin with.
    pub(crate) blob_uri: String,
    pub(crate) signer: UrlSigner,
}

impl Substrates {
    /// Side by side: each of them waits for the disk.
    pub(crate) async fn open(settings: &Settings, data_dir: &Path, secret: &Secret) -> Result<Self, Error> {
        let signer = UrlSigner::new(secret.reveal(), settings.upload_lifetime, clock::now_us());
        let blobs_dir = settings.blobs_dir.clone().unwrap_or_else(|| data_dir.join("blobs"));
        // Where the directory is concerns nobody but the operator.
        let blob_uri = "blobs:/".to_owned();
        let (log, store, blobs) = tokio::try_join!(
            async { Ok(EmbeddedLog::open(data_dir.join("log"), Default::default()).await?) },
            store_open(settings, data_dir.join("store")),
            blobs_open(blobs_dir, signer.clone()),
        )?;
        Ok(Self { log: Arc::new(log), store, blobs, blob_uri, signer })
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
    pub(crate) async fn close(&self) -> Result<(), Error> {
        if let Some(store) = &self.store {
            store.close().await?;
        }
        Ok(self.log.close().await?)
    }
}

async fn store_open(settings: &Settings, path: PathBuf) -> Result<Option<Arc<EmbeddedStore>>, Error> {
    if !settings.role.has_store() {
        return Ok(None);
    }
    let store = EmbeddedStore::open(path, Default::default()).await?;
    format_open(&store).await?;
    Ok(Some(Arc::new(store)))
}

async fn blobs_open(path: PathBuf, signer: UrlSigner) -> Result<Arc<dyn Blobs>, Error> {
    let opened = tokio::task::spawn_blocking(move || FsBlobs::open(&path, signer, clock::now_us())).await;
    Ok(Arc::new(opened.expect("opening does not panic, and nobody cancels it")?))
}
