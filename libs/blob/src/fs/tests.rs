//! Behavior that only the directory store has: crash leftovers, links that lead outside,
//! foreign files, the layout version.

mod watched_syncs;

use std::{fs, os::unix::fs::symlink, path::Path, sync::Mutex, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::join_all, stream};

use super::*;
use disk_threads::THREADS;
use watched_syncs::WatchedSyncs;

fn open(root: &Path) -> Result<FsBlobs> {
    let clock: Clock = Arc::new(|| 1_700_000_000_000_000);
    FsBlobs::open(root, UrlSigner::new(b"secret", Duration::from_secs(1), clock.clone()), clock)
}

fn key(key: &str) -> BlobKey {
    BlobKey::new(key).unwrap()
}

async fn put(blobs: &FsBlobs, at: &str) -> Result<u64> {
    blobs.put(&key(at), "text/plain", None, stream::iter([Ok(Bytes::from("content"))]).boxed()).await
}

/// Returns every path under the root, including folders.
fn tree(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut stack = vec![root.to_owned()];
    while let Some(folder) = stack.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            if path.is_dir() {
                stack.push(path);
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_delete_prunes_the_folders_that_it_empties() {
    let root = tempfile::tempdir().unwrap();
    let blobs = open(root.path()).unwrap();
    put(&blobs, "run/a/b/c").await.unwrap();
    put(&blobs, "run/a/x").await.unwrap();
    let kept = ["data", "data/run.d", "data/run.d/a.d", "data/run.d/a.d/x.f", "format", "tmp", "uploads"];
    assert!(blobs.delete(&[key("run/a/b/c")]).await.unwrap().is_empty());
    assert_eq!(tree(root.path()), kept);
    assert!(blobs.delete(&[key("run/a/x")]).await.unwrap().is_empty());
    assert_eq!(tree(root.path()), ["data", "format", "tmp", "uploads"]);
}

#[tokio::test]
async fn opening_sweeps_crash_leftovers_but_no_uploads_in_progress() {
    let root = tempfile::tempdir().unwrap();
    let blobs = open(root.path()).unwrap();
    fs::write(root.path().join("tmp/4711-0"), "half").unwrap();
    let draft = Draft::create(&blobs.folders.tmp).unwrap();
    let second = open(root.path()).unwrap();
    assert_eq!(fs::read_dir(root.path().join("tmp")).unwrap().count(), 1, "only the upload in progress");
    draft.publish(&blobs.folders.data, Path::new("x.d/y.f")).unwrap();
    put(&second, "run/x").await.unwrap();
    assert_eq!(fs::read_dir(root.path().join("tmp")).unwrap().count(), 0);
}

/// A pipe that nobody writes to is like a file on a server that does not answer: opening it hangs.
#[test]
fn rule_39_calls_that_hang_leave_the_threads_of_the_process_free() {
    const BLOCKING_THREADS: usize = 4;
    let runtime =
        tokio::runtime::Builder::new_current_thread().max_blocking_threads(BLOCKING_THREADS).build();
    let root = tempfile::tempdir().unwrap();
    let blobs = open(root.path()).unwrap();
    let pipe = root.path().join("data/hangs.f");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let hanging_key = key("hangs");
    runtime.unwrap().block_on(async {
        let mut reads: Vec<_> = (0..64).map(|_| blobs.read(&hanging_key, None)).collect();
        for read in &mut reads {
            assert!(futures::poll!(read).is_pending());
        }
        // All calls were made: without their own threads, they would come before this one.
        assert_eq!(tokio::task::spawn_blocking(|| "the store").await.unwrap(), "the store");
        for read in &mut reads {
            assert!(futures::poll!(read).is_pending());
        }
        // A writer that leaves ends the calls that have opened the pipe. The others are not a blob either.
        drop(fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap());
        fs::remove_file(&pipe).unwrap();
    });
}

/// The uploads of a disk whose syncs take long.
#[test]
fn rule_39_syncs_that_hang_leave_the_threads_of_the_process_free() {
    const UPLOADS: usize = 64;
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    let root = tempfile::tempdir().unwrap();
    let blobs = open(root.path()).unwrap();
    let mut syncs = WatchedSyncs::new(&root.path().join("tmp"));
    syncs.hold();
    let keys: Vec<_> = (0..UPLOADS).map(|number| format!("run/{number}")).collect();
    runtime.block_on(async {
        let mut uploads = join_all(keys.iter().map(|key| put(&blobs, key)));
        for running in 1..=THREADS {
            let begun = tokio::select! {
                begun = syncs.next() => begun,
                done = &mut uploads => panic!("{done:?}"),
            };
            assert_eq!(begun.thread, "blobs", "{begun:?}");
            assert_eq!(begun.running, running, "{begun:?}");
        }
        assert_eq!(tokio::task::spawn_blocking(|| "the store").await.unwrap(), "the store");
        assert!(futures::poll!(&mut uploads).is_pending());
        syncs.release();
        for done in uploads.await {
            assert_eq!(done.unwrap(), 7);
        }
    });
    let rest = syncs.take();
    assert_eq!(rest.len(), UPLOADS - THREADS);
    assert!(rest.iter().all(|begun| begun.running <= THREADS && begun.thread == "blobs"), "{rest:?}");
}

/// A power failure would lose the directory with all of its blobs.
#[test]
fn rule_30_the_name_of_the_directory_is_synced() {
    let parent = tempfile::tempdir().unwrap();
    let mut syncs = WatchedSyncs::new(parent.path());
    open(&parent.path().join("blobs")).unwrap();
    let parent = parent.path().canonicalize().unwrap();
    let synced = syncs.take();
    assert!(synced.iter().any(|synced| synced.path == parent), "{synced:?}");
}

/// Number of open files and folders of this process beneath the root.
fn open_files(root: &Path) -> usize {
    let root = fs::canonicalize(root).unwrap();
    let targets = fs::read_dir("/proc/self/fd").unwrap().map(|entry| fs::read_link(entry.unwrap().path()));
    targets.filter(|target| target.as_ref().is_ok_and(|target| target.starts_with(&root))).count()
}

/// Content of two pieces, and the number of open files before each of them and before the end.
fn observed_content(root: &Path) -> (Content, Arc<Mutex<Vec<usize>>>) {
    let observed = Arc::new(Mutex::new(Vec::new()));
    let root = root.to_owned();
    let seen = observed.clone();
    let content = stream::unfold(0, move |sent| {
        let root = root.clone();
        let seen = seen.clone();
        async move {
            // The store writes the earlier pieces before it polls again.
            tokio::task::yield_now().await;
            seen.lock().unwrap().push(open_files(&root));
            (sent < 2).then(|| (Ok(Bytes::from_static(b"abc")), sent + 1))
        }
    });
    (content.boxed(), observed)
}

#[tokio::test]
async fn rule_45_an_upload_opens_one_file_with_its_first_bytes() {
    let root = tempfile::tempdir().unwrap();
    let blobs = open(root.path()).unwrap();
    let idle = open_files(root.path());
    let expected = [idle, idle + 1, idle + 1];
    let (content, observed) = observed_content(root.path());
    assert_eq!(blobs.put(&key("run/x"), "", None, content).await.unwrap(), 6);
    assert_eq!(*observed.lock().unwrap(), expected);

    let id = blobs.begin(&key("run/y"), "", 6).await.unwrap();
    let (content, observed) = observed_content(root.path());
    blobs.put_part(&key("run/y"), &id, 0, 6, content).await.unwrap();
    assert_eq!(*observed.lock().unwrap(), expected);
    assert_eq!(open_files(root.path()), idle);
}

fn content() -> Content {
    stream::iter([Ok(Bytes::from_static(b"mine"))]).boxed()
}

/// The URLs of parts, which proxies log, contain the id.
#[tokio::test]
async fn rule_37_an_upload_id_is_no_key_to_the_upload_of_another_project() {
    let root = tempfile::tempdir().unwrap();
    let blobs = open(root.path()).unwrap();
    let own = key(".projects/own/run/x");
    let id = blobs.begin(&own, "", 4).await.unwrap();
    let upload = |key: &BlobKey| MultipartUpload {
        key: key.clone(),
        id: id.clone(),
        content_type: String::new(),
        size: 4,
    };
    for other in [key(".projects/other/run/x"), key(".projects/own/run/y")] {
        let part = blobs.put_part(&other, &id, 0, 4, content()).await;
        assert!(matches!(part, Err(Error::NoUpload)), "{part:?}");
        // As if the part had been accepted.
        let receipt = blobs.signer.receipt(&other, &id, 0, 4);
        let completed = blobs.complete(&upload(&other), &[receipt]).await;
        assert!(matches!(completed, Err(Error::NoUpload)), "{completed:?}");
        assert_eq!(blobs.describe(&other).await.unwrap(), None);
        let aborted = blobs.abort(&upload(&other)).await;
        assert!(matches!(aborted, Err(Error::NoUpload)), "{aborted:?}");
    }
    let receipt = blobs.put_part(&own, &id, 0, 4, content()).await.unwrap();
    blobs.complete(&upload(&own), &[receipt]).await.unwrap();
    let (meta, _) = blobs.read(&own, None).await.unwrap().unwrap();
    assert_eq!(meta.size, 4);
    blobs.abort(&upload(&key(".projects/other/run/x"))).await.unwrap();
}

/// A crash or a full disk in the middle of completing leaves a file without a description.
#[tokio::test]
async fn completing_is_repeated_after_a_failure() {
    let root = tempfile::tempdir().unwrap();
    let blobs = open(root.path()).unwrap();
    let at = key("run/x");
    let id = blobs.begin(&at, "", 4).await.unwrap();
    let receipt = blobs.put_part(&at, &id, 0, 4, content()).await.unwrap();
    let file = fs::OpenOptions::new().write(true).open(root.path().join("uploads").join(&id)).unwrap();
    file.set_len(4).unwrap();
    let part = blobs.put_part(&at, &id, 0, 4, content()).await;
    assert!(matches!(part, Err(Error::NoUpload)), "{part:?}");
    let upload = MultipartUpload { key: at.clone(), id, content_type: String::new(), size: 4 };
    blobs.abort(&upload).await.unwrap();
    blobs.complete(&upload, &[receipt]).await.unwrap();
    assert_eq!(blobs.describe(&at).await.unwrap().unwrap().size, 4);
}

#[tokio::test]
async fn no_link_leads_outside() {
    let root = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret.f"), "secret").unwrap();
    let blobs = open(root.path()).unwrap();
    symlink(outside.path(), root.path().join("data/run.d")).unwrap();
    symlink(outside.path().join("secret.f"), root.path().join("data/link.f")).unwrap();

    for at in ["run/secret", "link"] {
        blobs.describe(&key(at)).await.unwrap_err();
        assert!(blobs.read(&key(at), None).await.is_err());
    }
    put(&blobs, "run/new").await.unwrap_err();
    assert_eq!(blobs.delete(&[key("run/secret")]).await.unwrap().len(), 1);
    blobs.list("run/", None).await.unwrap_err();
    assert_eq!(tree(outside.path()), ["secret.f"]);

    // A put replaces the link itself.
    put(&blobs, "link").await.unwrap();
    assert_eq!(fs::read(outside.path().join("secret.f")).unwrap(), b"secret");
}

#[tokio::test]
async fn foreign_and_damaged_files_are_not_blobs() {
    let root = tempfile::tempdir().unwrap();
    let blobs = open(root.path()).unwrap();
    put(&blobs, "a").await.unwrap();
    put(&blobs, "cut").await.unwrap();
    let data = root.path().join("data");
    fs::create_dir(data.join("a.c")).unwrap();
    for foreign in ["a.c/b.f", "lost+found", "x", ".f", "foreign.f"] {
        fs::write(data.join(foreign), "not ours").unwrap();
    }
    let cut = fs::OpenOptions::new().write(true).open(data.join("cut.f")).unwrap();
    cut.set_len(cut.metadata().unwrap().len() - 1).unwrap();

    let listing = blobs.list("", None).await.unwrap();
    assert_eq!(listing.blobs.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["a"]);
    for damaged in ["cut", "foreign"] {
        let answer = blobs.describe(&key(damaged)).await;
        assert!(matches!(answer, Err(Error::Setup { .. })), "{answer:?}");
    }
}

#[tokio::test]
async fn another_layout_is_refused() {
    let root = tempfile::tempdir().unwrap();
    drop(open(root.path()).unwrap());
    drop(open(root.path()).unwrap());
    fs::write(root.path().join("format"), "2\n").unwrap();
    let refused = open(root.path()).err().unwrap();
    assert!(refused.to_string().contains("version 2"), "{refused}");
}

#[tokio::test]
async fn a_content_type_that_cannot_be_kept_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let blobs = open(root.path()).unwrap();
    let answer = blobs.put(&key("a"), "a\nb", None, stream::empty().boxed()).await;
    assert!(matches!(answer, Err(Error::BadContentType { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_reader_keeps_reading_the_version_it_opened() {
    let root = tempfile::tempdir().unwrap();
    let blobs = open(root.path()).unwrap();
    let old = Bytes::from(vec![b'o'; 1_000_000]);
    blobs.put(&key("a"), "", None, stream::iter([Ok(old.clone())]).boxed()).await.unwrap();
    let (_, content) = blobs.read(&key("a"), None).await.unwrap().unwrap();
    blobs.delete(&[key("a")]).await.unwrap();
    let pieces: Vec<Bytes> = content.try_collect().await.unwrap();
    assert_eq!(pieces.concat(), old);
}
