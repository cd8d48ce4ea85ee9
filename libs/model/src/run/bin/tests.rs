//! Tests of the bin on the embedded store.

use matyan_store::Store;

use super::*;
use crate::{
    entity::runs_count,
    index::index_has_row,
    keys::{Counter, EntityKind},
    position::{LogPosition, cursor_put},
    project::project_count,
    run::{ClearOutcome, head_get, pending_delete_put, run_create, run_find, tombstone_clear},
    testing::TestStore,
};

const P: Project = Project(0);

fn project() -> NamedProject {
    NamedProject { number: P, name: String::new() }
}

/// Creates a run of the experiment `e` with the tag `t`.
async fn create(store: &TestStore, id: &str) -> RunNumber {
    let create = async |transaction: &mut Transaction| {
        let mut edit = run_create(transaction, P, &RunId::new(id), 1_000).await?;
        edit.props.experiment = Some("e".into());
        assert!(edit.tag_add("t"));
        let number = edit.number();
        edit.write(transaction.batch());
        Ok::<_, matyan_store::Error>(number)
    };
    store.run(create).await.unwrap()
}

async fn bin(store: &TestStore, number: RunNumber, now_us: i64) -> bool {
    store.run(async |transaction| bin_put(transaction, P, number, now_us).await).await.unwrap()
}

async fn restore(store: &TestStore, number: RunNumber) -> bool {
    store.run(async |transaction| bin_restore(transaction, P, number, 9_000).await).await.unwrap()
}

async fn purge(store: &TestStore, number: RunNumber, before_us: i64) -> Option<RunId> {
    let purge = async |transaction: &mut Transaction| {
        bin_purge(transaction, &project(), number, before_us, 10_000).await
    };
    store.run(purge).await.unwrap()
}

async fn binned(store: &TestStore) -> Vec<RunNumber> {
    let snapshot = store.snapshot().await.unwrap();
    let (page, rest) = binned_list(&*snapshot, P, &keys::index_binned_all(P), 100).await.unwrap();
    assert!(rest.is_none());
    page.into_iter().map(|(number, _)| number).collect()
}

/// Whether the run is in the lists and the counts of visible runs.
async fn is_counted(store: &TestStore) -> bool {
    let snapshot = store.snapshot().await.unwrap();
    let is_listed = index_has_row(&*snapshot, &keys::index_archived_all(P, false)).await.unwrap();
    let of_tag = runs_count(&*snapshot, P, EntityKind::Tag, "t").await.unwrap();
    let of_experiment = runs_count(&*snapshot, P, EntityKind::Experiment, "e").await.unwrap();
    assert_eq!((i64::from(is_listed), of_tag), (of_experiment, of_experiment));
    is_listed
}

#[tokio::test]
async fn rule_107_a_run_in_the_bin_is_nowhere_else_and_comes_back_as_it_was() {
    let store = TestStore::open().await;
    let number = create(&store, "r").await;
    let id = RunId::new("r");
    let document = async || run_find(&*store.snapshot().await.unwrap(), P, &id).await.unwrap().unwrap().1;
    let before = document().await;
    assert!(!restore(&store, number).await, "it is not in the bin");
    assert!(bin(&store, number, 5_000).await);
    assert!(!bin(&store, number, 6_000).await, "it is there already, and its week goes on");
    assert_eq!(binned(&store).await, [number]);
    assert!(!is_counted(&store).await);
    assert_eq!(document().await.props.binned_us, Some(5_000));
    // Its space is not free yet.
    let runs = project_count(&*store.snapshot().await.unwrap(), P, Counter::Runs).await.unwrap();
    assert_eq!(runs, 1);
    let cleared = store.run(async |transaction| tombstone_clear(transaction, P, &id).await).await.unwrap();
    assert_eq!(cleared, ClearOutcome::Live, "it has no tombstone to wait for");

    assert!(restore(&store, number).await);
    assert!(binned(&store).await.is_empty() && is_counted(&store).await);
    let mut after = document().await;
    after.props.updated_us = before.props.updated_us;
    assert_eq!(after, before);
}

#[tokio::test]
async fn rule_107_only_what_has_been_in_the_bin_for_long_enough_is_purged() {
    let store = TestStore::open().await;
    let number = create(&store, "r").await;
    assert_eq!(purge(&store, number, i64::MAX).await, None, "it is visible");
    bin(&store, number, 5_000).await;
    assert_eq!(purge(&store, number, 5_000).await, None, "it is too new");
    restore(&store, number).await;
    assert_eq!(purge(&store, number, i64::MAX).await, None, "it was brought back");
    bin(&store, number, 5_000).await;
    assert_eq!(purge(&store, number, 5_001).await, Some(RunId::new("r")));
    assert!(binned(&store).await.is_empty() && !restore(&store, number).await);
    let head = head_get(&*store.snapshot().await.unwrap(), P, &RunId::new("r")).await.unwrap();
    assert!(matches!(head, Some(Head::Tombstone(tombstone)) if tombstone.number == Some(number.0)));
    let runs = project_count(&*store.snapshot().await.unwrap(), P, Counter::Runs).await.unwrap();
    assert_eq!(runs, 0);
}

#[tokio::test]
async fn a_run_in_quarantine_is_not_purged() {
    let store = TestStore::open().await;
    let number = create(&store, "r").await;
    bin(&store, number, 5_000).await;
    let put = async |transaction: &mut Transaction| {
        let cursor = Cursor { is_quarantined: true, position: LogPosition::default(), ..Cursor::default() };
        cursor_put(transaction.batch(), P, &RunId::new("r"), cursor);
        Ok::<_, matyan_store::Error>(())
    };
    store.run(put).await.unwrap();
    assert_eq!(purge(&store, number, i64::MAX).await, None);
    assert_eq!(binned(&store).await, [number]);
}

#[tokio::test]
async fn a_delete_ends_the_stay_in_the_bin() {
    let store = TestStore::open().await;
    let number = create(&store, "r").await;
    bin(&store, number, 5_000).await;
    let id = RunId::new("r");
    let delete = async |transaction: &mut Transaction| pending_delete_put(transaction, P, &id, number).await;
    assert!(store.run(delete).await.unwrap());
    assert!(binned(&store).await.is_empty() && !restore(&store, number).await);
    let cleared = store.run(async |transaction| tombstone_clear(transaction, P, &id).await).await.unwrap();
    assert_eq!(cleared, ClearOutcome::Waiting, "the delete has yet to be applied");
}
