//! Limits of uploads to a directory.

use std::{
    fs::{self, File},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{StreamExt, stream};

use super::*;
use crate::{
    BlobKey, Blobs, Clock, Content, Error, MultipartUpload, MultipartUploads, OpenBucket, Result, UrlSigner,
    fs::FsBlobs,
    upload_limits::{
        open_uploads::{MAX_OPEN_UPLOADS, OpenUploads},
        project_quota::ProjectQuota,
    },
};

fn directory(root: &Path) -> FsBlobs {
    let clock: Clock = Arc::new(|| 1_700_000_000_000_000);
    let signer = UrlSigner::new(b"secret", Duration::from_secs(1), clock.clone());
    FsBlobs::open(root, signer, clock).unwrap()
}

fn open(root: &Path, limits: UploadLimits) -> LimitedBlobs {
    LimitedBlobs::directory(Arc::new(directory(root)), limits)
}

fn quota(max_project_bytes: u64) -> UploadLimits {
    UploadLimits { max_project_bytes, ..UploadLimits::default() }
}

fn key(key: &str) -> BlobKey {
    BlobKey::new(key).unwrap()
}

fn bytes(size: usize) -> Content {
    stream::iter([Ok(Bytes::from(vec![b'x'; size]))]).boxed()
}

async fn put(blobs: &LimitedBlobs, at: &str, size: usize) -> Result<u64> {
    blobs.put(&key(at), "", Some(size as u64), bytes(size)).await
}

fn upload(at: &str, id: &str, size: u64) -> MultipartUpload {
    MultipartUpload { key: key(at), id: id.to_owned(), content_type: String::new(), size }
}

#[track_caller]
fn check_full<T: std::fmt::Debug>(answer: Result<T>, used: u64) {
    match answer {
        Err(Error::Limit(LimitReached::ProjectBytes { used: found, .. })) => assert_eq!(found, used),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn rule_57_an_upload_ends_after_a_minute_without_data() {
    let root = tempfile::tempdir().unwrap();
    let blobs = open(root.path(), UploadLimits::default());
    let stalled = || stream::iter([Ok(Bytes::from_static(b"x"))]).chain(stream::pending()).boxed();
    let answer = blobs.put(&key("run/x"), "", Some(10), stalled()).await;
    assert!(matches!(answer, Err(Error::Stalled { seconds: 60 })), "{answer:?}");
    let id = blobs.begin(&key("run/x"), "", 10).await.unwrap();
    let answer = blobs.put_part(&key("run/x"), &id, 0, 10, stalled()).await;
    assert!(matches!(answer, Err(Error::Stalled { seconds: 60 })), "{answer:?}");
    assert_eq!(fs::read_dir(root.path().join("tmp")).unwrap().count(), 0);

    let slow = stream::iter([b"abc", b"def"]).then(|piece| async move {
        tokio::time::sleep(Duration::from_secs(59)).await;
        Ok(Bytes::from_static(piece))
    });
    assert_eq!(blobs.put(&key("run/x"), "", None, slow.boxed()).await.unwrap(), 6);
}

#[tokio::test]
async fn rule_57_a_project_may_have_a_limit_of_its_own() {
    let root = tempfile::tempdir().unwrap();
    let limits = [("speech".to_owned(), 20), ("demo".to_owned(), 0), (String::new(), 5)];
    let blobs = open(root.path(), quota(10)).with_project_limits(limits.into());
    put(&blobs, ".projects/speech/run/a", 20).await.unwrap();
    check_full(put(&blobs, ".projects/speech/run/b", 1).await, 20);
    put(&blobs, ".projects/demo/run/a", 1_000).await.unwrap();
    put(&blobs, "run/a", 5).await.unwrap();
    check_full(put(&blobs, "run/b", 1).await, 5);
    put(&blobs, ".projects/vision/run/a", 10).await.unwrap();
    check_full(put(&blobs, ".projects/vision/run/b", 1).await, 10);
}

#[tokio::test]
async fn rule_57_an_upload_in_parts_keeps_its_room_until_it_ends() {
    let root = tempfile::tempdir().unwrap();
    let blobs = open(root.path(), quota(10));
    let aborted = blobs.begin(&key("run/a"), "", 6).await.unwrap();
    check_full(blobs.begin(&key("run/b"), "", 5).await, 6);
    check_full(put(&blobs, "run/b", 5).await, 6);
    put(&blobs, ".projects/team/run/b", 5).await.unwrap();
    blobs.abort(&upload("run/a", &aborted, 6)).await.unwrap();

    let id = blobs.begin(&key("run/a"), "", 6).await.unwrap();
    // A process that starts later finds it.
    let later = open(root.path(), quota(10));
    later.sweep().await.unwrap();
    check_full(put(&later, "run/b", 5).await, 6);
    let etag = later.put_part(&key("run/a"), &id, 0, 6, bytes(6)).await.unwrap();
    later.complete(&upload("run/a", &id, 6), &[etag]).await.unwrap();
    later.sweep().await.unwrap();
    check_full(put(&later, "run/b", 5).await, 6);
    // The other process measures the project again after some minutes.
    blobs.sweep().await.unwrap();
    put(&later, "run/b", 4).await.unwrap();
}

#[tokio::test]
async fn rule_57_a_silent_upload_in_parts_expires_and_gives_its_room_back() {
    let root = tempfile::tempdir().unwrap();
    let blobs = open(root.path(), quota(10));
    let id = blobs.begin(&key("run/a"), "", 6).await.unwrap();
    let file = root.path().join("uploads").join(&id);
    let a_week_and_a_day = Duration::from_hours(8 * 24);
    File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_modified(SystemTime::now() - a_week_and_a_day)
        .unwrap();
    // Beginning another upload looks at none of the others.
    blobs.begin(&key("run/b"), "", 1).await.unwrap();
    assert!(file.exists());
    blobs.sweep().await.unwrap();
    assert!(!file.exists());
    put(&blobs, "run/c", 9).await.unwrap();
}

#[tokio::test]
async fn parts_cannot_exceed_the_announced_size() {
    let root = tempfile::tempdir().unwrap();
    let blobs = open(root.path(), quota(10));
    let id = blobs.begin(&key("run/a"), "", 6).await.unwrap();
    let larger = upload("run/a", &id, 7);
    let part = larger.part(1).unwrap();
    let answer = blobs.presign_part(&larger, &part).await;
    assert!(matches!(answer, Err(Error::WrongLength { announced: 6, received: 7 })), "{answer:?}");
    let answer = blobs.put_part(&key("run/a"), &id, 0, 7, bytes(7)).await;
    assert!(matches!(answer, Err(Error::WrongLength { announced: 6, received: 7 })), "{answer:?}");
}

#[tokio::test]
async fn rule_118_no_upload_in_parts_begins_without_space_for_it() {
    let root = tempfile::tempdir().unwrap();
    let blobs = open(root.path(), UploadLimits { max_bytes: u64::MAX, ..UploadLimits::default() });
    let more_than_any_disk = 1 << 60;
    let begun = blobs.begin(&key("run/a"), "", more_than_any_disk).await;
    assert!(matches!(begun, Err(Error::Limit(LimitReached::FreeSpace { .. }))), "{begun:?}");
    let id = blobs.begin(&key("run/a"), "", 6).await.unwrap();
    let part = blobs.put_part(&key("run/a"), &id, 0, more_than_any_disk, bytes(6)).await;
    assert!(matches!(part, Err(Error::Limit(LimitReached::FreeSpace { .. }))), "{part:?}");
}

/// Two uploads at the same time. Each upload would fit alone.
#[tokio::test]
async fn rule_118_what_an_upload_has_announced_counts_from_its_beginning() {
    let root = tempfile::tempdir().unwrap();
    let blobs = directory(root.path());
    let space = blobs.disk_space().await.unwrap();
    let half = space.free / 2;
    let limits = UploadLimits { max_bytes: u64::MAX, min_free_bytes: 0, ..UploadLimits::default() };
    let blobs = Arc::new(LimitedBlobs::directory(Arc::new(blobs), limits));
    let (sender, receiver) = futures::channel::mpsc::unbounded();
    sender.unbounded_send(Ok(Bytes::from_static(b"begins"))).unwrap();
    let (arrived, has_arrived) = tokio::sync::oneshot::channel();
    let mut arrived = Some(arrived);
    let content = receiver.inspect(move |_| {
        if let Some(arrived) = arrived.take() {
            arrived.send(()).unwrap();
        }
    });
    let first = tokio::spawn({
        let blobs = blobs.clone();
        async move { blobs.put(&key("run/a"), "", Some(half + half / 2), content.boxed()).await }
    });
    has_arrived.await.unwrap();
    let second = blobs.put(&key("run/b"), "", Some(half), bytes(1)).await;
    assert!(matches!(second, Err(Error::Limit(LimitReached::FreeSpace { .. }))), "{second:?}");
    let begun = blobs.begin(&key("run/b"), "", half).await;
    assert!(matches!(begun, Err(Error::Limit(LimitReached::FreeSpace { .. }))), "{begun:?}");
    put(&blobs, "run/small", 10).await.unwrap();
    drop(sender);
    assert!(matches!(first.await.unwrap(), Err(Error::WrongLength { .. })));
    let second = blobs.put(&key("run/b"), "", Some(half), bytes(1)).await;
    assert!(matches!(second, Err(Error::WrongLength { .. })), "its space was not given back: {second:?}");
}

/// A cloud does not tell which process has completed an upload.
#[tokio::test]
async fn uploads_to_a_cloud_may_be_completed_by_another_process() {
    let root = tempfile::tempdir().unwrap();
    let cloud = || {
        let blobs = Arc::new(directory(root.path()));
        LimitedBlobs::cloud(OpenBucket { blobs: blobs.clone(), multipart: blobs }, quota(10))
    };
    let frontier = cloud();
    for _ in 0..4 {
        let id = frontier.begin(&key("run/a"), "", 4).await.unwrap();
        let other = cloud();
        let etag = directory(root.path()).put_part(&key("run/a"), &id, 0, 4, bytes(4)).await.unwrap();
        other.complete(&upload("run/a", &id, 4), &[etag]).await.unwrap();
    }
}

#[tokio::test]
async fn an_upload_that_ends_during_a_sweep_does_not_return() {
    let root = tempfile::tempdir().unwrap();
    let quota = ProjectQuota::new(Arc::new(directory(root.path())), 0);
    let open = OpenUploads::default();
    let slot = open.slot("").unwrap();
    open.add("", "ended".to_owned(), 4, quota.assume("", 4), slot);
    let sweep = open.begin_sweep();
    let listed = vec![upload("run/a", "ended", 4), upload("run/b", "other", 5)];
    assert!(open.remove("", "ended").is_some());
    open.reconcile(listed, sweep, |project, bytes| quota.assume(project, bytes));
    assert_eq!((open.size("", "ended"), open.size("", "other")), (None, Some(5)));
}

#[tokio::test]
async fn rule_57_open_uploads_of_a_project_are_limited() {
    let root = tempfile::tempdir().unwrap();
    let blobs = open(root.path(), UploadLimits::default());
    let begin = async |at: &str| blobs.begin(&key(at), "", 4).await;
    let uploads = &blobs.directory.as_ref().unwrap().open;
    let _begun: Vec<_> = (1..MAX_OPEN_UPLOADS).map(|_| uploads.slot("").unwrap()).collect();
    let last = begin("run/last").await.unwrap();
    let refused = begin("run/more").await.unwrap_err();
    assert!(
        matches!(refused, Error::Limit(LimitReached::OpenUploads { limit: MAX_OPEN_UPLOADS })),
        "{refused}"
    );
    begin(".projects/other/run/x").await.unwrap();
    blobs.abort(&upload("run/last", &last, 4)).await.unwrap();
    begin("run/more").await.unwrap();
}
