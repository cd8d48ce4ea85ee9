//! Space of deleted rows, as the user of a store sees it: it becomes free after a quiet while. The
//! tests are a program of their own, because they wait for the thread that merges tables, and any
//! store of the process may have such a thread.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use matyan_store::embedded::{EmbeddedStore, Settings};
use matyan_store::{Batch, Commit, Key, Range, Store, Value};
use tokio::sync::Mutex;

const ROWS: u64 = 60_000;
const ROWS_A_BATCH: u64 = 10_000;
const LARGE: u64 = 100;
/// Every such row is kept, except for large rows: these share a file, which the engine deletes as a whole.
const KEPT: u64 = 100;

/// Held by each test, because a thread of the process does not show which store it belongs to.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

fn key(number: u64) -> Key {
    format!("row {number:06}").into()
}

/// A value that does not compress.
fn value(number: u64) -> Value {
    let size = if number < LARGE { 80_000 } else { 64 };
    let mut state = number;
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    });
    bytes.take(size).collect::<Vec<u8>>().into()
}

/// Size of tables and of files with large values.
fn size_of(store: &Path) -> u64 {
    let mut folders = vec![store.join("engine").join("keyspaces")];
    let mut size = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            // The file may be deleted at any time.
            match entry.unwrap() {
                entry if entry.path().is_dir() => folders.push(entry.path()),
                entry => size += entry.metadata().map_or(0, |metadata| metadata.len()),
            }
        }
    }
    size
}

async fn commit(store: &EmbeddedStore, batch: Batch) {
    assert!(matches!(store.commit(batch).await.unwrap(), Commit::Done { .. }));
}

async fn open(directory: &Path) -> EmbeddedStore {
    EmbeddedStore::open(directory, Settings::default()).await.unwrap()
}

/// A store whose rows are all in tables.
async fn filled(directory: &Path) -> EmbeddedStore {
    let store = open(directory).await;
    for first in (0..ROWS).step_by(ROWS_A_BATCH as usize) {
        let mut batch = Batch::buffered();
        for number in first..first + ROWS_A_BATCH {
            // In the same batch, the large ones would be too many bytes.
            if number >= LARGE {
                batch.set(key(number), value(number));
            }
        }
        commit(&store, batch).await;
    }
    let mut batch = Batch::buffered();
    for number in 0..LARGE {
        batch.set(key(number), value(number));
    }
    commit(&store, batch).await;
    store.close().await.unwrap();
    open(directory).await
}

/// Deletes nearly all rows.
async fn delete_most(store: &EmbeddedStore) {
    let mut batch = Batch::default();
    batch.clear_range(Range::new(key(0), key(LARGE)));
    for first in (LARGE..ROWS).step_by(KEPT as usize) {
        batch.clear_range(Range::new(key(first + 1), key(first + KEPT)));
    }
    commit(store, batch).await;
}

async fn check_rows(store: &EmbeddedStore) {
    for first in (0..ROWS).step_by(ROWS_A_BATCH as usize) {
        let numbers = first..ROWS.min(first + ROWS_A_BATCH);
        let keys: Vec<Key> = numbers.clone().map(key).collect();
        // On a busy machine, a snapshot may become too old before all rows are read.
        let snapshot = store.snapshot().await.unwrap();
        for (number, found) in numbers.zip(snapshot.get_many(&keys).await.unwrap()) {
            let is_kept = number >= LARGE && number.is_multiple_of(KEPT);
            assert_eq!(found, is_kept.then(|| value(number)), "row {number}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn space_of_deleted_rows_is_reclaimed_next_to_commits() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(filled(directory.path()).await);
    let full = size_of(directory.path());
    assert!(full > LARGE * 80_000 + ROWS * 64, "{full} bytes");
    let is_reclaimed = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let store = store.clone();
        let is_reclaimed = is_reclaimed.clone();
        async move {
            let mut count = 0_u64;
            while !is_reclaimed.load(Ordering::Relaxed) {
                let mut batch = Batch::buffered();
                batch.set(format!("written {count}"), "value").add("count", 1);
                commit(&store, batch).await;
                count += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            count
        }
    });
    delete_most(&store).await;
    until(|| size_of(directory.path()) < full / 10).await;
    is_reclaimed.store(true, Ordering::Relaxed);
    let count = writer.await.unwrap();
    let mut store = store;
    for _ in 0..2 {
        check_rows(&store).await;
        let snapshot = store.snapshot().await.unwrap();
        let keys: Vec<Key> = (0..count).map(|number| Key::from(format!("written {number}"))).collect();
        let found = snapshot.get_many(&keys).await.unwrap();
        assert!(found.iter().all(|value| value.as_deref() == Some(b"value")));
        let counted = snapshot.get(&Key::from("count")).await.unwrap();
        assert_eq!(counted.as_deref(), Some(&count.to_le_bytes()[..]));
        store.close().await.unwrap();
        store = Arc::new(open(directory.path()).await);
    }
}

/// Whether a store of this process is merging its tables.
#[cfg(target_os = "linux")]
fn is_merging() -> bool {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    threads.map(|thread| thread.unwrap().path().join("comm")).any(|name| {
        // The thread may have ended.
        std::fs::read_to_string(name).is_ok_and(|name| name.trim_end() == "store-reclaim")
    })
}

async fn until(is_true: impl Fn() -> bool) {
    while !is_true() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn space_of_deleted_rows_is_reclaimed_without_commits_after_the_last_snapshot() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path()).await;
    let full = size_of(directory.path());
    delete_most(&store).await;
    until(is_merging).await;
    let snapshot = store.snapshot().await.unwrap();
    until(|| !is_merging()).await;
    // By then, the store has noticed that the merge has ended.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(size_of(directory.path()) >= full, "the snapshot can be read");
    drop(snapshot);
    until(|| size_of(directory.path()) < full / 10).await;
    check_rows(&store).await;
    store.close().await.unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_closed_during_a_merge() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path()).await;
    delete_most(&store).await;
    until(is_merging).await;
    let mut batch = Batch::default();
    batch.set("during", "the merge");
    commit(&store, batch).await;
    store.close().await.unwrap();
    assert!(!is_merging());
    let store = open(directory.path()).await;
    check_rows(&store).await;
    let found = store.snapshot().await.unwrap().get(&Key::from("during")).await.unwrap();
    assert_eq!(found.as_deref(), Some(&b"the merge"[..]));
}
