//! Guarantee *list*.

use std::sync::Arc;

use futures::{StreamExt, future, stream};

use super::{
    Fixture,
    tools::{key, keys, leaf, list_all, put},
};
use crate::MAX_PAGE;

/// Characters on both sides of the slash in sort order, so that other keys sort between a
/// folder and a file of the same name.
const ORDERED: [&str; 11] = ["a", "a b", "a-b", "a.f", "a/b", "a/b-c", "a/b/c", "a/c", "a0", "a0/x", "b"];

pub(super) async fn key_order_and_pages(fixture: Arc<dyn Fixture>) {
    let blobs = fixture.open().await;
    let ordered = keys(&*fixture, &ORDERED);
    for at in &ordered {
        put(&*blobs, at, "x").await;
    }
    for folder in ["", "a/", "a/b/", "a0/", "b/", "c/", "a/b/c/", "/", "a//", "../", "\0/"] {
        let below: Vec<_> = ordered.iter().filter(|at| at.starts_with(folder)).collect();
        assert_eq!(list_all(&*blobs, folder).await.iter().collect::<Vec<_>>(), below, "folder {folder:?}");
        for after in ordered.iter().map(String::as_str).chain(["a/bb", "A", "zz"]) {
            let page = blobs.list(folder, Some(&key(after))).await.unwrap();
            let keys: Vec<_> = page.blobs.iter().map(|(key, _)| key.as_str()).collect();
            let expected: Vec<_> = below.iter().copied().filter(|at| at.as_str() > after).collect();
            assert_eq!(
                (keys, page.next),
                (expected.iter().map(|at| at.as_str()).collect(), None),
                "folder {folder:?} after {after:?}"
            );
        }
    }

    let mut keys: Vec<_> =
        (0..MAX_PAGE + 5).map(|number| format!("many/{}/{number:04}", number % 3)).collect();
    keys.sort_unstable();
    stream::iter(&keys).for_each_concurrent(8, async |at| put(&*blobs, at, at.clone()).await).await;
    assert_eq!(list_all(&*blobs, "many/").await, keys);
    let page = blobs.list("many/", None).await.unwrap();
    assert_eq!((page.blobs.len(), page.next), (MAX_PAGE, Some(key(&keys[MAX_PAGE - 1]))));
    let (first, listed) = &page.blobs[0];
    let meta = blobs.describe(first).await.unwrap().unwrap();
    assert_eq!((listed.size, listed.modified_us), (meta.size, meta.modified_us));
}

pub(super) async fn complete_while_others_change(fixture: Arc<dyn Fixture>) {
    const LISTINGS: usize = 30;
    let blobs = fixture.open().await;
    let lasting: Vec<_> =
        (0..60).map(|number| format!("run/{:02}/lasting", number % 20 * 3 + number / 20)).collect();
    for at in &lasting {
        put(&*blobs, at, "x").await;
    }
    let changes = async {
        for number in (0..60).cycle() {
            let passing = [
                format!("run/{number:02}/passing"),
                format!("run/{number:02}p/x"),
                leaf(&*fixture, &format!("run/{number:02}")),
            ];
            future::join_all(passing.iter().map(|at| put(&*blobs, at, "x"))).await;
            // Lasting blobs are replaced too, but exist at all times.
            put(&*blobs, &lasting[number], "y").await;
            let passing = passing.map(|at| key(&at));
            assert!(blobs.delete(&passing).await.unwrap().is_empty());
        }
    };
    let listings = async {
        let mut expected = lasting.clone();
        expected.sort_unstable();
        for _ in 0..LISTINGS {
            let all = list_all(&*blobs, "run/").await;
            assert!(all.is_sorted_by(|a, b| a < b), "not in order, or twice: {all:?}");
            let seen: Vec<_> = all.into_iter().filter(|at| at.ends_with("lasting")).collect();
            assert_eq!(seen, expected);
        }
    };
    tokio::select! { () = changes => {}, () = listings => {} }
}
