//! Guarantees *range*, *absent* and *safe keys*.

use std::{ops::Range, sync::Arc};

use super::{
    Fixture,
    tools::{key, keys, list_all, put, read, read_all},
};
use crate::{BlobKey, Error};

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 31 % 251) as u8).collect()
}

pub(super) async fn exact_bytes(fixture: Arc<dyn Fixture>) {
    const SIZE: usize = 2_500_000;
    let blobs = fixture.open().await;
    let bytes = pattern(SIZE);
    put(&*blobs, "run/x", bytes.clone()).await;
    put(&*blobs, "run/empty", "").await;
    let size = SIZE as u64;
    let ranges: [Range<u64>; 10] = [
        0..0,
        0..1,
        1..2,
        0..size,
        0..size + 1,
        0..u64::MAX,
        size - 1..size + 9,
        size..size + 1,
        size + 5..u64::MAX,
        1_048_575..2_097_153,
    ];
    for range in ranges {
        let cut = range.start.min(size) as usize..range.end.min(size) as usize;
        let (meta, answer) = read(&*blobs, "run/x", Some(range.clone())).await.unwrap();
        assert_eq!(meta.size, size, "{range:?}");
        assert!(answer == bytes[cut], "{range:?}: {} bytes", answer.len());
        assert!(read(&*blobs, "run/empty", Some(range)).await.unwrap().1.is_empty());
    }
}

pub(super) async fn every_size_reads_back(fixture: Arc<dyn Fixture>) {
    let blobs = fixture.open().await;
    for size in [0, 1, 99_999, 100_000, 262_143, 262_144, 262_145, 1_048_576, 9_000_001] {
        let bytes = pattern(size);
        put(&*blobs, "run/x", bytes.clone()).await;
        let (meta, answer) = read(&*blobs, "run/x", None).await.unwrap();
        assert!(answer == bytes, "{size}");
        assert_eq!((meta.size, meta.content_type.as_str()), (size as u64, "text/plain"));
        assert!(meta.modified_us > 0);
        assert_eq!(blobs.describe(&key("run/x")).await.unwrap(), Some(meta));
    }
}

/// Enough content for several parts, the last of them not full; then only full parts.
pub(super) async fn large_content_goes_in_parts(fixture: Arc<dyn Fixture>) {
    const PART_BYTES: usize = 8 << 20;
    let blobs = fixture.open().await;
    for size in [5 * PART_BYTES + 12_345, 2 * PART_BYTES] {
        let bytes = pattern(size);
        put(&*blobs, "run/large", bytes.clone()).await;
        let (meta, answer) = read(&*blobs, "run/large", None).await.unwrap();
        assert_eq!((meta.size, meta.content_type.as_str()), (size as u64, "text/plain"));
        assert!(answer == bytes, "{size}");
        let middle = PART_BYTES as u64 - 9..PART_BYTES as u64 + 9;
        let (_, answer) = read(&*blobs, "run/large", Some(middle)).await.unwrap();
        assert_eq!(answer, bytes[PART_BYTES - 9..PART_BYTES + 9]);
    }
}

pub(super) async fn absent_answers(fixture: Arc<dyn Fixture>) {
    let blobs = fixture.open().await;
    put(&*blobs, "run/a/b", "x").await;
    let inside_a_blob = fixture.keys_nest().then_some("run/a/b/c");
    for at in ["run", "run/a", "other/a/b", "run/a/bb"].into_iter().chain(inside_a_blob) {
        assert!(read(&*blobs, at, Some(0..9)).await.is_none(), "{at}");
        assert_eq!(blobs.describe(&key(at)).await.unwrap(), None, "{at}");
        assert!(blobs.delete(&[key(at), key(at)]).await.unwrap().is_empty(), "{at}");
    }
    assert!(blobs.delete(&[]).await.unwrap().is_empty());
    assert_eq!(read_all(&*blobs, "run/a/b").await.unwrap(), b"x");
    assert!(list_all(&*blobs, "other/").await.is_empty());
}

pub(super) async fn strange_keys_read_back(fixture: Arc<dyn Fixture>) {
    let long = "y".repeat(1_024);
    let deep = vec!["z"; 300].join("/");
    let mut strange = vec![
        "a",
        "a/b",
        "a/b/c",
        "a.f",
        "a.d",
        "a.d/b",
        "a.c",
        ".f",
        "...",
        ".../..x",
        "a-b",
        "a b/ c",
        "a\\..\\b",
        "%2e%2e/x",
        "~",
        "con",
        "Ünï/côdé 🚀",
        "a:b*c?d\"e<f>g|h",
        "-rf",
        "seq/loss/1.png",
        &long[..1_023],
        &long[..200],
        &long[..201],
        &deep,
    ];
    let blobs = fixture.open().await;
    if !fixture.takes_backslash() {
        strange.retain(|at| !at.contains('\\'));
        let refused = blobs.presign(&key("run/a\\b"), "", None).await;
        assert!(matches!(refused, Err(Error::BadKey { .. })), "{refused:?}");
        assert_eq!(blobs.describe(&key("run/a\\b")).await.unwrap(), None);
    }
    let keys = keys(&*fixture, &strange);
    for at in &keys {
        put(&*blobs, at, at.clone()).await;
    }
    for at in &keys {
        assert_eq!(read_all(&*blobs, at).await.unwrap(), at.as_bytes(), "{at}");
    }
    assert_eq!(list_all(&*blobs, "").await, keys);
    for (number, at) in keys.iter().enumerate() {
        assert!(blobs.delete(&[key(at)]).await.unwrap().is_empty(), "{at}");
        assert_eq!(list_all(&*blobs, "").await, keys[number + 1..], "{at}");
    }
}

/// The type enforces this: an invalid key never reaches a store.
pub(super) async fn bad_keys_are_refused(_fixture: Arc<dyn Fixture>) {
    let long = "x".repeat(1_025);
    for bad in [
        "",
        "/",
        "/etc/passwd",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/..",
        "a/./b",
        "a/../../b",
        "a\0b",
        "a\nb",
        &long,
    ] {
        BlobKey::new(bad).unwrap_err();
    }
}
