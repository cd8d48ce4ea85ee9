//! Guarantees *whole* and *durable*.

use std::sync::Arc;

use futures::{StreamExt, future, stream};
use tokio::sync::oneshot;

use super::{
    Fixture,
    tools::{content, key, list_all, put, read, read_all},
};
use crate::Error;

pub(super) async fn replaced_while_read(fixture: Arc<dyn Fixture>) {
    const VERSIONS: [(&str, u8, usize); 2] = [("type/a", b'a', 1_300_000), ("type/b", b'b', 700_001)];
    const READS: usize = 30;
    let blobs = fixture.open().await;
    put(&*blobs, "run/x", vec![b'a'; 10]).await;
    let blob = key("run/x");
    let writes = async {
        for (content_type, byte, size) in VERSIONS.into_iter().cycle() {
            blobs.put(&blob, content_type, None, content(vec![byte; size])).await.unwrap();
            // Gives the readers a chance to finish.
            tokio::task::yield_now().await;
        }
    };
    let reads = async {
        let mut seen = [false; 2];
        for read_number in 0.. {
            let (meta, bytes) = read(&*blobs, "run/x", None).await.unwrap();
            assert_eq!(meta.size, bytes.len() as u64);
            if let Some(version) = VERSIONS.iter().position(|version| version.2 == bytes.len()) {
                let (content_type, byte, _) = VERSIONS[version];
                assert!(bytes.iter().all(|own| *own == byte), "mixed content");
                assert!(meta.content_type == content_type || !fixture.keeps_type_with_content());
                seen[version] = true;
            }
            if read_number >= READS && seen == [true; 2] {
                break;
            }
        }
    };
    tokio::select! { () = writes => {}, () = reads => {} }
}

pub(super) async fn failed_put_changes_nothing(fixture: Arc<dyn Fixture>) {
    let blobs = fixture.open().await;
    put(&*blobs, "run/old", "old").await;
    // A small blob, and a blob that is large enough for a multipart upload to have started.
    for (at, size) in
        [("run/old", 300_000), ("run/new", 300_000), ("run/old", 9_000_000), ("run/new", 9_000_000)]
    {
        let broken = stream::once(future::ready(Err(Error::unavailable("the client disconnected"))));
        let broken = content(vec![b'n'; size]).chain(broken).boxed();
        blobs.put(&key(at), "x/y", None, broken).await.unwrap_err();
        // A put that is canceled once all available content was consumed.
        let (taken, all_taken) = oneshot::channel();
        let silence = stream::once(async {
            taken.send(()).unwrap();
            future::pending().await
        });
        let blob = key(at);
        let endless = content(vec![b'n'; size]).chain(silence).boxed();
        tokio::select! {
            _ = blobs.put(&blob, "x/y", None, endless) => panic!("the content never ends"),
            taken = all_taken => taken.unwrap(),
        }
    }
    assert_eq!(read_all(&*blobs, "run/old").await.unwrap(), b"old");
    assert_eq!(read_all(&*blobs, "run/new").await, None);
    assert_eq!(list_all(&*blobs, "").await, ["run/old"]);
}

pub(super) async fn announced_size_is_checked(fixture: Arc<dyn Fixture>) {
    let blobs = fixture.open().await;
    for (announced, sent) in [(0_u64, 1_usize), (1, 0), (9, 10), (10, 9), (150_000, 300_000)] {
        let answer = blobs.put(&key("run/x"), "", Some(announced), content(vec![b'x'; sent])).await;
        assert!(
            matches!(answer, Err(Error::WrongLength { announced: told, .. }) if told == announced),
            "{answer:?}"
        );
        assert_eq!(blobs.describe(&key("run/x")).await.unwrap(), None);
    }
    let size = blobs.put(&key("run/x"), "", Some(300_000), content(vec![b'x'; 300_000])).await.unwrap();
    assert_eq!(size, 300_000);
}

pub(super) async fn reopened(fixture: Arc<dyn Fixture>) {
    let blobs = fixture.open().await;
    put(&*blobs, "run/put", "old").await;
    let replaced = blobs.describe(&key("run/put")).await.unwrap().unwrap();
    put(&*blobs, "run/put", "put").await;
    let written = blobs.describe(&key("run/put")).await.unwrap().unwrap();
    assert!(!written.version.is_empty() && written.version != replaced.version, "{written:?}");
    put(&*blobs, "run/deleted/x", "deleted").await;
    let upload = blobs.presign(&key("run/upload"), "image/png", None).await.unwrap();
    assert!(fixture.upload(&upload, Some("image/png"), "upload".into()).await);
    assert!(blobs.delete(&[key("run/deleted/x")]).await.unwrap().is_empty());
    drop(blobs);

    let blobs = fixture.open().await;
    assert_eq!(read(&*blobs, "run/put", None).await.unwrap(), (written, b"put".to_vec()));
    assert_eq!(read_all(&*blobs, "run/upload").await.unwrap(), b"upload");
    assert_eq!(list_all(&*blobs, "").await, ["run/put", "run/upload"]);
}

/// No acknowledged write is lost in a folder that is emptied and refilled.
pub(super) async fn writers_and_deleters(fixture: Arc<dyn Fixture>) {
    const ACTORS: usize = 4;
    const ROUNDS: usize = 30;
    let blobs = fixture.open().await;
    let actor = async |actor: usize| {
        let at = format!("run/deep/folder/{actor}");
        for _ in 0..ROUNDS {
            put(&*blobs, &at, at.clone()).await;
            assert_eq!(read_all(&*blobs, &at).await.unwrap(), at.as_bytes());
            assert!(blobs.delete(&[key(&at)]).await.unwrap().is_empty());
            assert_eq!(read_all(&*blobs, &at).await, None);
        }
    };
    future::join_all((0..ACTORS).map(actor)).await;
    assert!(list_all(&*blobs, "").await.is_empty());
}
