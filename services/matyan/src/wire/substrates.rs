//! Store, log and blobs: opened once, shared by all services of the process, closed last. Only
//! this module names implementations.

mod format_fence;
mod log;
mod store;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use matyan_blob::{Blobs, Cloud, LimitedBlobs, UrlSigner, fs::FsBlobs};
use tokio::time::timeout;

use super::{Error, clock, data_dir::open_private_dir};
use crate::settings::{BlobStore, Secret, Settings};
pub(crate) use log::Log;
pub(crate) use store::{Network, Store};

/// Time limit for creating the bucket at startup.
const BUCKET_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Substrates {
    pub(crate) log: Log,
    /// None if the process may not access state.
    pub(crate) store: Option<Store>,
    /// For data that was acknowledged, which no limit of uploads may stop.
    pub(crate) blobs: Arc<dyn Blobs>,
    /// The same blobs for what clients write.
    pub(crate) limited_blobs: Arc<LimitedBlobs>,
    /// Prefix of the URIs of artifacts.
    pub(crate) blob_uri: String,
    /// None for a cloud, to which clients upload directly.
    pub(crate) upload_signer: Option<UrlSigner>,
}

impl Substrates {
    /// Opens all three concurrently, because each waits for the disk.
    pub(crate) async fn open(
        settings: &Settings,
        network: &Network,
        data_dir: Option<&Path>,
        secret: &Secret,
    ) -> Result<Self, Error> {
        let data_path =
            |folder: &str| data_dir.expect("embedded backends have a data directory").join(folder);
        let (log, store, blobs) = tokio::try_join!(
            Log::open(settings, data_path),
            open_store(settings, network, data_path),
            open_blobs(settings, data_path, secret),
        )?;
        let OpenBlobs { blobs, limited_blobs, uri: blob_uri, upload_signer } = blobs;
        Ok(Self { log, store, blobs, limited_blobs, blob_uri, upload_signer })
    }

    /// Waits until a substrate ends unexpectedly, which ends the process. Cancel-safe.
    pub(crate) async fn ended(&self) -> Error {
        let store = async {
            match &self.store {
                Some(store) => store.ended().await,
                None => std::future::pending().await,
            }
        };
        let raised = async {
            match &self.store {
                Some(store) => store.format_raised().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            error = raised => Error::FormatRaised(error),
            () = store => Error::ServiceEnded { service: "the writer thread of the store" },
            () = self.log.ended() => Error::ServiceEnded { service: "the writer thread of the log" },
        }
    }

    /// Closes the substrates; called once nothing uses them. The store is closed first: the log still has
    /// everything that the store might lose.
    pub(crate) async fn close(&self, patience: Duration) -> Result<(), Error> {
        if let Some(store) = &self.store {
            store.close().await?;
        }
        self.log.close(patience).await
    }
}

/// None if the process may not access state.
async fn open_store(
    settings: &Settings,
    network: &Network,
    data_path: impl Fn(&str) -> PathBuf,
) -> Result<Option<Store>, Error> {
    match settings.store() {
        Some(store) => Ok(Some(Store::open(store, network, data_path).await?)),
        None => Ok(None),
    }
}

struct OpenBlobs {
    blobs: Arc<dyn Blobs>,
    limited_blobs: Arc<LimitedBlobs>,
    uri: String,
    upload_signer: Option<UrlSigner>,
}

async fn open_blobs(
    settings: &Settings,
    data_path: impl Fn(&str) -> PathBuf,
    secret: &Secret,
) -> Result<OpenBlobs, Error> {
    let path = match &settings.storage.blobs {
        BlobStore::Embedded => data_path("blobs"),
        BlobStore::Directory(path) => {
            let path = path.clone();
            let opened = tokio::task::spawn_blocking(move || open_private_dir(&path)).await;
            opened.expect("opening neither panics nor is canceled")?
        }
        BlobStore::Cloud(cloud) => {
            create_bucket(settings, cloud).await;
            let bucket = cloud.open(clock::now_us()).await?;
            return Ok(OpenBlobs {
                blobs: bucket.blobs.clone(),
                limited_blobs: Arc::new(limited(
                    LimitedBlobs::cloud(bucket, settings.upload_limits),
                    settings,
                )),
                uri: cloud.uri(),
                upload_signer: None,
            });
        }
    };
    let signer = UrlSigner::new(secret.reveal(), settings.storage.upload_lifetime, clock::now_us());
    let open = {
        let signer = signer.clone();
        move || FsBlobs::open(&path, signer, clock::now_us())
    };
    let opened = tokio::task::spawn_blocking(open).await;
    let blobs = Arc::new(opened.expect("opening neither panics nor is canceled")?);
    // The location of the directory concerns only the operator.
    Ok(OpenBlobs {
        limited_blobs: Arc::new(limited(
            LimitedBlobs::directory(blobs.clone(), settings.upload_limits),
            settings,
        )),
        blobs,
        uri: "blobs:/".to_owned(),
        upload_signer: Some(signer),
    })
}

/// Also gives projects their own limits.
fn limited(blobs: LimitedBlobs, settings: &Settings) -> LimitedBlobs {
    blobs.with_project_limits(settings.project_upload_bytes.clone())
}

/// Creates a missing bucket of Google or container of Azure, like the frontier of Matyan 0.3.
/// Buckets of S3 are created by the operator. On failure the process starts anyway: training
/// does not depend on blobs.
async fn create_bucket(settings: &Settings, cloud: &Cloud) {
    if !settings.role.has_frontier() || matches!(cloud, Cloud::S3(_)) {
        return;
    }
    match timeout(BUCKET_TIMEOUT, cloud.create_bucket(clock::now_us())).await {
        Ok(Ok(created)) => tracing::info!(bucket = cloud.uri(), ?created, "blob bucket is ready"),
        Ok(Err(error)) => tracing::warn!(bucket = cloud.uri(), %error, "failed to create the blob bucket"),
        Err(_) => tracing::warn!(bucket = cloud.uri(), "timed out creating the blob bucket"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use futures::FutureExt as _;
    use matyan_model::keys;
    use matyan_store::{Batch, Commit};

    use super::*;
    use crate::settings::Role;

    async fn open(data_dir: &Path) -> Substrates {
        let access = ("MATYAN_ACCESS".to_owned(), "off".to_owned());
        let settings = Settings::resolve(Role::Up, Default::default(), [access].into_iter().collect());
        let settings = settings.unwrap();
        let network = Network::start(settings.store()).unwrap();
        let secret = Secret::new("secret".to_owned());
        Substrates::open(&settings, &network, Some(data_dir), &secret).await.unwrap()
    }

    /// Ends a part, and returns the reason for which the process ends.
    async fn reason(end: impl AsyncFnOnce(&Substrates)) -> String {
        let data_dir = tempfile::tempdir().unwrap();
        let substrates = open(data_dir.path()).await;
        let mut ended = Box::pin(substrates.ended());
        assert!(ended.as_mut().now_or_never().is_none(), "all parts run");
        end(&substrates).await;
        ended.await.to_string()
    }

    #[tokio::test]
    async fn rule_73_a_new_directory_of_blobs_is_only_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/on/demand");
        let flags = [("MATYAN_ACCESS", "off"), ("MATYAN_BLOBS", &format!("file://{}", path.display()))];
        let variables = flags.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = Settings::resolve(Role::Up, Default::default(), variables.into_iter().collect());
        open_blobs(&settings.unwrap(), |_| unreachable!("it is given"), &Secret::new("secret".to_owned()))
            .await
            .unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[tokio::test]
    async fn the_process_learns_that_a_part_of_it_has_ended() {
        let log = reason(async |substrates| {
            let Log::Embedded(log) = &substrates.log else { panic!("the log is embedded") };
            log.close().await.unwrap();
        });
        assert_eq!(log.await, "the writer thread of the log ended unexpectedly");
        let store = reason(async |substrates| substrates.store.as_ref().unwrap().close().await.unwrap());
        assert_eq!(store.await, "the writer thread of the store ended unexpectedly");
    }

    #[tokio::test]
    async fn rule_44_a_process_whose_store_was_raised_ends_with_the_reason() {
        let raised = reason(async |substrates| {
            let store = substrates.store.as_ref().unwrap().shared();
            let key = keys::format();
            let row = store.snapshot().await.unwrap().get(&key).await.unwrap().unwrap();
            let mut newer = row.to_vec();
            *newer.last_mut().unwrap() += 2;
            let mut batch = Batch::default();
            batch.set(key, newer);
            assert!(matches!(store.commit(batch).await.unwrap(), Commit::Done { .. }));
        });
        let raised = raised.await;
        assert!(raised.contains("another process has migrated the store"), "{raised}");
    }
}
