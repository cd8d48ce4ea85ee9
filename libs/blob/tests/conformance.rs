//! The conformance suite on the local directory, both plain and with every call delayed so that
//! calls overlap in other ways, and on real servers of the three clouds. Further trials are about a
//! full disk, and about buckets and credentials.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "conformance/cloud.rs"]
mod cloud;
#[path = "conformance/full_disk.rs"]
mod full_disk;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use libtest_mimic::Arguments;
use matyan_blob::{
    BlobKey, Blobs, OpenBucket, PresignedUpload, UPLOAD_PATH, UploadGrant, UrlSigner,
    conformance::{Backend, Fixture, trials},
    fs::FsBlobs,
    layers::{BlobFault, FaultyBlobs},
};
use percent_encoding::percent_decode_str;

const LIFETIME: Duration = Duration::from_secs(60);

struct FsFixture {
    root: tempfile::TempDir,
    now_us: Arc<AtomicI64>,
    signer: UrlSigner,
    slow: bool,
}

impl FsFixture {
    fn shared(slow: bool) -> Arc<dyn Fixture> {
        let now_us = Arc::new(AtomicI64::new(1_700_000_000_000_000));
        let signer = UrlSigner::new(b"secret", LIFETIME, clock(&now_us));
        Arc::new(Self { root: tempfile::tempdir().unwrap(), now_us, signer, slow })
    }

    fn store(&self) -> FsBlobs {
        FsBlobs::open(self.root.path(), self.signer.clone(), clock(&self.now_us)).unwrap()
    }
}

impl FsFixture {
    fn grant(&self, upload: &PresignedUpload) -> (BlobKey, matyan_blob::Result<UploadGrant>) {
        let (path, token) = upload.url.split_once('?').unwrap_or((&upload.url, ""));
        let key = percent_decode_str(path.strip_prefix(UPLOAD_PATH).unwrap()).decode_utf8().unwrap();
        let key = BlobKey::new(key).unwrap();
        let grant = self.signer.verify(&key, token);
        (key, grant)
    }
}

fn clock(now_us: &Arc<AtomicI64>) -> matyan_blob::Clock {
    let now_us = now_us.clone();
    Arc::new(move || now_us.fetch_add(1, Ordering::Relaxed))
}

#[async_trait]
impl Fixture for FsFixture {
    async fn open_bucket(&self) -> OpenBucket {
        let store = Arc::new(self.store());
        let blobs: Arc<dyn Blobs> = if self.slow {
            Arc::new(FaultyBlobs::new(store.clone(), |_| BlobFault::Delay(Duration::from_micros(100))))
        } else {
            store.clone()
        };
        OpenBucket { blobs, multipart: store }
    }

    /// Does the combined work of edge and frontier.
    async fn upload(&self, upload: &PresignedUpload, content_type: Option<&str>, body: Bytes) -> bool {
        let (key, grant) = self.grant(upload);
        let size = Some(body.len() as u64);
        let body = stream::iter([Ok(body)]).boxed();
        match grant {
            Ok(UploadGrant::Blob { size: granted }) => {
                let size = granted.or(size);
                self.store().put(&key, content_type.unwrap_or_default(), size, body).await.is_ok()
            }
            _ => false,
        }
    }

    async fn upload_part(&self, upload: &PresignedUpload, body: Bytes) -> Option<String> {
        let (key, Ok(UploadGrant::Part { upload, offset, length })) = self.grant(upload) else { return None };
        let body = stream::iter([Ok(body)]).boxed();
        self.store().put_part(&key, &upload, offset, length, body).await.ok()
    }

    async fn presign_expired(&self, key: &BlobKey) -> PresignedUpload {
        let upload = self.signer.upload(key, None);
        let passed = upload.expires + Duration::from_secs(1);
        self.now_us.fetch_add(i64::try_from(passed.as_micros()).unwrap(), Ordering::Relaxed);
        upload
    }
}

fn main() -> ExitCode {
    let mut backends = vec![
        Backend { name: "fs", make: || FsFixture::shared(false), absent: None, lacks: &[] },
        Backend { name: "fs_slow", make: || FsFixture::shared(true), absent: None, lacks: &[] },
    ];
    backends.extend(cloud::backends());
    let mut trials = trials(&backends);
    trials.extend(cloud::own_trials());
    trials.push(full_disk::trial());
    let outcome = libtest_mimic::run(&Arguments::from_args(), trials);
    cloud::stop();
    outcome.exit_code()
}
