//! Tests of the change feed on the embedded store: order, waiting, and trimming.

use matyan_store::{Commit, Version};

use super::*;
use crate::testing::TestStore;

const P: Project = Project(0);

async fn change(store: &TestStore, runs: &[u64], time_us: i64) -> Stamp {
    let mut batch = Batch::default();
    for run in runs {
        change_put(&mut batch, P, RunNumber(*run), time_us, "");
    }
    match store.commit(batch).await.unwrap() {
        Commit::Done { stamp, .. } => stamp,
        Commit::Conflict => panic!("a batch without checks cannot conflict"),
    }
}

fn kept(times_us: ops::Range<i64>) -> KeptChanges {
    KeptChanges { times_us, count: MAX_CHANGES }
}

async fn list(store: &TestStore, after: Option<Stamp>, rows: usize) -> (Vec<u64>, bool) {
    let (changes, more) = changes_list(&*store.snapshot().await.unwrap(), P, after, rows).await.unwrap();
    (changes.into_iter().map(|change| change.number.0).collect(), more)
}

#[tokio::test]
async fn rule_25_changes_come_in_the_order_of_commits() {
    let store = TestStore::open().await;
    let first = change(&store, &[5], 1).await;
    change(&store, &[3, 4], 2).await;
    change(&store, &[5], 3).await;
    assert_eq!(list(&store, None, 9).await, (vec![5, 3, 4, 5], false));
    assert_eq!(list(&store, Some(first), 9).await, (vec![3, 4, 5], false));
    assert_eq!(list(&store, None, 2).await, (vec![5], true), "a page must not end in the middle of a commit");
}

/// Otherwise no watch of the project would continue, and its feed would never be trimmed.
#[tokio::test]
async fn rule_40_a_damaged_change_may_be_of_any_run_and_is_trimmed() {
    let store = TestStore::open().await;
    change(&store, &[1], 30).await;
    let mut batch = Batch::default();
    batch.set_stamped(keys::change_prefix(P), keys::change_suffix(RunNumber(2)), vec![0xff, 7]);
    store.commit(batch).await.unwrap();
    change(&store, &[3], 30).await;
    let snapshot = store.snapshot().await.unwrap();
    let (changes, _) = changes_list(&*snapshot, P, None, 9).await.unwrap();
    let found: Vec<_> = changes.iter().map(|change| (change.number.0, change.first_step)).collect();
    assert_eq!(found, [(1, i64::MAX), (2, i64::MIN), (3, i64::MAX)]);
    let mut batch = Batch::default();
    assert!(changes_trim(&*snapshot, P, &kept(40..50), &mut batch).await.unwrap());
    store.commit(batch).await.unwrap();
    assert_eq!(list(&store, None, 9).await, (vec![], false));
}

#[tokio::test]
async fn a_wait_ends_with_the_next_change_of_the_project() {
    let store = TestStore::open().await;
    let now = store.snapshot().await.unwrap().version().stamp(u16::MAX);
    let (waited, committed) = tokio::join!(changes_wait(&*store, P, now), change(&store, &[1], 1));
    waited.unwrap();
    assert!(committed > now);
    changes_wait(&*store, P, now).await.unwrap();
}

#[tokio::test]
async fn trimming_records_the_last_dropped_stamp() {
    let store = TestStore::open().await;
    change(&store, &[0], i64::MAX).await;
    let old = change(&store, &[1], 10).await;
    change(&store, &[2], 30).await;
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(changes_trimmed(&*snapshot, P).await.unwrap(), None);
    let mut batch = Batch::default();
    assert!(changes_trim(&*snapshot, P, &kept(20..40), &mut batch).await.unwrap());
    store.commit(batch).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(changes_trimmed(&*snapshot, P).await.unwrap(), Some(old));
    assert!(old.version() > Version(0));
    assert_eq!(list(&store, None, 9).await, (vec![2], false));
}

/// Marks and trims as the sweep does.
async fn sweep(store: &TestStore, kept: &KeptChanges) {
    let mut batch = Batch::default();
    if changes_mark(&*store.snapshot().await.unwrap(), P, kept, &mut batch).await.unwrap() {
        store.commit(batch).await.unwrap();
    }
    let mut batch = Batch::default();
    if changes_trim(&*store.snapshot().await.unwrap(), P, kept, &mut batch).await.unwrap() {
        store.commit(batch).await.unwrap();
    }
}

#[tokio::test]
async fn rule_117_the_number_of_changes_is_bounded() {
    let store = TestStore::open().await;
    let kept = KeptChanges { times_us: 0..100, count: 40 };
    let mut last_dropped = None;
    for run in 0..200 {
        let stamp = change(&store, &[run], 50).await;
        sweep(&store, &kept).await;
        let (left, _) = list(&store, None, 1_000).await;
        let newest = left.last().copied();
        assert_eq!(newest, Some(run));
        // The changes that are kept, and at most the changes between two marks.
        assert!((40.min(run + 1)..45).contains(&(left.len() as u64)), "{} after {run}", left.len());
        let marks = marks_list(&*store.snapshot().await.unwrap(), P).await.unwrap();
        assert!(marks.len() <= MARKS as usize + 2, "{}", marks.len());
        let trimmed = changes_trimmed(&*store.snapshot().await.unwrap(), P).await.unwrap();
        assert!(trimmed.is_none_or(|trimmed| trimmed < stamp) && trimmed >= last_dropped);
        last_dropped = trimmed;
    }
    assert!(last_dropped.is_some(), "a reader must see that it has missed changes");
    // Nothing is written for a project that does not change.
    let mut batch = Batch::default();
    assert!(!changes_mark(&*store.snapshot().await.unwrap(), P, &kept, &mut batch).await.unwrap());
    assert!(!changes_trim(&*store.snapshot().await.unwrap(), P, &kept, &mut batch).await.unwrap());
}
