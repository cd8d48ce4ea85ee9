//! Steps of the engine fail if certain files exist: see `injected` in the engine module.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::embedded::{EmbeddedStore, Settings};
use crate::{Batch, Commit, Durability, Error, Key, Range, Result, Scan, Store, Version};

struct FailingStore {
    directory: tempfile::TempDir,
    store: Arc<EmbeddedStore>,
}

impl FailingStore {
    async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path(), Settings::default()).await.unwrap();
        Self { directory, store: Arc::new(store) }
    }

    fn fail(&self, step: &str) {
        fs::write(self.directory.path().join(format!("fail-{step}")), "").unwrap();
    }

    fn repair(&self, step: &str) {
        fs::remove_file(self.directory.path().join(format!("fail-{step}"))).unwrap();
    }

    async fn set(&self, key: &'static str, durability: Durability) -> Result<Version> {
        set(&self.store, key, durability).await
    }

    async fn keys(&self) -> Vec<Key> {
        let snapshot = self.store.snapshot().await.unwrap();
        let page = snapshot.scan(&Range::prefix(""), Scan::default()).await.unwrap();
        page.rows.into_iter().map(|(key, _)| key).collect()
    }

    async fn until_unavailable(&self) {
        while self.store.snapshot().await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    async fn until_available(&self) {
        while self.store.snapshot().await.is_err() {
            tokio::task::yield_now().await;
        }
    }

    fn journal(&self) -> PathBuf {
        let files = fs::read_dir(self.directory.path().join("engine")).unwrap();
        let mut paths = files.map(|file| file.unwrap().path());
        paths.find(|path| path.extension().is_some_and(|extension| extension == "jnl")).unwrap()
    }
}

async fn set(store: &EmbeddedStore, key: &'static str, durability: Durability) -> Result<Version> {
    let mut batch = Batch { durability, ..Batch::default() };
    batch.set(key, "1");
    match store.commit(batch).await? {
        Commit::Done { version, .. } => Ok(version),
        Commit::Conflict => panic!("no checks"),
    }
}

fn used(journal: &Path) -> u64 {
    let content = fs::read(journal).unwrap();
    content.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1
}

/// A hang guard, not a performance limit: these tests normally take less than a second.
async fn guarded(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(100), test).await.expect("the store answers in time");
}

fn is_unavailable<T>(answer: &Result<T>) -> bool {
    matches!(answer, Err(Error::Unavailable { .. }))
}

/// A sync fails, and the disk loses everything since the previous one. Visible commits are
/// restored from memory, commits that waited for the sync are refused for good, and snapshots
/// of the old engine become too old.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_loses_no_visible_commit() {
    guarded(async {
        let failing = FailingStore::open().await;
        failing.set("1 synced", Durability::Synced).await.unwrap();
        let durable = used(&failing.journal());
        let last = failing.set("2 buffered", Durability::Buffered).await.unwrap();
        let before = failing.store.snapshot().await.unwrap();
        failing.fail("sync");
        failing.fail("open");
        let held = tokio::spawn({
            let store = failing.store.clone();
            async move { set(&store, "3 held", Durability::Synced).await }
        });
        failing.until_unavailable().await;
        assert!(is_unavailable(&failing.set("4 refused", Durability::Synced).await));
        assert!(is_unavailable(&failing.store.sync().await));
        assert!(is_unavailable(&before.get(&"1 synced".into()).await));
        assert!(is_unavailable(&failing.store.changed(&"1 synced".into(), Some(&"1".into())).await));
        assert!(!held.is_finished(), "the outcome is not known yet");

        failing.fail("rewrite");
        failing.repair("open");
        assert!(is_unavailable(&held.await.unwrap()));
        let journal = fs::File::options().write(true).open(failing.journal()).unwrap();
        journal.set_len(durable).unwrap();
        failing.repair("sync");
        failing.repair("rewrite");
        failing.until_available().await;
        assert_eq!(failing.keys().await, ["1 synced", "2 buffered"]);
        let now = failing.store.snapshot().await.unwrap().version();
        assert!(now > before.version() && before.version() >= last);
        assert!(matches!(before.get(&"1 synced".into()).await, Err(Error::SnapshotTooOld)));
        let mut batch = Batch::default();
        batch.expect_unchanged(Range::prefix("elsewhere"), last).set("5 stale", "1");
        assert_eq!(failing.store.commit(batch).await.unwrap(), Commit::Conflict);

        failing.store.close().await.unwrap();
        let store = EmbeddedStore::open(failing.directory.path(), Settings::default()).await.unwrap();
        assert!(set(&store, "6 after", Durability::Synced).await.unwrap() > now);
        assert_eq!(
            store.snapshot().await.unwrap().get(&"2 buffered".into()).await.unwrap(),
            Some("1".into())
        );
    })
    .await;
}

/// A failed write means that its batch is refused and never applied; earlier commits remain.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_applies_nothing() {
    guarded(async {
        let failing = FailingStore::open().await;
        for round in 0..3 {
            failing.set("1 before", Durability::Buffered).await.unwrap();
            failing.fail("write");
            assert!(is_unavailable(&failing.set("2 failed", Durability::Buffered).await));
            failing.until_unavailable().await;
            failing.repair("write");
            failing.until_available().await;
            assert_eq!(
                failing.keys().await,
                if round == 0 { vec!["1 before"] } else { vec!["1 before", "3 after"] }
            );
            failing.set("3 after", Durability::Synced).await.unwrap();
        }
        failing.store.close().await.unwrap();
        let store = EmbeddedStore::open(failing.directory.path(), Settings::default()).await.unwrap();
        let snapshot = store.snapshot().await.unwrap();
        assert_eq!(snapshot.get(&"2 failed".into()).await.unwrap(), None);
        assert_eq!(snapshot.get(&"3 after".into()).await.unwrap(), Some("1".into()));
    })
    .await;
}

/// Many concurrent writers with a failure among them: each gets an answer, and each answer is
/// true.
#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_true_despite_failures() {
    guarded(async {
        const WRITERS: usize = 64;
        for step in ["write", "sync"] {
            let failing = Arc::new(FailingStore::open().await);
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let store = failing.store.clone();
                    tokio::spawn(async move {
                        let durability =
                            if writer % 3 == 0 { Durability::Synced } else { Durability::Buffered };
                        let mut outcomes = Vec::new();
                        for turn in 0..20 {
                            let key = Key::from(format!("{writer:02}/{turn:02}"));
                            let mut batch = Batch { durability, ..Batch::default() };
                            batch.set(key.clone(), "1");
                            outcomes.push((key, store.commit(batch).await));
                            tokio::task::yield_now().await;
                        }
                        outcomes
                    })
                })
                .collect();
            failing.fail(step);
            failing.until_unavailable().await;
            failing.repair(step);
            let mut applied = Vec::new();
            for writer in writers {
                for (key, outcome) in writer.await.unwrap() {
                    match outcome {
                        Ok(Commit::Done { .. }) => applied.push(key),
                        outcome => assert!(is_unavailable(&outcome), "{outcome:?}"),
                    }
                }
            }
            failing.until_available().await;
            assert_eq!(failing.keys().await, applied, "failing {step}");
        }
    })
    .await;
}

/// The store can be closed while it has no engine; the next process finds the durable commits.
#[tokio::test(flavor = "multi_thread")]
async fn closes_without_an_engine() {
    guarded(async {
        let failing = FailingStore::open().await;
        failing.set("1 synced", Durability::Synced).await.unwrap();
        failing.fail("write");
        failing.fail("open");
        let failed = tokio::spawn({
            let store = failing.store.clone();
            async move { set(&store, "2 failed", Durability::Synced).await }
        });
        failing.until_unavailable().await;
        assert!(is_unavailable(&failing.store.close().await));
        assert!(is_unavailable(&failed.await.unwrap()));
        failing.repair("open");
        failing.repair("write");
        let store = EmbeddedStore::open(failing.directory.path(), Settings::default()).await.unwrap();
        assert_eq!(store.snapshot().await.unwrap().get(&"1 synced".into()).await.unwrap(), Some("1".into()));
    })
    .await;
}
