//! Tests of the lifecycle of runs on the embedded store: creating, changing (along with their
//! indexes), hiding, deleting, and sweeping them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use matyan_store::{Batch, Commit, Page, Range, Scan, Snapshot, Store, Transaction, Version};

use super::*;
use crate::{
    ids::{Project, RunId, RunNumber},
    index::index_runs_page,
    keys::{self, CohortKind, Counter, EntityKind},
    position::LogPosition,
    project::{project_clear, project_count},
    testing::TestStore,
};
use matyan_value::{Map, Value as Tree, json};

const P: Project = Project(0);

#[test]
fn a_document_survives_the_round_trip() {
    let key = keys::document(P, RunNumber(1));
    let props = Props {
        tags: vec!["t".into()],
        parent: Some(Parent { number: 4, step: Some(-1) }),
        experiment: Some(String::new()),
        ..Props::new("r", 17)
    };
    for params in [Params::none(), Params::Pieces] {
        let document = Document { props: props.clone(), params };
        assert_eq!(Document::decode(&key, &document.encode()).unwrap(), document);
    }
    assert!(Document::decode(&key, &Bytes::from_static(&[9, 0x80])).is_err());
}

#[test]
fn the_end_of_a_run_follows_the_client_clock_if_possible() {
    let mut props = Props::new("r", 100);
    assert_eq!(props.ended_us(), None);
    props.finalized_us = Some(170);
    assert_eq!(props.ended_us(), Some(170));
    props.duration_us = Some(50);
    assert_eq!(props.ended_us(), Some(150));
}

#[test]
fn the_first_explicit_creation_dates_a_run_created_by_data() {
    let mut props = Props::new("r", 100);
    props.set_created(150);
    props.set_created(200);
    assert_eq!(props.created_us, 150);
}

async fn create(store: &TestStore, id: &str, created_us: i64) -> RunNumber {
    let id = RunId::new(id);
    store
        .run(async |transaction| -> Result<_> {
            let edit = run_create(transaction, P, &id, created_us).await?;
            let number = edit.number();
            edit.write(transaction.batch());
            Ok(number)
        })
        .await
        .unwrap()
}

async fn edit(store: &TestStore, number: RunNumber, change: impl Fn(&mut Props), params: Option<&str>) {
    store
        .run(async |transaction| -> Result<()> {
            let mut edit = RunEdit::load(transaction, P, number).await?.expect("the run lives");
            change(&mut edit.props);
            if let Some(Tree::Map(map)) = params.map(|text| json::parse(text).unwrap()) {
                *edit.params(transaction.unchecked()).await? = map;
            }
            edit.write(transaction.batch());
            Ok(())
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn rule_38_a_document_with_all_texts_and_tags_at_their_limits_fits_in_a_row() {
    let store = TestStore::open().await;
    let number = create(&store, &"r".repeat(limits::RUN_ID_BYTES), 1_000).await;
    edit(
        &store,
        number,
        |props| {
            props.name = "n".repeat(limits::NAME_BYTES);
            props.description = "d".repeat(limits::DESCRIPTION_BYTES);
            let message = format!("begins{}ends", "é".repeat(limits::DESCRIPTION_BYTES / 2 - 5));
            let outcome = api::Outcome { kind: api::OutcomeKind::Failed.into(), message };
            props.outcome = Outcome::from_api(&outcome);
        },
        Some(&format!(r#"{{"text":"{}"}}"#, "p".repeat(16_000))),
    )
    .await;
    let add = async |transaction: &mut Transaction| -> Result<bool> {
        let mut edit = RunEdit::load(transaction, P, number).await?.expect("the run lives");
        let ids = (0..limits::TAGS_PER_RUN).map(|tag| format!("00000000-0000-0000-0000-{tag:012}"));
        assert!(ids.collect::<Vec<_>>().iter().all(|id| edit.tag_add(id)));
        let again = edit.tag_add("00000000-0000-0000-0000-000000000000");
        let more = edit.tag_add("00000000-0000-0000-0001-000000000000");
        edit.write(transaction.batch());
        Ok(again && !more)
    };
    assert!(store.run(add).await.unwrap());
    let document = document_get(&*store.snapshot().await.unwrap(), P, number).await.unwrap().unwrap();
    assert_eq!(document.props.tags.len(), limits::TAGS_PER_RUN);
    let message = document.props.outcome.unwrap().message;
    assert!(message.starts_with("begins") && message.ends_with("ends") && message.len() <= MESSAGE_BYTES);
    assert!(matches!(document.params, Params::Inline(_)));
}

async fn proposed(store: &TestStore, range: matyan_store::Range) -> Vec<RunNumber> {
    index_runs_page(&*store.snapshot().await.unwrap(), &range, 100).await.unwrap().0
}

#[tokio::test]
async fn rule_11_run_numbers_are_never_reused() {
    let store = TestStore::open().await;
    let mut numbers = Vec::new();
    for id in ["a", "b", "c"] {
        numbers.push(create(&store, id, 1_000).await.0);
    }
    assert_eq!(numbers, [1_000, 1_001, 1_002]);
    delete(&store, "b").await;
    while !sweep_step(&*store, P, RunNumber(1_001)).await.unwrap() {}
    assert_eq!(create(&store, "d", 1_001).await, RunNumber(1_003));
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(run_id_get(&*snapshot, P, RunNumber(1_001)).await.unwrap(), Some(RunId::new("b")));
    let ids = run_ids_get(&*snapshot, P, &[RunNumber(1_001), RunNumber(9)]).await.unwrap();
    assert_eq!(ids, [Some(RunId::new("b")), None]);
    assert_eq!(project_count(&*snapshot, P, Counter::Runs).await.unwrap(), 3);
}

#[tokio::test]
async fn rule_11_a_free_number_is_found_among_many_runs_of_one_moment() {
    let store = TestStore::open().await;
    for number in 0..100 {
        assert_eq!(create(&store, &format!("r{number}"), -7).await, RunNumber(number + 1), "0 means no run");
    }
    let mut transaction = Transaction::new(store.snapshot().await.unwrap());
    run_create(&mut transaction, P, &RunId::new("last"), -7).await.unwrap();
    assert_eq!(transaction.into_batch().checks.len(), 1, "only the chosen number must be checked");
}

#[tokio::test]
async fn rule_131_a_restored_run_is_listed_when_it_becomes_live() {
    let store = TestStore::open().await;
    let id = RunId::new("r");
    let begin =
        async |transaction: &mut Transaction| staged_begin(transaction, P, &id, [1; 32], (5, 9)).await;
    let staged = store.run(begin).await.unwrap();
    let key = keys::uncollected(CohortKind::Metrics, P, keys::ListGeneration::FIRST, staged.number);
    assert_eq!(store.snapshot().await.unwrap().get(&key).await.unwrap(), None);
    let link = async |transaction: &mut Transaction| {
        staged_link(transaction, P, &id, &staged, (Props::default(), Map::new())).await
    };
    store.run(link).await.unwrap();
    assert!(store.snapshot().await.unwrap().get(&key).await.unwrap().is_some());
}

async fn delete(store: &TestStore, id: &str) {
    let id = RunId::new(id);
    let deletion =
        Deletion { at: LogPosition::default(), time_us: 5, now_us: 5, caller: "", project_name: "" };
    store
        .run(async |transaction| -> Result<Head> {
            let key = keys::head(P, &id);
            let head = transaction.get(&key).await?.map(|value| Head::decode(&key, &value)).transpose()?;
            run_delete(transaction, P, &id, head.as_ref(), deletion).await
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn indexes_follow_the_document() {
    let store = TestStore::open().await;
    let number = create(&store, "r", 1_000).await;
    let has = async |range| proposed(&store, range).await == [number];
    fn change(props: &mut Props) {
        props.archived = true;
        props.tags = vec!["t1".into(), "t2".into()];
        props.experiment = Some("e".into());
    }
    edit(&store, number, change, Some(r#"{"lr":0.5,"x":[1]}"#)).await;
    assert!(has(keys::index_created_between(P, 1_000, 1_001)).await);
    assert!(has(keys::index_archived_all(P, true)).await && has(keys::index_active_all(P, true)).await);
    assert!(has(keys::index_tag_all(P, "t1")).await && has(keys::index_tag_all(P, "t2")).await);
    assert!(has(keys::index_experiment_all(P, "e")).await);
    let listed = keys::uncollected_all(CohortKind::Params, P, keys::ListGeneration::FIRST);
    assert!(has(listed.clone()).await && !has(keys::index_params(P)).await);
    let mut batch = Batch::default();
    batch.clear(keys::uncollected(CohortKind::Params, P, keys::ListGeneration::FIRST, number));
    store.commit(batch).await.unwrap();
    edit(&store, number, |props| props.name = "n".into(), None).await;
    assert!(!has(listed.clone()).await, "the params have not changed");
    assert!(!has(keys::index_archived_all(P, false)).await);

    edit(
        &store,
        number,
        |props| {
            props.tags = vec!["t2".into()];
            props.experiment = Some("f".into());
            props.active = false;
        },
        Some(r#"{"lr":1}"#),
    )
    .await;
    assert!(!has(keys::index_tag_all(P, "t1")).await && has(keys::index_tag_all(P, "t2")).await);
    assert!(!has(keys::index_experiment_all(P, "e")).await && has(keys::index_experiment_all(P, "f")).await);
    assert!(has(listed.clone()).await);
    assert!(!has(keys::index_active_all(P, true)).await && has(keys::index_active_all(P, false)).await);
    let count = async |kind, id: &str| {
        let snapshot = store.snapshot().await.unwrap();
        crate::entity::runs_count(&*snapshot, P, kind, id).await.unwrap()
    };
    assert_eq!(count(EntityKind::Tag, "t1").await, 0);
    assert_eq!(count(EntityKind::Tag, "t2").await, 1);
    assert_eq!((count(EntityKind::Experiment, "e").await, count(EntityKind::Experiment, "f").await), (0, 1));

    delete(&store, "r").await;
    let left = [keys::index_tag_all(P, "t2"), keys::index_experiment_all(P, "f"), listed, keys::documents(P)];
    let snapshot = store.snapshot().await.unwrap();
    for range in left {
        assert!(snapshot.scan(&range, Default::default()).await.unwrap().rows.is_empty());
    }
    assert_eq!(count(EntityKind::Tag, "t2").await, 0);
}

/// Clears the sign that the params of a run have no index rows, and writes index rows, as in a store of
/// format 6.
async fn make_indexed(store: &TestStore, number: RunNumber) {
    let snapshot = store.snapshot().await.unwrap();
    let mut document = document_get(&*snapshot, P, number).await.unwrap().unwrap();
    let tree = params_get(&*snapshot, P, number, &document).await.unwrap();
    document.props.is_without_param_rows = false;
    let mut batch = Batch::default();
    batch.set(keys::document(P, number), document.encode());
    batch.set(keys::indexed_params(P, number), Vec::new());
    batch.clear(keys::uncollected(CohortKind::Params, P, keys::ListGeneration::FIRST, number));
    for (key, value) in crate::index::params_rows(P, number, &tree) {
        batch.set(key, value);
    }
    store.commit(batch).await.unwrap();
}

#[tokio::test]
async fn index_rows_of_an_earlier_format_are_cleared_with_the_first_change_of_params() {
    let store = TestStore::open().await;
    let long = "x".repeat(300);
    let rows = async || {
        let snapshot = store.snapshot().await.unwrap();
        let ranges = [
            keys::index_params(P),
            keys::indexed_params_all(P),
            keys::index_partial_all(P),
            keys::uncollected_all(CohortKind::Params, P, keys::ListGeneration::FIRST),
        ];
        let mut counts = [0; 4];
        for (count, range) in counts.iter_mut().zip(ranges) {
            *count = snapshot.scan(&range, Scan::default()).await.unwrap().rows.len();
        }
        counts
    };
    let number = create(&store, "r", 1_000).await;
    edit(&store, number, |_| {}, Some(&format!(r#"{{"lr":0.5,"long":"{long}"}}"#))).await;
    assert_eq!(rows().await, [0, 0, 1, 1]);
    make_indexed(&store, number).await;
    edit(&store, number, |props| props.name = "n".into(), None).await;
    assert_eq!(rows().await, [2, 1, 1, 0], "the params have not changed");
    edit(&store, number, |_| {}, Some(r#"{"lr":0.5}"#)).await;
    assert_eq!(rows().await, [0, 0, 0, 1]);
    make_indexed(&store, number).await;
    assert_eq!(rows().await, [1, 1, 0, 0]);
    delete(&store, "r").await;
    assert_eq!(rows().await, [0; 4]);
}

/// Large params and their index rows are cleared in their own transactions.
#[tokio::test]
async fn index_rows_of_large_params_are_cleared_ahead() {
    let store = TestStore::open().await;
    let number = create(&store, "r", 1_000).await;
    let large = format!(r#"{{"a":1,"b":"{}"}}"#, "x".repeat(5 << 20));
    let message = || json::parse(&large).unwrap().as_map().unwrap().clone();
    let load = async || {
        let transaction = Transaction::new(store.snapshot().await.unwrap());
        let edit = RunEdit::load(&transaction, P, number).await.unwrap().unwrap();
        (transaction, edit)
    };
    edit(&store, number, |_| {}, Some(r#"{"a":0,"c":2}"#)).await;
    make_indexed(&store, number).await;
    let (mut transaction, mut changed) = load().await;
    changed.params_merge(transaction.unchecked(), message()).await.unwrap().unwrap();
    let cleared = changed.take_cleared_ahead().expect("the params are large");
    assert_eq!(cleared.mutations.len(), 4, "two rows, and one of each list");
    store.commit(cleared).await.unwrap();
    assert!(changed.take_cleared_ahead().is_none(), "they are cleared once");
    assert_eq!(
        proposed(&store, keys::uncollected_all(CohortKind::Params, P, keys::ListGeneration::FIRST)).await,
        [number]
    );
    changed.write(transaction.batch());
    store.commit(transaction.into_batch()).await.unwrap();
    let (transaction, mut changed) = load().await;
    changed.params_merge(transaction.unchecked(), message()).await.unwrap().unwrap();
    assert!(changed.take_cleared_ahead().is_none(), "they have no index rows any more");
}

#[tokio::test]
async fn rule_134_a_run_writes_one_row_for_all_its_params() {
    let store = TestStore::open().await;
    let mut rows = Vec::new();
    for count in [0, 1, 200] {
        let mut transaction = Transaction::new(store.snapshot().await.unwrap());
        let id = RunId::new(format!("r{count}"));
        let mut edit = run_create(&mut transaction, P, &id, 1_000).await.unwrap();
        let params = edit.params(transaction.unchecked()).await.unwrap();
        params.extend((0..count).map(|at| (format!("param {at}"), Tree::Integer(at))));
        edit.write(transaction.batch());
        let batch = transaction.into_batch();
        rows.push(batch.mutations.len());
        store.commit(batch).await.unwrap();
    }
    assert_eq!([rows[1], rows[2]], [rows[0]; 2], "a run without params is listed, too");
}

#[tokio::test]
async fn an_edit_without_a_change_writes_nothing() {
    let store = TestStore::open().await;
    let number = create(&store, "r", 1_000).await;
    let mut transaction = Transaction::new(store.snapshot().await.unwrap());
    let mut same = RunEdit::load(&transaction, P, number).await.unwrap().unwrap();
    same.params(transaction.unchecked()).await.unwrap();
    same.write(transaction.batch());
    assert!(transaction.into_batch().mutations.is_empty());
}

#[tokio::test]
async fn large_params_move_out_of_the_document_and_back() {
    let store = TestStore::open().await;
    let number = create(&store, "r", 1_000).await;
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(200_000));
    let read = async || {
        let snapshot = store.snapshot().await.unwrap();
        let document = document_get(&*snapshot, P, number).await.unwrap().unwrap();
        (params_get(&*snapshot, P, number, &document).await.unwrap(), document.params)
    };
    edit(&store, number, |_| {}, Some(&large)).await;
    let (tree, params) = read().await;
    assert_eq!((Tree::Map(tree), params), (json::parse(&large).unwrap(), Params::Pieces));
    edit(&store, number, |props| props.name = "n".into(), None).await;
    assert_eq!(read().await.1, Params::Pieces, "the params must not be touched");
    edit(&store, number, |_| {}, Some(r#"{"a":1}"#)).await;
    let (tree, params) = read().await;
    assert_eq!(tree, json::parse(r#"{"a":1}"#).unwrap().as_map().unwrap().clone());
    assert!(matches!(params, Params::Inline(_)));
}

#[tokio::test]
async fn rule_12_a_pending_delete_hides_only_the_intended_run() {
    let store = TestStore::open().await;
    let id = RunId::new("r");
    let old = create(&store, "r", 1_000).await;
    let pend = async |number| {
        store.run(async |transaction| pending_delete_put(transaction, P, &id, number).await).await.unwrap()
    };
    let is_hidden = async || {
        let snapshot = store.snapshot().await.unwrap();
        run_find(&*snapshot, P, &id).await.unwrap().is_some_and(|(_, document)| document.props.pending_delete)
    };
    assert!(pend(old).await && is_hidden().await);
    let clearing =
        async || store.run(async |transaction| tombstone_clear(transaction, P, &id).await).await.unwrap();
    assert_eq!(clearing().await, ClearOutcome::Waiting, "the delete has yet to be applied");
    delete(&store, "r").await;
    assert_eq!(clearing().await, ClearOutcome::Waiting, "blobs have yet to be deleted");
    let gone = async |number| {
        store.run(async |transaction| blobs_deleted_put(transaction, P, &id, number).await).await.unwrap()
    };
    assert!(!gone(RunNumber(7)).await && gone(old).await);
    assert_eq!(clearing().await, ClearOutcome::Free);
    let new = create(&store, "r", 2_000).await;
    assert_eq!(clearing().await, ClearOutcome::Live);
    // The pending delete of the old run arrives late.
    assert!(!pend(old).await && !is_hidden().await);
    assert!(!gone(new).await, "a live run has no tombstone");
}

#[tokio::test]
async fn runs_are_listed_in_pages_from_either_end() {
    let store = TestStore::open().await;
    for at in 0..7 {
        create(&store, &format!("r{at}"), 1_000 + at).await;
    }
    let snapshot = store.snapshot().await.unwrap();
    for reverse in [false, true] {
        let mut found = Vec::new();
        let mut range = Some(keys::documents(P));
        while let Some(own) = range {
            let scan = matyan_store::Scan { rows: 3, reverse, ..Default::default() };
            let page = runs_list(&*snapshot, P, &own, scan).await.unwrap();
            found
                .extend(page.runs.iter().map(|(number, document)| (number.0, document.props.run_id.clone())));
            range = page.rest;
        }
        let mut expected: Vec<_> = (0..7).map(|at| (1_000 + at, format!("r{at}"))).collect();
        if reverse {
            expected.reverse();
        }
        assert_eq!(found, expected);
    }
}

/// A store that counts rows, commits, and bytes of scanned values.
struct CountingStore {
    inner: TestStore,
    /// Whether it clears ranges at once, as FoundationDB does.
    clears_at_once: bool,
    commits: AtomicUsize,
    rows: Arc<AtomicUsize>,
    scanned_bytes: Arc<AtomicUsize>,
}

impl CountingStore {
    async fn open(clears_at_once: bool) -> Self {
        Self {
            inner: TestStore::open().await,
            clears_at_once,
            commits: AtomicUsize::default(),
            rows: Arc::default(),
            scanned_bytes: Arc::default(),
        }
    }
}

#[async_trait]
impl Store for CountingStore {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        let inner = self.inner.snapshot().await?;
        let rows = self.rows.clone();
        Ok(Box::new(CountingSnapshot { inner, rows, scanned_bytes: self.scanned_bytes.clone() }))
    }

    async fn commit(&self, batch: Batch) -> Result<Commit> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.inner.commit(batch).await
    }

    async fn sync(&self) -> Result<()> {
        self.inner.sync().await
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> Result<()> {
        self.inner.changed(key, seen).await
    }

    fn clears_ranges_at_once(&self) -> bool {
        self.clears_at_once
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }
}

struct CountingSnapshot {
    inner: Box<dyn Snapshot>,
    rows: Arc<AtomicUsize>,
    scanned_bytes: Arc<AtomicUsize>,
}

#[async_trait]
impl Snapshot for CountingSnapshot {
    async fn get(&self, key: &Key) -> Result<Option<Value>> {
        self.rows.fetch_add(1, Ordering::Relaxed);
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>> {
        self.rows.fetch_add(keys.len(), Ordering::Relaxed);
        self.inner.get_many(keys).await
    }

    async fn scan(&self, range: &Range, scan: Scan) -> Result<Page> {
        let page = self.inner.scan(range, scan).await?;
        self.rows.fetch_add(page.rows.len(), Ordering::Relaxed);
        let bytes = page.rows.iter().map(|(_, value)| value.len()).sum();
        self.scanned_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(page)
    }

    fn version(&self) -> Version {
        self.inner.version()
    }
}

#[tokio::test]
async fn rule_41_a_store_that_clears_ranges_deletes_a_large_run_like_a_small_one() {
    let store = CountingStore::open(true).await;
    let mut costs = Vec::new();
    for (id, blocks) in [("small", 1), ("large", 10_000)] {
        let number = create(&store.inner, id, 1_000).await;
        for first in (0..blocks).step_by(1_000) {
            let mut batch = Batch::default();
            for block in first..blocks.min(first + 1_000) {
                batch.set(keys::block(P, number, block), vec![7; 100]);
            }
            store.inner.commit(batch).await.unwrap();
        }
        delete(&store.inner, id).await;
        let before = [&store.commits, &*store.rows].map(|count| count.load(Ordering::Relaxed));
        while !sweep_step(&store, P, number).await.unwrap() {}
        let after = [&store.commits, &*store.rows].map(|count| count.load(Ordering::Relaxed));
        costs.push([after[0] - before[0], after[1] - before[1]]);
        let snapshot = store.inner.snapshot().await.unwrap();
        let left = snapshot.scan(&keys::run_rows(P, number), Scan::default()).await.unwrap();
        assert!(left.rows.is_empty(), "{id}");
    }
    assert_eq!(costs[0], costs[1], "commits and rows");
    assert!(costs[0][0] <= 3 && costs[0][1] <= 20, "{costs:?}");
}

#[tokio::test]
async fn rule_41_a_deletion_reads_no_values() {
    const BLOCKS: u64 = 1_000;
    let store = CountingStore::open(false).await;
    let blocks = async |project: Project, number: RunNumber| {
        let mut batch = Batch::default();
        for block in 0..BLOCKS {
            batch.set(keys::block(project, number, block), vec![7; 1_000]);
        }
        store.inner.commit(batch).await.unwrap();
    };
    let number = create(&store.inner, "r", 1_000).await;
    blocks(P, number).await;
    blocks(Project(1), RunNumber(1)).await;
    delete(&store.inner, "r").await;
    while !sweep_step(&store, P, number).await.unwrap() {}
    while !project_clear(&store, Project(1)).await.unwrap() {}
    let snapshot = store.inner.snapshot().await.unwrap();
    for range in [keys::run_rows(P, number), keys::project_rows(Project(1))] {
        assert!(snapshot.scan(&range, Scan::default()).await.unwrap().rows.is_empty());
    }
    let read = store.scanned_bytes.load(Ordering::Relaxed);
    assert!(read < 10_000, "{read} bytes of values");
}
