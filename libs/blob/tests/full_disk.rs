//! Behavior on a full disk: a small tmpfs, which takes root to mount. Without root the case is
//! ignored, with the reason.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use libtest_mimic::{Arguments, Trial};
use matyan_blob::{BlobKey, Blobs, Clock, Error, UrlSigner, fs::FsBlobs};

const DISK: &str = "size=1m";
const PIECE: usize = 200_000;

struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(folder.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Self(folder)),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "the small disk stays mounted");
    }
}

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

fn main() {
    let disk = SmallDisk::mount();
    let name = match &disk {
        Ok(_) => "full_disk".to_owned(),
        Err(reason) => format!("full_disk (needs to mount a tmpfs: {reason})"),
    };
    let ignored = disk.is_err();
    let trial = Trial::test(name, move || {
        fills_refuses_and_recovers(disk.expect("ignored without").0.path());
        Ok(())
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial.with_ignored_flag(ignored)]).exit();
}
