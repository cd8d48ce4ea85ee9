//! Tests of the bin on the embedded store.

use matyan_store::Store;

use super::*;
use crate::{
    entity::{Experiment, Tag, entity_create, entity_delete, runs_count},
    index::index_has_row,
    keys::Counter,
    position::LogPosition,
    project::project_count,
    quarantine::{quarantine_begin, quarantine_get},
    run::{ClearOutcome, Deletion, head_get, run_create, run_delete, run_find, tombstone_clear},
    testing::TestStore,
};

const P: Project = Project(0);

/// Creates a run of the experiment `e` with the tag `t`.
async fn create(store: &TestStore, id: &str) -> RunNumber {
    let create = async |transaction: &mut Transaction| {
        let experiment = Experiment { name: "e".into(), ..Experiment::default() };
        entity_create(transaction, P, "e", &experiment).await.unwrap();
        entity_create(transaction, P, "t", &Tag { name: "t".into(), ..Tag::default() }).await.unwrap();
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

/// The rows of the bin that a purge of runs binned before this time has to check.
async fn due(store: &TestStore, before_us: i64) -> Vec<BinRow> {
    let snapshot = store.snapshot().await.unwrap();
    let all = keys::index_binned_all(P);
    let (due, rest) = bin_due_page(&*snapshot, P, &all, 100, before_us).await.unwrap();
    assert!(rest.is_none());
    due
}

async fn begin_purge(store: &TestStore, row: BinRow, before_us: i64) -> Option<RunId> {
    let begin = async |transaction: &mut Transaction| bin_purge_begin(transaction, P, row, before_us).await;
    store.run(begin).await.unwrap()
}

/// Starts the purge of due runs, and returns the runs whose deletions have to be logged.
async fn purge(store: &TestStore, before_us: i64) -> Vec<RunId> {
    let mut purged = Vec::new();
    for row in due(store, before_us).await {
        purged.extend(begin_purge(store, row, before_us).await);
    }
    purged
}

async fn head(store: &TestStore, id: &RunId) -> Option<Head> {
    head_get(&*store.snapshot().await.unwrap(), P, id).await.unwrap()
}

async fn clear_tombstone(store: &TestStore, id: &RunId) -> ClearOutcome {
    store.run(async |transaction| tombstone_clear(transaction, P, id).await).await.unwrap()
}

/// Applies a deletion like a worker that reads the deletion's record.
async fn apply_deletion(store: &TestStore, id: &RunId) {
    let head = head(store, id).await;
    let delete = async |transaction: &mut Transaction| {
        let at = LogPosition::default();
        let deletion = Deletion { at, time_us: 10_000, now_us: 10_000, caller: "", project_name: "" };
        run_delete(transaction, P, id, head.as_ref(), deletion).await
    };
    store.run(delete).await.unwrap();
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
    assert!(!restore(&store, number).await, "the run is not in the bin");
    assert!(bin(&store, number, 5_000).await);
    assert!(!bin(&store, number, 6_000).await, "the run is in the bin already, and its week continues");
    assert_eq!(binned(&store).await, [number]);
    assert!(!is_counted(&store).await);
    assert_eq!(document().await.props.binned_us, Some(5_000));
    // The space of the run is not free yet.
    let runs = project_count(&*store.snapshot().await.unwrap(), P, Counter::Runs).await.unwrap();
    assert_eq!(runs, 1);
    assert_eq!(
        clear_tombstone(&store, &id).await,
        ClearOutcome::Live,
        "the run has no tombstone to wait for"
    );

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
    let id = RunId::new("r");
    assert!(purge(&store, i64::MAX).await.is_empty(), "it is visible");
    bin(&store, number, 5_000).await;
    assert!(purge(&store, 5_000).await.is_empty(), "the run was binned too recently");
    let row = BinRow { binned_us: 5_000, number };
    restore(&store, number).await;
    assert_eq!(begin_purge(&store, row, i64::MAX).await, None, "the run was brought back");
    bin(&store, number, 5_000).await;
    assert_eq!(purge(&store, 5_001).await, std::slice::from_ref(&id));
    // The deletion may not be in the log yet, but no one can bring the run back any more.
    assert!(binned(&store).await.is_empty() && !restore(&store, number).await);
    assert_eq!(clear_tombstone(&store, &id).await, ClearOutcome::Waiting);
    assert_eq!(purge(&store, 5_001).await, std::slice::from_ref(&id), "an interrupted purge starts over");

    let end = async |transaction: &mut Transaction| bin_purge_end(transaction, P, &id, number).await;
    store.run(end).await.unwrap();
    assert!(due(&store, i64::MAX).await.is_empty() && !restore(&store, number).await);
    assert_eq!(clear_tombstone(&store, &id).await, ClearOutcome::Waiting);
    apply_deletion(&store, &id).await;
    assert!(matches!(head(&store, &id).await, Some(Head::Tombstone(_))));
    let runs = project_count(&*store.snapshot().await.unwrap(), P, Counter::Runs).await.unwrap();
    assert_eq!(runs, 0);
}

/// The deletion is applied before the process that has logged it continues.
#[tokio::test]
async fn a_purge_may_end_after_its_deletion_is_applied() {
    let store = TestStore::open().await;
    let number = create(&store, "r").await;
    let id = RunId::new("r");
    bin(&store, number, 5_000).await;
    purge(&store, i64::MAX).await;
    apply_deletion(&store, &id).await;
    let end = async |transaction: &mut Transaction| bin_purge_end(transaction, P, &id, number).await;
    store.run(end).await.unwrap();
    assert!(due(&store, i64::MAX).await.is_empty());
    assert!(matches!(head(&store, &id).await, Some(Head::Tombstone(_))));
}

/// Rewrites a run in the bin as an older program does: without the time, and with the row of the index.
async fn drop_time(store: &TestStore, number: RunNumber) {
    let rewrite = async |transaction: &mut Transaction| {
        let key = keys::document(P, number);
        let value = transaction.get(&key).await?.unwrap();
        let mut document = Document::decode(&key, &value)?;
        document.props.binned_us = None;
        transaction.batch().set(key, document.encode());
        Ok::<_, matyan_store::Error>(())
    };
    store.run(rewrite).await.unwrap();
}

#[tokio::test]
async fn rule_107_a_run_whose_time_an_older_program_has_dropped_is_still_in_the_bin() {
    let store = TestStore::open().await;
    let number = create(&store, "r").await;
    bin(&store, number, 5_000).await;
    drop_time(&store, number).await;
    assert!(binned(&store).await.is_empty() && !restore(&store, number).await);
    assert!(purge(&store, 5_000).await.is_empty(), "its week continues");
    assert_eq!(binned(&store).await, [number]);
    assert!(due(&store, 5_000).await.is_empty(), "nothing is left to be corrected");

    drop_time(&store, number).await;
    purge(&store, 5_000).await;
    assert!(restore(&store, number).await && is_counted(&store).await);
}

/// A deletion by an older program, or of a damaged document, leaves the row.
#[tokio::test]
async fn rows_of_the_bin_without_a_run_are_cleared() {
    let store = TestStore::open().await;
    let number = create(&store, "r").await;
    bin(&store, number, 5_000).await;
    let clear = async |transaction: &mut Transaction| {
        transaction.batch().clear(keys::document(P, number));
        Ok::<_, matyan_store::Error>(())
    };
    store.run(clear).await.unwrap();
    assert_eq!(due(&store, 0).await.len(), 1);
    assert!(purge(&store, 0).await.is_empty() && due(&store, i64::MAX).await.is_empty());
}

#[tokio::test]
async fn the_purge_of_a_run_in_quarantine_lets_its_records_go() {
    let store = TestStore::open().await;
    let number = create(&store, "r").await;
    let id = RunId::new("r");
    bin(&store, number, 5_000).await;
    let begin =
        async |transaction: &mut Transaction| quarantine_begin(transaction, P, &id, "damage", 5_000).await;
    store.run(begin).await.unwrap();
    assert_eq!(purge(&store, i64::MAX).await, std::slice::from_ref(&id));
    let end = async |transaction: &mut Transaction| bin_purge_end(transaction, P, &id, number).await;
    store.run(end).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    let quarantine = quarantine_get(&*snapshot, P, &id).await.unwrap().unwrap();
    assert!(quarantine.is_deleting);
    let again = async |transaction: &mut Transaction| quarantine_delete(transaction, P, &id).await;
    assert!(!store.run(again).await.unwrap(), "they are let go already");
}

/// The sweep of a deleted tag finds no run in the bin, because runs in the bin have no index rows of tags.
#[tokio::test]
async fn rule_107_a_run_comes_back_without_deleted_tags_and_experiments() {
    let store = TestStore::open().await;
    let number = create(&store, "r").await;
    bin(&store, number, 5_000).await;
    let delete = async |transaction: &mut Transaction| {
        entity_delete::<Tag>(transaction, P, "t").await.unwrap();
        entity_delete::<Experiment>(transaction, P, "e").await.unwrap();
        Ok::<_, matyan_store::Error>(())
    };
    store.run(delete).await.unwrap();
    assert!(restore(&store, number).await);
    let snapshot = store.snapshot().await.unwrap();
    let props = run_find(&*snapshot, P, &RunId::new("r")).await.unwrap().unwrap().1.props;
    assert_eq!((props.tags, props.experiment), (Vec::new(), None));
    assert!(!index_has_row(&*snapshot, &keys::index_tag_all(P, "t")).await.unwrap());
    assert!(!index_has_row(&*snapshot, &keys::index_experiment_all(P, "e")).await.unwrap());
    for (kind, id) in [(EntityKind::Tag, "t"), (EntityKind::Experiment, "e")] {
        let counter = keys::entity_counter(P, kind, id, Counter::Runs);
        assert!(snapshot.get(&counter).await.unwrap().is_none(), "{id}");
    }
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
    assert_eq!(clear_tombstone(&store, &id).await, ClearOutcome::Waiting, "the delete has yet to be applied");
}
