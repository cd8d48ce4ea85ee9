use futures::FutureExt;

use super::*;
use crate::embedded::{EmbeddedStore, Settings};

async fn embedded() -> (tempfile::TempDir, Arc<dyn Store>) {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path(), Settings::default()).await.unwrap();
    (directory, Arc::new(store))
}

async fn get(store: &dyn Store, key: &'static str) -> Option<Value> {
    store.snapshot().await.unwrap().get(&key.into()).await.unwrap()
}

fn set(key: &'static str, durability: Durability) -> Batch {
    let mut batch = Batch { durability, ..Batch::default() };
    batch.set(key, "1").set_stamped("stamped/", key, "1");
    batch
}

#[tokio::test]
async fn faults_follow_the_script_and_errors_apply_nothing() {
    let (_directory, inner) = embedded().await;
    let late = Duration::from_millis(1);
    let script = [Fault::None, Fault::Error, Fault::Delay(late), Fault::LateAnswer(late), Fault::Error];
    let store = FaultyStore::new(inner.clone(), Faults::script(script));
    store.commit(set("a", Durability::Synced)).await.unwrap();
    assert!(matches!(store.commit(set("b", Durability::Synced)).await, Err(Error::Unavailable { .. })));
    store.commit(set("c", Durability::Synced)).await.unwrap();
    store.commit(set("d", Durability::Synced)).await.unwrap();
    assert!(store.sync().await.is_err());
    store.sync().await.unwrap();
    let found = futures::future::join_all(["a", "b", "c", "d"].map(|key| get(inner.as_ref(), key))).await;
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, true]);
}

#[test]
fn a_seed_repeats_its_faults_and_meets_the_rate() {
    let mut faults = Faults::seeded(3, 0.25, Duration::from_millis(2));
    let mut again = faults.clone();
    let drawn: Vec<Fault> = (0..4_000).map(|_| faults.next()).collect();
    assert!(drawn.iter().all(|fault| *fault == again.next()));
    let errors = drawn.iter().filter(|fault| **fault == Fault::Error).count();
    assert!((800..1_200).contains(&errors), "{errors}");
    assert!(drawn.iter().any(|fault| matches!(fault, Fault::Delay(_))));
    assert!(drawn.iter().any(|fault| matches!(fault, Fault::LateAnswer(_))));
}

#[tokio::test]
async fn a_crash_hangs_all_calls_and_loses_unsynced_commits() {
    for last in [Fault::Crash, Fault::CrashAfter] {
        let (_directory, inner) = embedded().await;
        let faults = [Fault::None, Fault::None, Fault::None, last];
        let store = FaultyStore::new(inner.clone(), Faults::script(faults));
        store.commit(set("covered", Durability::Buffered)).await.unwrap();
        store.commit(set("synced", Durability::Synced)).await.unwrap();
        store.commit(set("buffered", Durability::Buffered)).await.unwrap();
        let crash = store.commit(set("late", Durability::Synced));
        tokio::select! {
            () = store.crashed() => {}
            _ = crash => panic!("a crashed store answered"),
        }
        assert!(store.snapshot().now_or_never().is_none());
        assert!(store.sync().now_or_never().is_none());

        let (_directory, after) = embedded().await;
        store.recover_into(after.as_ref()).await.unwrap();
        assert!(get(after.as_ref(), "covered").await.is_some());
        assert!(get(after.as_ref(), "synced").await.is_some());
        // A synced commit survives even if its answer was lost in the crash, and so do
        // all commits before it.
        let applied = last == Fault::CrashAfter;
        assert_eq!(get(after.as_ref(), "late").await.is_some(), applied);
        assert_eq!(get(after.as_ref(), "buffered").await.is_some(), applied);
        let before = stamped_rows(&*inner).await;
        let after = stamped_rows(&*after).await;
        assert_eq!(before[..after.len()], after);
    }
}

async fn stamped_rows(store: &dyn Store) -> Vec<(Key, Value)> {
    let snapshot = store.snapshot().await.unwrap();
    snapshot.scan(&crate::Range::prefix("stamped/"), crate::Scan::default()).await.unwrap().rows
}
