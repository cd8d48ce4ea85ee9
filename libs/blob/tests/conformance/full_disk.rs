//! The local directory on a full disk: a small tmpfs, which takes root to mount. Without root the
//! case is ignored, with the reason, unless `REQUIRE=mount` is set.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use libtest_mimic::Trial;
use matyan_blob::{BlobKey, Blobs, Clock, Error, UrlSigner, fs::FsBlobs};
use matyan_servers::mount::SmallDisk;

const DISK_BYTES: u64 = 1 << 20;
const PIECE: usize = 200_000;

fn key(number: usize) -> BlobKey {
    BlobKey::new(format!("run/{number}")).unwrap()
}

async fn put(blobs: &FsBlobs, number: usize) -> matyan_blob::Result<u64> {
    blobs.put(&key(number), "", None, stream::iter([Ok(Bytes::from(vec![1; PIECE]))]).boxed()).await
}

#[tokio::main(flavor = "current_thread")]
async fn fills_refuses_and_recovers(disk: &Path) {
    let clock: Clock = Arc::new(|| 0);
    let blobs = FsBlobs::open(disk, UrlSigner::new(b"", Duration::ZERO, clock.clone()), clock).unwrap();
    let mut written = 0;
    let refused = loop {
        match put(&blobs, written).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!((1..6).contains(&written), "{written} blobs fit");
    assert!(matches!(refused, Error::Unavailable { .. }), "{refused:?}");

    // Nothing of it is visible or left in `tmp`.
    assert_eq!(blobs.list("", None).await.unwrap().blobs.len(), written);
    assert_eq!(std::fs::read_dir(disk.join("tmp")).unwrap().count(), 0);

    assert!(blobs.delete(&[key(0)]).await.unwrap().is_empty());
    put(&blobs, written).await.unwrap();
}

pub(crate) fn trial() -> Trial {
    let disk = SmallDisk::mount(DISK_BYTES);
    let unavailable = disk.as_ref().err().cloned();
    let trial = Trial::test("fs/full_disk/fills_refuses_and_recovers", move || {
        fills_refuses_and_recovers(disk.expect("it is ignored without a disk").path());
        Ok(())
    });
    match unavailable {
        Some(reason) => trial.with_kind(reason).with_ignored_flag(true),
        None => trial,
    }
}
