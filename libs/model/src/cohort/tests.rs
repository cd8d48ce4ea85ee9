//! Tests of the steps of a cohort that the tests of its job do not reach.

use std::collections::BTreeMap;

use matyan_store::{Commit, Store as _};

use super::*;
use crate::{
    ids::SeriesNumber,
    keys::{ListGeneration, SeriesKind},
    metric::metric_series_create,
    position::LogPosition,
    run::{Deletion, Head, run_create, run_delete, sweep_step},
    series::{ABSENT, LiveRow, MetricHeader, Point, RunRef, WrittenPoints, fold_run},
    testing::TestStore,
    uncollected::UncollectedReader,
};

const P: Project = Project(0);
const DIGEST: [u8; 16] = [3; 16];

/// A run with a value of each of these metrics.
async fn create(store: &TestStore, id: &str, metrics: &[(&str, f64)]) -> RunNumber {
    let id = crate::ids::RunId::new(id);
    let number = store
        .run(async |transaction| {
            let mut edit = run_create(transaction, P, &id, 1_000).await?;
            edit.props.active = false;
            let number = edit.number();
            edit.write(transaction.batch());
            let mut written = WrittenPoints::default();
            for (at, (name, value)) in (0..).zip(metrics) {
                let header =
                    MetricHeader { name: (*name).into(), context: String::new(), dtype: "float".into() };
                metric_series_create(transaction.batch(), P, number, SeriesNumber(at), &header, &DIGEST);
                written.push(SeriesNumber(at), Point { step: 1, value: *value, epoch: ABSENT, time_us: 1 });
            }
            for block in written.blocks() {
                transaction.batch().set(keys::block(P, number, 0), block);
            }
            Ok::<_, matyan_store::Error>(number)
        })
        .await
        .unwrap();
    let live = LiveRow { key: keys::head(P, &id), value: Head::Live(number).encode() };
    fold_run(&**store, RunRef { project: P, number }, &live, true, &|| 0).await.unwrap();
    number
}

async fn values_of(store: &TestStore, name: &str) -> BTreeMap<RunNumber, f64> {
    let snapshot = store.snapshot().await.unwrap();
    let range = keys::cohorts(CohortKind::Metrics, P);
    let metric = (name, &DIGEST);
    let page = collected_values_page(&*snapshot, P, &range, metric, MetricStatistic::Last, PAGE_COHORTS);
    page.await.unwrap().values.into_iter().collect()
}

/// Makes cohorts whose values take about `max_bytes`. Returns the runs that cannot be read.
async fn make(store: &TestStore, numbers: &[RunNumber], max_bytes: usize) -> Vec<RunNumber> {
    let mut damaged = Vec::new();
    let mut left = numbers.to_vec();
    while !left.is_empty() {
        left = make_one(store, &left, max_bytes, &mut damaged).await;
    }
    damaged
}

/// Makes a cohort, and returns the runs that it does not take.
async fn make_one(
    store: &TestStore,
    numbers: &[RunNumber],
    max_bytes: usize,
    damaged: &mut Vec<RunNumber>,
) -> Vec<RunNumber> {
    let cohort =
        cohort_number_next(&*store.snapshot().await.unwrap(), CohortKind::Metrics, P, 5).await.unwrap();
    let begun = store
        .run(async |transaction| cohort_begin(transaction, CohortKind::Metrics, P, cohort, numbers).await)
        .await;
    let begun = begun.unwrap();
    let mut values = CohortValues::new(P, cohort, &begun).with_max_bytes(max_bytes);
    let write = async |values: &mut CohortValues<'_>| {
        let mut batch = Batch::default();
        assert!(values.write(&mut batch));
        store.commit(batch).await.unwrap();
    };
    while values.read(&*store.snapshot().await.unwrap()).await.unwrap() {
        if values.is_full() {
            write(&mut values).await;
        }
    }
    write(&mut values).await;
    damaged.extend(values.damaged());
    let (taken, left) = begun.split_at(values.runs());
    let admitted: Vec<_> = taken.iter().copied().filter(|number| !damaged.contains(number)).collect();
    store
        .run(async |transaction| {
            cohort_shorten(transaction, CohortKind::Metrics, P, cohort, taken.len()).await
        })
        .await
        .unwrap();
    store
        .run(async |transaction| cohort_admit(transaction, CohortKind::Metrics, P, cohort, &admitted).await)
        .await
        .unwrap();
    left.to_vec()
}

/// The row of a run in the list of uncollected runs, if it is listed.
async fn list_row(store: &TestStore, number: RunNumber) -> Option<Value> {
    let key = keys::uncollected(CohortKind::Metrics, P, ListGeneration::FIRST, number);
    store.snapshot().await.unwrap().get(&key).await.unwrap()
}

async fn made_cohorts(store: &TestStore) -> Vec<CohortMembers> {
    let snapshot = store.snapshot().await.unwrap();
    let range = keys::cohorts(CohortKind::Metrics, P);
    cohorts_page(&*snapshot, CohortKind::Metrics, P, &range).await.unwrap().0
}

async fn runs_due(store: &TestStore) -> Vec<RunNumber> {
    let mut list = UncollectedReader::new(CohortKind::Metrics, P);
    let due = cohort_runs_due(&*store.snapshot().await.unwrap(), P, &mut list).await.unwrap();
    due.unwrap_or_default()
}

#[tokio::test]
async fn runs_whose_values_do_not_fit_are_in_another_cohort() {
    for (max_bytes, cohorts) in [(1, [1, 1, 1].as_slice()), (400, &[2, 1]), (1 << 20, &[3])] {
        let store = TestStore::open().await;
        let a = create(&store, "a", &[("loss", 1.0), ("acc", 0.5)]).await;
        let b = create(&store, "b", &[("acc", 0.25), ("rare", f64::NAN)]).await;
        let c = create(&store, "c", &[("loss", 3.0)]).await;
        let due = runs_due(&store).await;
        assert_eq!(due, [a, b, c]);
        assert_eq!(make(&store, &due, max_bytes).await, []);
        let made = made_cohorts(&store).await;
        assert!(made.iter().all(|cohort| cohort.members.len() == cohort.runs));
        assert_eq!(made.iter().map(|cohort| cohort.runs).collect::<Vec<_>>(), cohorts);
        assert_eq!(values_of(&store, "loss").await, [(a, 1.0), (c, 3.0)].into());
        assert_eq!(values_of(&store, "acc").await, [(a, 0.5), (b, 0.25)].into());
        assert!(values_of(&store, "rare").await[&b].is_nan());
        assert_eq!(values_of(&store, "other").await, [].into());
        let due = runs_due(&store).await;
        assert_eq!(due, []);
    }
}

#[tokio::test]
async fn a_damaged_run_stays_uncollected_and_a_damaged_cohort_is_an_error() {
    let store = TestStore::open().await;
    let a = create(&store, "a", &[("loss", 1.0)]).await;
    let b = create(&store, "b", &[("loss", 2.0)]).await;
    let mut batch = Batch::default();
    batch.set(keys::series_by_name(P, a, SeriesKind::Metric, "loss", &DIGEST), vec![0xff]);
    store.commit(batch).await.unwrap();
    assert_eq!(make(&store, &[a, b], 1 << 20).await, [a]);
    assert_eq!(values_of(&store, "loss").await, [(b, 2.0)].into());
    assert!(list_row(&store, a).await.is_some());
    let column = keys::cohort_column(P, made_cohorts(&store).await[0].cohort, "loss", &DIGEST);
    let column_of_three = CohortColumn::new(3);
    for damage in [vec![9], Vec::new(), column_of_three.encode().to_vec()] {
        let mut batch = Batch::default();
        batch.set(column.clone(), damage.clone());
        store.commit(batch).await.unwrap();
        let snapshot = store.snapshot().await.unwrap();
        let metric = ("loss", &DIGEST);
        let range = keys::cohorts(CohortKind::Metrics, P);
        let read = collected_values_page(&*snapshot, P, &range, metric, MetricStatistic::Max, 9).await;
        // A column without values names no run.
        assert_eq!(read.is_err(), damage.len() < 2, "{damage:?}");
    }
}

#[tokio::test]
async fn a_run_whose_cohort_is_unknown_stays_uncollected_and_does_not_stop_the_others() {
    let store = TestStore::open().await;
    let a = create(&store, "a", &[("loss", 1.0)]).await;
    let b = create(&store, "b", &[("loss", 2.0)]).await;
    let mut batch = Batch::default();
    batch.set(keys::run_cohort(CohortKind::Metrics, P, a), vec![0xff]);
    store.commit(batch).await.unwrap();
    assert_eq!(make(&store, &[a, b], 1 << 20).await, []);
    assert_eq!(values_of(&store, "loss").await, [(b, 2.0)].into());
    assert!(list_row(&store, a).await.is_some());
    assert!(list_row(&store, b).await.is_none());
}

#[tokio::test]
async fn cohorts_are_made_again_after_all_are_cleared() {
    let store = TestStore::open().await;
    let a = create(&store, "a", &[("loss", 1.0)]).await;
    let b = create(&store, "b", &[("loss", 2.0)]).await;
    assert_eq!(make(&store, &[a], 1 << 20).await, []);
    let mut batch = Batch::default();
    let cohort = made_cohorts(&store).await[0].cohort;
    batch.set(keys::cohort(CohortKind::Metrics, P, cohort), vec![0xff]);
    batch.clear(keys::uncollected(CohortKind::Metrics, P, ListGeneration::FIRST, b));
    store.commit(batch).await.unwrap();
    let documents = keys::documents(P);
    let list = async |transaction: &mut Transaction| {
        runs_uncollect(transaction, CohortKind::Metrics, P, &documents).await
    };
    assert_eq!(store.run(list).await.unwrap(), (vec![a], None), "the other one has been in no cohort");
    assert!(store.run(async |transaction| cohorts_clear(transaction, P).await).await.unwrap());
    assert_eq!(values_of(&store, "loss").await, [].into());
    let due = runs_due(&store).await;
    assert_eq!(due, [a, b]);
    assert_eq!(make(&store, &due, 1 << 20).await, []);
    assert_eq!(values_of(&store, "loss").await, [(a, 1.0), (b, 2.0)].into());
}

/// Changes of runs do not keep a cohort from being made, and a deletion is noticed.
#[tokio::test]
async fn a_cohort_begins_while_its_runs_change() {
    let store = TestStore::open().await;
    let a = create(&store, "a", &[("loss", 1.0)]).await;
    assert_eq!(make(&store, &[a], 1 << 20).await, []);
    for is_deleted in [false, true] {
        let mut transaction = Transaction::new(store.snapshot().await.unwrap());
        let kind = CohortKind::Metrics;
        let cohort = cohort_number_next(transaction.unchecked(), kind, P, 9).await.unwrap();
        assert_eq!(cohort_begin(&mut transaction, kind, P, cohort, &[a]).await.unwrap(), [a]);
        let mut batch = Batch::default();
        uncollected_put(&*store.snapshot().await.unwrap(), &mut batch, P, a).await.unwrap();
        if is_deleted {
            batch.set(keys::dead_run(P, a), Vec::new());
        }
        store.commit(batch).await.unwrap();
        let outcome = store.commit(transaction.into_batch()).await.unwrap();
        assert_eq!(matches!(outcome, Commit::Done { .. }), !is_deleted);
        assert_eq!(list_row(&store, a).await == Some(token(cohort)), !is_deleted);
    }
}

/// Otherwise the run would stay in the list forever.
#[tokio::test]
async fn a_cohort_does_not_begin_with_a_run_that_is_deleted_and_swept_meanwhile() {
    let store = TestStore::open().await;
    let a = create(&store, "a", &[("loss", 1.0)]).await;
    let mut transaction = Transaction::new(store.snapshot().await.unwrap());
    let begun = cohort_begin(&mut transaction, CohortKind::Metrics, P, CohortNumber(9), &[a]).await;
    assert_eq!(begun.unwrap(), [a]);
    let id = crate::ids::RunId::new("a");
    let at = LogPosition::default();
    let deletion = Deletion { at, time_us: 5, now_us: 5, caller: "", project_name: "" };
    store
        .run(async |transaction| run_delete(transaction, P, &id, Some(&Head::Live(a)), deletion).await)
        .await
        .unwrap();
    while !sweep_step(&*store, P, a).await.unwrap() {}
    assert!(matches!(store.commit(transaction.into_batch()).await.unwrap(), Commit::Conflict));
    assert!(list_row(&store, a).await.is_none());
}

#[tokio::test]
async fn runs_that_go_on_changing_do_not_delay_others() {
    let kind = CohortKind::Params;
    let [a, b] = [RunNumber(1), RunNumber(2)];
    for (changed, is_admitted) in [(a, true), (b, false)] {
        let store = TestStore::open().await;
        let change = async |number: RunNumber, value: u8| {
            let list = UncollectedList::read(&*store.snapshot().await.unwrap(), kind, P).await.unwrap();
            let mut batch = Batch::default();
            list.put(&mut batch, number, vec![value]);
            store.commit(batch).await.unwrap();
        };
        change(a, 1).await;
        change(b, 1).await;
        let cohort = CohortNumber(9);
        let begin =
            async |transaction: &mut Transaction| cohort_begin(transaction, kind, P, cohort, &[a, b]).await;
        assert_eq!(store.run(begin).await.unwrap(), [a, b]);
        change(a, 2).await;
        let mut transaction = Transaction::new(store.snapshot().await.unwrap());
        assert_eq!(cohort_admit(&mut transaction, kind, P, cohort, &[a, b]).await.unwrap(), 1);
        change(changed, 3).await;
        let outcome = store.commit(transaction.into_batch()).await.unwrap();
        assert_eq!(matches!(outcome, Commit::Done { .. }), is_admitted);
    }
}

/// A run that cannot be read leaves its cohort, so that the cohort is cleared once it has no others.
#[tokio::test]
async fn a_damaged_run_is_only_in_the_list() {
    let store = TestStore::open().await;
    let kind = CohortKind::Metrics;
    let a = create(&store, "a", &[("loss", 1.0)]).await;
    let b = create(&store, "b", &[("loss", 2.0)]).await;
    assert_eq!(make(&store, &[a, b], 1 << 20).await, []);
    for is_changed in [true, false] {
        let cohort = cohort_number_next(&*store.snapshot().await.unwrap(), kind, P, 9).await.unwrap();
        store.run(async |transaction| cohort_begin(transaction, kind, P, cohort, &[a]).await).await.unwrap();
        if is_changed {
            let mut batch = Batch::default();
            uncollected_put(&*store.snapshot().await.unwrap(), &mut batch, P, a).await.unwrap();
            store.commit(batch).await.unwrap();
        }
        let expel =
            async |transaction: &mut Transaction| cohort_expel(transaction, kind, P, cohort, &[a]).await;
        store.run(expel).await.unwrap();
        assert!(list_row(&store, a).await.is_some());
        let snapshot = store.snapshot().await.unwrap();
        let in_cohort = snapshot.get(&keys::run_cohort(kind, P, a)).await.unwrap();
        assert_eq!(in_cohort.is_some(), is_changed, "the token is replaced by a change");
        assert_eq!(made_cohorts(&store).await[0].members, if is_changed { vec![a, b] } else { vec![b] });
    }
    // Once it can be read again, a cohort takes it.
    assert_eq!(make(&store, &[a], 1 << 20).await, []);
    assert_eq!(values_of(&store, "loss").await, [(a, 1.0), (b, 2.0)].into());
}
