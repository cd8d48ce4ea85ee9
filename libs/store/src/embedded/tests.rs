mod lossy_files;
mod power_failure;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures::FutureExt as _;

use super::*;
use crate::{Check, Durability, Range, Scan};

async fn open(directory: &Path) -> EmbeddedStore {
    EmbeddedStore::open(directory, Settings::default()).await.unwrap()
}

fn done(commit: Commit) -> crate::Version {
    match commit {
        Commit::Done { version, stamp } => {
            assert_eq!(stamp.version(), version);
            version
        }
        Commit::Conflict => panic!("unexpected conflict"),
    }
}

#[tokio::test]
async fn ended_returns_when_the_committer_panics() {
    let directory = tempfile::tempdir().unwrap();
    let is_broken = Arc::new(AtomicBool::new(false));
    let breaks = is_broken.clone();
    let clock: Clock = Arc::new(move || {
        let is_committer = std::thread::current().name() == Some("store-committer");
        assert!(!(is_committer && breaks.load(Ordering::Relaxed)), "broken clock");
        Instant::now()
    });
    let store = EmbeddedStore::open_with_clock(directory.path(), Settings::default(), clock).await.unwrap();
    let mut batch = Batch::default();
    batch.set("a", "1");
    done(store.commit(batch.clone()).await.unwrap());
    assert!(store.ended().now_or_never().is_none(), "the committer is running");
    is_broken.store(true, Ordering::Relaxed);
    assert!(matches!(store.commit(batch).await, Err(Error::Unavailable { .. })));
    tokio::time::timeout(Duration::from_secs(60), store.ended()).await.unwrap();
}

/// A power failure would lose the directory with all commits.
#[tokio::test]
async fn rule_30_the_name_of_the_directory_is_synced() {
    let parent = tempfile::tempdir().unwrap();
    lossy_files::count_syncs(parent.path());
    open(&parent.path().join("store")).await.close().await.unwrap();
    assert!(lossy_files::counted_syncs() > 0);
}

/// Without one of these files, fjall would replace the rows with an empty keyspace.
#[tokio::test]
async fn rule_52_a_store_without_a_required_file_is_refused() {
    for name in ["version", "keyspaces/0/current", "keyspaces/1/current"] {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path()).await;
        let mut batch = Batch::default();
        batch.set("a", "1");
        done(store.commit(batch).await.unwrap());
        store.close().await.unwrap();
        let path = directory.path().join("engine").join(name);
        let content = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let refused = EmbeddedStore::open(directory.path(), Settings::default()).await.err().unwrap();
        let message = refused.to_string();
        assert!(message.contains(&format!("{} is missing", path.display())), "{message}");
        std::fs::write(&path, content).unwrap();
        let store = open(directory.path()).await;
        let value = store.snapshot().await.unwrap().get(&Key::from("a")).await.unwrap();
        assert_eq!(value.as_deref(), Some(&b"1"[..]), "{name}");
        store.close().await.unwrap();
    }
}

/// fjall deletes all files that a manifest does not list.
#[tokio::test]
async fn rule_52_a_damaged_manifest_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    let mut batch = Batch::default();
    batch.set("a", "1");
    done(store.commit(batch).await.unwrap());
    store.close().await.unwrap();
    assert!(inspect(directory.path(), |_, _| {}).unwrap().damage.is_empty());
    let keyspace = directory.path().join("engine/keyspaces/1");
    let current = std::fs::read(keyspace.join("current")).unwrap();
    let manifest = keyspace.join(format!("v{}", u64::from_le_bytes(current[..8].try_into().unwrap())));
    let content = std::fs::read(&manifest).unwrap();
    for offset in 0..content.len() {
        let mut damaged = content.clone();
        damaged[offset] ^= 1;
        std::fs::write(&manifest, &damaged).unwrap();
        let found = inspect(directory.path(), |_, _| {}).unwrap().damage;
        assert!(matches!(&found[..], [Damage { file, kind: DamageKind::Checksum }] if *file == manifest));
    }
    let refused = EmbeddedStore::open(directory.path(), Settings::default()).await.err().unwrap();
    assert!(refused.to_string().contains("does not match its checksum"), "{refused}");
    std::fs::write(&manifest, &content).unwrap();
    open(directory.path()).await.close().await.unwrap();
}

/// A failed sync of the directory, or a backup, may bring back the marker of an unfinished
/// engine.
#[tokio::test]
async fn an_engine_with_commits_is_never_recreated() {
    let directory = tempfile::tempdir().unwrap();
    let marker = directory.path().join("engine.new");
    let store = open(directory.path()).await;
    let mut batch = Batch::default();
    batch.set("a", "1");
    done(store.commit(batch).await.unwrap());
    for _ in 0..2 {
        drop(store.close().await);
        std::fs::write(&marker, "").unwrap();
        let store = open(directory.path()).await;
        let value = store.snapshot().await.unwrap().get(&Key::from("a")).await.unwrap();
        assert_eq!(value.as_deref(), Some(&b"1"[..]));
        assert!(!marker.exists());
        store.close().await.unwrap();
    }
    // An engine without commits is recreated, no matter what it contains.
    let unfinished = tempfile::tempdir().unwrap();
    std::fs::create_dir(unfinished.path().join("engine")).unwrap();
    std::fs::write(unfinished.path().join("engine/0.jnl"), "half").unwrap();
    std::fs::write(unfinished.path().join("engine.new"), "").unwrap();
    open(unfinished.path()).await.close().await.unwrap();
    assert!(!unfinished.path().join("engine.new").exists());
}

/// The clock is asked once before the reads, and twice for each read. On the thread of the caller it passes a
/// millisecond each time, as if every read were from the disk.
#[tokio::test]
async fn point_reads_leave_the_thread_of_the_caller_once_they_wait_for_the_disk() {
    const KEYS: u32 = 10;
    let directory = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    let asked = Arc::new(AtomicU32::new(0));
    let is_slow = Arc::new(AtomicBool::new(false));
    let own_thread = std::thread::current().id();
    let clock: Clock = {
        let asked = asked.clone();
        let is_slow = is_slow.clone();
        Arc::new(move || {
            if std::thread::current().id() == own_thread {
                asked.fetch_add(1, Ordering::Relaxed);
            }
            let passed = if is_slow.load(Ordering::Relaxed) { asked.load(Ordering::Relaxed) } else { 0 };
            begin + Duration::from_millis(passed.into())
        })
    };
    let store = EmbeddedStore::open_with_clock(directory.path(), Settings::default(), clock).await.unwrap();
    let keys: Vec<Key> = (0..KEYS).map(|number| Key::from(number.to_be_bytes().to_vec())).collect();
    let mut batch = Batch::default();
    for key in &keys {
        batch.set(key.clone(), key.to_vec());
    }
    done(store.commit(batch).await.unwrap());
    let snapshot = store.snapshot().await.unwrap();
    for (slow, expected) in [(false, 1 + 2 * KEYS), (true, 3)] {
        is_slow.store(slow, Ordering::Relaxed);
        asked.store(0, Ordering::Relaxed);
        let values = snapshot.get_many(&keys).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), expected, "slow: {slow}");
        assert!(values.iter().zip(&keys).all(|(value, key)| value.as_deref() == Some(&key[..])));
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn committed_data_survives_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    let mut batch = Batch::default();
    batch.set("a", "1").set("b", vec![7; 100_000]).add("n", 5).set_stamped("s/", "/x", "stamped");
    let first = done(store.commit(batch).await.unwrap());
    let refused = EmbeddedStore::open(directory.path(), Settings::default()).await.err().unwrap();
    assert!(
        matches!(&refused, Error::InUse { reason } if reason.contains("is in use by process")),
        "{refused}"
    );
    store.close().await.unwrap();
    store.close().await.unwrap();
    assert!(matches!(store.commit(Batch::default()).await, Err(Error::Unavailable { .. })));
    let journal = std::fs::metadata(directory.path().join("engine/0.jnl")).unwrap();
    assert_eq!(journal.len(), 0, "all content is in tables");

    let store = open(directory.path()).await;
    let snapshot = store.snapshot().await.unwrap();
    assert!(snapshot.version() > first);
    let keys = ["a", "b", "n", "c"].map(Key::from);
    let values = snapshot.get_many(&keys).await.unwrap();
    assert_eq!(values[0].as_deref(), Some(&b"1"[..]));
    assert_eq!(values[1].as_ref().map(Value::len), Some(100_000));
    assert_eq!(values[2].as_deref(), Some(&5_i64.to_le_bytes()[..]));
    assert_eq!(values[3], None);
    let page = snapshot.scan(&Range::prefix("s/"), Scan::default()).await.unwrap();
    assert_eq!(page.rows.len(), 1);
    assert_eq!(crate::Stamp::in_key(&page.rows[0].0, 2).unwrap().version(), first);

    let mut batch = Batch { durability: Durability::Buffered, ..Batch::default() };
    batch.checks.push(Check::Value { key: "a".into(), expected: Some("2".into()) });
    batch.clear("a");
    assert_eq!(store.commit(batch).await.unwrap(), Commit::Conflict);
    store.close().await.unwrap();
}
