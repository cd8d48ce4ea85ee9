use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use matyan_model::{
    cohort::CohortKind,
    ids::CohortNumber,
    index::Scalar,
    params::{IndexedParam, encode_columns},
    run::run_create,
};
use matyan_store::{Batch, Commit, Key, Page, Scan, Store, Transaction, Version, embedded::EmbeddedStore};
use matyan_value::Value;

use super::*;
use crate::{
    query::plan::{
        RenewedSnapshot,
        ascending::{intersection, union},
        index_reader::IndexReader,
        param_counter::{COLUMNS_IN_ALL, COUNTED_COLUMNS},
    },
    server::evaluation::Evaluation,
};

#[test]
fn sorted_lists_are_merged() {
    let runs = |numbers: &[u64]| numbers.iter().map(|number| RunNumber(*number)).collect::<Vec<_>>();
    for (a, b, both, either) in [
        (&[1, 2, 3][..], &[2, 3, 4][..], &[2, 3][..], &[1, 2, 3, 4][..]),
        (&[], &[1], &[], &[1]),
        (&[5], &[1, 2, 5, 9], &[5], &[1, 2, 5, 9]),
        (&[1, 9], &[2, 3], &[], &[1, 2, 3, 9]),
    ] {
        assert_eq!(intersection(&runs(a), &runs(b)), runs(both));
        assert_eq!(intersection(&runs(b), &runs(a)), runs(both));
        assert_eq!(union(&runs(a), &runs(b)), runs(either));
    }
}

#[test]
fn counts_are_found_by_the_probes_of_a_plan() {
    let options = matyan_ql::QueryOptions { endpoint: matyan_ql::Endpoint::Run, offset_minutes: 0, now: 0.0 };
    let text: Vec<String> = (0..100).map(|tag| format!("'{tag}' in run.tags and run.x > {tag}")).collect();
    let plan = matyan_ql::compile(&text.join(" or "), options).unwrap().plan();
    let probes = plan.probes();
    let counter = |(rows, probe)| ProbeCounter { rows, ..ProbeCounter::new(probe, None) };
    let counts = (0..).map(|count: u64| count.checked_sub(3));
    let counters: Vec<_> = counts.clone().zip(probes.iter().copied()).map(counter).collect();
    let estimates = estimates(Some(7), &ListedRuns::default(), &counters);
    assert!(probes.len() > 200);
    for (count, probe) in counts.zip(probes) {
        assert_eq!(estimates.count(probe), count);
    }
}

/// The share of the runs that the first probe of a kind is estimated to find.
fn share(counts: &ProbeCounts<'_>, plan: &Plan, wanted: fn(&Probe) -> bool) -> f64 {
    let probe = plan.probes().into_iter().find(|probe| wanted(probe)).unwrap();
    counts.count(probe).unwrap() as f64 / counts.runs() as f64
}

/// A project of 480,000 runs. The documents of few of them exist, which suffices for a sample: of these, every
/// fourth is archived, every sixteenth has the name `x` and the param `x`, and every second has lost its params.
/// The indexes have a part of the rows of all.
#[tokio::test]
async fn rule_90_planning_costs_the_same_for_any_number_of_runs() {
    const PROJECT: Project = Project(1);
    const RUNS: u64 = 480_000;
    const DOCUMENTS: u64 = 512;
    /// A run number is the time of creation: runs of two years, most of which were created within one hour.
    const FIRST_US: u64 = 1_700_000_000_000_000;
    let directory = tempfile::TempDir::new().unwrap();
    let store = EmbeddedStore::open(directory.path(), Default::default()).await.unwrap();
    for number in 0..DOCUMENTS {
        let mut transaction = Transaction::new(store.snapshot().await.unwrap());
        let id = RunId::new(format!("{:016x}", scattered(number)));
        let created_us = (FIRST_US + number).cast_signed();
        let mut run = run_create(&mut transaction, PROJECT, &id, created_us).await.unwrap();
        run.props.archived = number.is_multiple_of(4);
        run.props.name = if number % 16 == 1 { "x" } else { "y" }.to_owned();
        let has_lost_params = number.is_multiple_of(2);
        let params = run.params(transaction.unchecked()).await.unwrap();
        if has_lost_params {
            params.insert("large".to_owned(), Value::Text("x".repeat(20_000)));
        } else if number % 16 == 1 {
            params.insert("x".to_owned(), Value::Integer(1));
        }
        let number = run.number();
        run.write(transaction.batch());
        store.commit(transaction.into_batch()).await.unwrap();
        if has_lost_params {
            let mut batch = Batch::default();
            batch.clear_range(keys::params(PROJECT, number));
            store.commit(batch).await.unwrap();
        }
    }
    for first in (0..30_000).step_by(10_000) {
        let mut batch = Batch::default();
        for number in first..first + 10_000 {
            let number = RunNumber(FIRST_US + 60_000_000_000_000 + number);
            batch.set(keys::index_archived(PROJECT, true, number), vec![]);
            batch.set(keys::index_name(PROJECT, "x", number), vec![]);
            let one = Scalar::Number(1.0).key();
            batch.set(keys::index_param(PROJECT, &["x".into()], &one, number), vec![]);
        }
        store.commit(batch).await.unwrap();
    }
    let mut batch = Batch::default();
    batch.add(keys::project_counter(PROJECT, Counter::Runs), (RUNS - DOCUMENTS).cast_signed());
    store.commit(batch).await.unwrap();

    let options = matyan_ql::QueryOptions { endpoint: matyan_ql::Endpoint::Run, offset_minutes: 0, now: 0.0 };
    let plan = matyan_ql::compile("run.name == 'x'", options).unwrap().plan();
    let snapshot = CountedSnapshot { inner: store.snapshot().await.unwrap(), rows: AtomicUsize::new(0) };
    let samples = RunSamples::default();
    let counts = count_probes(&snapshot, PROJECT, &plan, &samples).await.unwrap();
    let archived = share(&counts, &plan, |probe| matches!(probe, Probe::Archived(false)));
    assert!((0.6..0.9).contains(&archived), "{archived}: params were read, and runs without them left out");
    let named = share(&counts, &plan, |probe| matches!(probe, Probe::Name(_)));
    assert!((0.02..0.15).contains(&named), "{named}");
    assert!(plan.choose(&counts).access != AccessPath::Scan);
    let rows = snapshot.rows.into_inner();
    assert!(rows <= 2 * COUNTED[1] as usize + 500, "{rows} rows");
    let snapshot = CountedSnapshot { inner: store.snapshot().await.unwrap(), rows: AtomicUsize::new(0) };
    let again = count_probes(&snapshot, PROJECT, &plan, &samples).await.unwrap();
    let named_again = share(&again, &plan, |probe| matches!(probe, Probe::Name(_)));
    assert!((named_again - named).abs() < f64::EPSILON, "{named_again}, and {named} before");
    let rows_again = snapshot.rows.into_inner();
    assert!(rows_again < rows, "{rows_again} rows, and {rows} before");

    let plan = matyan_ql::compile("run.x == 1", options).unwrap().plan();
    let snapshot = store.snapshot().await.unwrap();
    let counts = count_probes(snapshot.as_ref(), PROJECT, &plan, &samples).await.unwrap();
    let with_param = share(&counts, &plan, |probe| matches!(probe, Probe::Param { .. }));
    assert!((0.05..0.3).contains(&with_param), "{with_param} of the runs that have their params");
}

/// As random as the ids of runs.
fn scattered(number: u64) -> u64 {
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 27)
}

/// Counts the rows that are read.
struct CountedSnapshot {
    inner: Box<dyn Snapshot>,
    rows: AtomicUsize,
}

#[async_trait]
impl Snapshot for CountedSnapshot {
    async fn get(&self, key: &Key) -> matyan_store::Result<Option<matyan_store::Value>> {
        self.rows.fetch_add(1, Ordering::Relaxed);
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> matyan_store::Result<Vec<Option<matyan_store::Value>>> {
        self.rows.fetch_add(keys.len(), Ordering::Relaxed);
        self.inner.get_many(keys).await
    }

    async fn scan(&self, range: &Range, scan: Scan) -> matyan_store::Result<Page> {
        let page = self.inner.scan(range, scan).await?;
        self.rows.fetch_add(page.rows.len(), Ordering::Relaxed);
        Ok(page)
    }

    fn version(&self) -> Version {
        self.inner.version()
    }
}

#[test]
fn times_become_microseconds_that_compare_the_same() {
    let interval = |low, high| Interval { low, high };
    let second = 1_700_000_000.0;
    for (times, expected) in [
        (interval(Bound::Included(second), Bound::Unbounded), (1_700_000_000_000_000, i64::MAX)),
        (interval(Bound::Excluded(second), Bound::Unbounded), (1_700_000_000_000_001, i64::MAX)),
        (interval(Bound::Unbounded, Bound::Excluded(0.0)), (i64::MIN, 0)),
        (interval(Bound::Unbounded, Bound::Included(0.0)), (i64::MIN, 1)),
        (interval(Bound::Included(f64::INFINITY), Bound::Unbounded), (i64::MAX, i64::MAX)),
        (interval(Bound::Included(0.000_000_5), Bound::Included(0.000_002_5)), (1, 3)),
    ] {
        assert_eq!(microseconds(&times), expected, "{times:?}");
    }
}

async fn reader(store: Arc<dyn Store>, evaluation: &Evaluation) -> IndexReader<'_> {
    let snapshot = RenewedSnapshot::open(store).await.unwrap();
    IndexReader {
        evaluation,
        project: Project(1),
        snapshot,
        rows_left: 1_000_000,
        most_unknown: FEW_UNKNOWN,
        proposes: false,
        listed: None,
        unknown: Vec::new(),
    }
}

/// The runs with a param. Few of these runs are archived. The index lacks the rows of the runs that are not archived.
#[tokio::test]
async fn the_default_filter_is_read_by_the_runs_that_it_leaves_out() {
    const PROJECT: Project = Project(1);
    let directory = tempfile::TempDir::new().unwrap();
    let store = EmbeddedStore::open(directory.path(), Default::default()).await.unwrap();
    let one = Scalar::Number(1.0).key();
    let mut batch = Batch::default();
    for number in (0..100).map(RunNumber) {
        batch.set(keys::index_param(PROJECT, &["x".into()], &one, number), vec![]);
    }
    for number in [3, 7, 500].map(RunNumber) {
        batch.set(keys::index_archived(PROJECT, true, number), vec![]);
    }
    store.commit(batch).await.unwrap();
    let store = Arc::new(store);
    let evaluation = Evaluation::start(1).unwrap();
    let options = matyan_ql::QueryOptions { endpoint: matyan_ql::Endpoint::Run, offset_minutes: 0, now: 0.0 };
    let plan = matyan_ql::compile("run.x == 1", options).unwrap().plan();
    let found = reader(store.clone(), &evaluation).await.matches(&plan.runs).await.unwrap().unwrap();
    assert_eq!(found.len(), 98);
    assert!(!found.contains(&RunNumber(3)) && !found.contains(&RunNumber(7)));

    // If more runs are archived than not, only the rows of the latter are read.
    let mut batch = Batch::default();
    for number in (1_000..12_000).map(RunNumber) {
        batch.set(keys::index_archived(PROJECT, true, number), vec![]);
    }
    for number in (0..50).map(RunNumber) {
        batch.set(keys::index_archived(PROJECT, false, number), vec![]);
    }
    store.commit(batch).await.unwrap();
    let found = reader(store, &evaluation).await.matches(&plan.runs).await.unwrap().unwrap();
    assert_eq!(found.len(), 50);
}

/// Nearly all of a million runs are not archived, and no row of such a run is read.
#[tokio::test]
async fn rule_90_the_default_filter_is_planned_by_the_runs_that_it_leaves_out() {
    const PROJECT: Project = Project(1);
    let directory = tempfile::TempDir::new().unwrap();
    let store = EmbeddedStore::open(directory.path(), Default::default()).await.unwrap();
    let mut batch = Batch::default();
    batch.add(keys::project_counter(PROJECT, Counter::Runs), 1_000_000);
    for number in 0..20_000 {
        let is_archived = number < 10;
        batch.set(keys::index_archived(PROJECT, is_archived, RunNumber(number)), vec![]);
    }
    store.commit(batch).await.unwrap();
    let options = matyan_ql::QueryOptions { endpoint: matyan_ql::Endpoint::Run, offset_minutes: 0, now: 0.0 };
    let plan = matyan_ql::compile("", options).unwrap().plan();
    let snapshot = CountedSnapshot { inner: store.snapshot().await.unwrap(), rows: AtomicUsize::new(0) };
    let counts = count_probes(&snapshot, PROJECT, &plan, &RunSamples::default()).await.unwrap();
    assert_eq!(counts.count(&Probe::Archived(false)), None, "a count is found by the probe of the plan");
    assert_eq!(counts.count(plan.probes()[0]), Some(999_990));
    let rows = snapshot.rows.into_inner();
    assert!(rows < 20, "{rows} rows");
}

/// A param of a million runs, in columns of a thousand cohorts.
#[tokio::test]
async fn rule_90_few_columns_of_a_param_are_counted() {
    const PROJECT: Project = Project(1);
    let directory = tempfile::TempDir::new().unwrap();
    let store = EmbeddedStore::open(directory.path(), Default::default()).await.unwrap();
    let mut batch = Batch::default();
    batch.add(keys::project_counter(PROJECT, Counter::Runs), 1_000_000);
    let name = |param: usize| if param == 0 { "x".to_owned() } else { format!("x{param}") };
    let values: Vec<_> = (0..1_000).map(|at| (at, IndexedParam::Integer(at as i64 % 500))).collect();
    store.commit(batch).await.unwrap();
    let column = &encode_columns(1_000, &values)[0];
    for param in 0..12 {
        let mut batch = Batch::default();
        for cohort in (0..1_000).map(CohortNumber) {
            batch.set(keys::param_column(PROJECT, &[name(param).into()], cohort, 0), column.clone());
        }
        store.commit(batch).await.unwrap();
    }
    let options = matyan_ql::QueryOptions { endpoint: matyan_ql::Endpoint::Run, offset_minutes: 0, now: 0.0 };
    let list: Vec<String> = (0..100).map(|value| value.to_string()).collect();
    let list = format!("run.x in [{}]", list.join(", "));
    let params: Vec<String> = (0..12).map(|param| format!("run.{} > {}", name(param), 500 + param)).collect();
    let params = params.join(" or ");
    for (text, most, has_many) in [
        ("run.x == 7", COUNTED_COLUMNS, true),
        ("run.x > 500", COUNTED_COLUMNS, true),
        ("run.x >= 0", COUNTED_COLUMNS, false),
        (list.as_str(), COUNTED_COLUMNS, true),
        (params.as_str(), COLUMNS_IN_ALL, true),
    ] {
        let plan = matyan_ql::compile(text, options).unwrap().plan();
        let snapshot = CountedSnapshot { inner: store.snapshot().await.unwrap(), rows: AtomicUsize::new(0) };
        let counts = count_probes(&snapshot, PROJECT, &plan, &RunSamples::default()).await.unwrap();
        let rows = snapshot.rows.into_inner();
        assert!(rows <= most + 200, "{text}: {rows} rows");
        assert_eq!(rows >= COUNTED_COLUMNS, has_many, "{text}: {rows} rows");
        let param = plan.probes().into_iter().find(|probe| matches!(probe, Probe::Param { .. })).unwrap();
        // There are no documents to be sampled.
        assert_eq!(counts.count(param), Some(1_000_000), "{text}");
    }
}

/// The runs that wait for a column are candidates, and a plan with many of them is a scan.
#[tokio::test]
async fn params_have_no_index_while_most_runs_are_only_in_documents() {
    const PROJECT: Project = Project(1);
    for (listed, is_indexed) in [(10, true), (FEW_UNKNOWN, true), (FEW_UNKNOWN + 1, false)] {
        let directory = tempfile::TempDir::new().unwrap();
        let store = EmbeddedStore::open(directory.path(), Default::default()).await.unwrap();
        let mut batch = Batch::default();
        batch.add(keys::project_counter(PROJECT, Counter::Runs), 12_000);
        for number in (0..listed).map(RunNumber) {
            batch.set(
                keys::uncollected(CohortKind::Params, PROJECT, keys::ListGeneration::FIRST, number),
                vec![],
            );
        }
        store.commit(batch).await.unwrap();
        let options =
            matyan_ql::QueryOptions { endpoint: matyan_ql::Endpoint::Run, offset_minutes: 0, now: 0.0 };
        let plan = matyan_ql::compile("run.x == 1 or run.y in ['a', 'b', 'c']", options).unwrap().plan();
        let store: Arc<dyn Store> = Arc::new(store);
        let snapshot = RenewedSnapshot::open(store.clone()).await.unwrap();
        let counts = count_probes(&snapshot, PROJECT, &plan, &RunSamples::default()).await.unwrap();
        assert_eq!(plan.choose(&counts).access != AccessPath::Scan, is_indexed, "{listed}");
        let evaluation = Evaluation::start(1).unwrap();
        let matches = reader(store.clone(), &evaluation).await.matches(&plan.runs).await.unwrap();
        assert_eq!(matches, is_indexed.then(Vec::new), "{listed}");
        let mut reader = IndexReader { proposes: true, ..reader(store, &evaluation).await };
        let proposed = reader.matches(&plan.runs).await.unwrap().unwrap();
        assert_eq!(proposed.len() as u64, listed);
    }
}

/// The documents of all listed runs would be read for a param, which few of the others have, so the name is looked up.
#[tokio::test]
async fn a_name_is_looked_up_instead_of_a_param_that_many_listed_runs_may_have() {
    const PROJECT: Project = Project(1);
    let options = matyan_ql::QueryOptions { endpoint: matyan_ql::Endpoint::Run, offset_minutes: 0, now: 0.0 };
    let plan = matyan_ql::compile("run.lr == 1 and run.name == 'x'", options).unwrap().plan();
    for (listed, is_param, candidates) in [(0, true, 10), (20_000, false, 500)] {
        let directory = tempfile::TempDir::new().unwrap();
        let store = EmbeddedStore::open(directory.path(), Default::default()).await.unwrap();
        let mut batch = Batch::default();
        batch.add(keys::project_counter(PROJECT, Counter::Runs), 200_000);
        for number in (0..listed).map(|number| RunNumber(1_000_000 + number)) {
            batch.set(
                keys::uncollected(CohortKind::Params, PROJECT, keys::ListGeneration::FIRST, number),
                vec![],
            );
        }
        for number in (0..500).map(RunNumber) {
            batch.set(keys::index_name(PROJECT, "x", number), vec![]);
        }
        let one = Scalar::Number(1.0).key();
        for number in (0..10).map(RunNumber) {
            batch.set(keys::index_param(PROJECT, &["lr".into()], &one, number), vec![]);
        }
        store.commit(batch).await.unwrap();
        let snapshot = store.snapshot().await.unwrap();
        let counts = count_probes(&*snapshot, PROJECT, &plan, &RunSamples::default()).await.unwrap();
        let choice = plan.choose(&counts);
        let is_of_param = matches!(choice.access, AccessPath::Probe(Probe::Param { .. }));
        assert_eq!((is_of_param, choice.estimate), (is_param, candidates), "{:?}", choice.access);
    }
}

/// Listed runs may have any param. Other indexes tell which of them can match.
#[tokio::test]
async fn listed_runs_are_intersected_with_other_indexes() {
    const PROJECT: Project = Project(1);
    let directory = tempfile::TempDir::new().unwrap();
    let store = EmbeddedStore::open(directory.path(), Default::default()).await.unwrap();
    let mut batch = Batch::default();
    let one = Scalar::Number(1.0).key();
    for number in (0..10).map(RunNumber) {
        batch.set(keys::index_param(PROJECT, &["lr".into()], &one, number), vec![0]);
        batch.set(keys::index_param(PROJECT, &["x".into()], &one, RunNumber(number.0 + 5)), vec![0]);
    }
    for number in (100..130).map(RunNumber) {
        batch
            .set(keys::uncollected(CohortKind::Params, PROJECT, keys::ListGeneration::FIRST, number), vec![]);
    }
    // A listed run with an index row: the row is stale.
    batch.set(
        keys::uncollected(CohortKind::Params, PROJECT, keys::ListGeneration::FIRST, RunNumber(3)),
        vec![],
    );
    for number in (2..6).chain(120..140).map(RunNumber) {
        batch.set(keys::index_name(PROJECT, "x", number), vec![]);
    }
    store.commit(batch).await.unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let evaluation = Evaluation::start(1).unwrap();
    let options = matyan_ql::QueryOptions { endpoint: matyan_ql::Endpoint::Run, offset_minutes: 0, now: 0.0 };
    for (text, found, proposed) in [
        (
            "run.lr == 1 and run.name == 'x'",
            vec![2, 4, 5],
            [vec![2_u64, 3, 4, 5], (120..130).collect()].concat(),
        ),
        (
            "run.lr == 1 and run.x == 1",
            (5..10).collect(),
            [vec![3_u64], (5..10).collect(), (100..130).collect()].concat(),
        ),
        (
            "(run.lr == 1 or run.x == 1) and run.name == 'x'",
            vec![2, 4, 5],
            [vec![2_u64, 3, 4, 5], (120..130).collect()].concat(),
        ),
    ] {
        let numbers = |numbers: Vec<u64>| numbers.into_iter().map(RunNumber).collect::<Vec<_>>();
        let plan = matyan_ql::compile(text, options).unwrap().plan();
        let mut exact = reader(store.clone(), &evaluation).await;
        assert_eq!(exact.matches(&plan.runs).await.unwrap().unwrap(), numbers(found), "{text}");
        let unknown: std::collections::BTreeSet<_> = exact.unknown.into_iter().collect();
        assert_eq!(unknown.len(), 31, "{text}");
        let mut proposing = IndexReader { proposes: true, ..reader(store.clone(), &evaluation).await };
        assert_eq!(proposing.matches(&plan.runs).await.unwrap().unwrap(), numbers(proposed), "{text}");
    }
}

/// A store whose snapshots are too old after some reads.
struct ShortLivedStore {
    store: EmbeddedStore,
    reads: usize,
}

struct ShortLivedSnapshot {
    inner: Box<dyn Snapshot>,
    left: AtomicUsize,
}

impl ShortLivedSnapshot {
    fn read(&self) -> matyan_store::Result<()> {
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| matyan_store::Error::SnapshotTooOld)
    }
}

#[async_trait]
impl Store for ShortLivedStore {
    async fn snapshot(&self) -> matyan_store::Result<Box<dyn Snapshot>> {
        let inner = self.store.snapshot().await?;
        Ok(Box::new(ShortLivedSnapshot { inner, left: AtomicUsize::new(self.reads) }))
    }

    async fn commit(&self, batch: Batch) -> matyan_store::Result<Commit> {
        self.store.commit(batch).await
    }

    async fn sync(&self) -> matyan_store::Result<()> {
        self.store.sync().await
    }

    async fn changed(&self, key: &Key, seen: Option<&matyan_store::Value>) -> matyan_store::Result<()> {
        self.store.changed(key, seen).await
    }

    fn clears_ranges_at_once(&self) -> bool {
        self.store.clears_ranges_at_once()
    }

    fn is_remote(&self) -> bool {
        self.store.is_remote()
    }
}

#[async_trait]
impl Snapshot for ShortLivedSnapshot {
    async fn get(&self, key: &Key) -> matyan_store::Result<Option<matyan_store::Value>> {
        self.read()?;
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> matyan_store::Result<Vec<Option<matyan_store::Value>>> {
        self.read()?;
        self.inner.get_many(keys).await
    }

    async fn scan(&self, range: &Range, scan: Scan) -> matyan_store::Result<Page> {
        self.read()?;
        self.inner.scan(range, scan).await
    }

    fn version(&self) -> Version {
        self.inner.version()
    }
}

#[tokio::test]
async fn rule_40_a_plan_does_without_a_damaged_counter_of_runs() {
    const PROJECT: Project = Project(1);
    let directory = tempfile::TempDir::new().unwrap();
    let store = EmbeddedStore::open(directory.path(), Default::default()).await.unwrap();
    let mut batch = Batch::default();
    batch.set(keys::project_counter(PROJECT, Counter::Runs), vec![9]);
    store.commit(batch).await.unwrap();
    let options = matyan_ql::QueryOptions { endpoint: matyan_ql::Endpoint::Run, offset_minutes: 0, now: 0.0 };
    let plan = matyan_ql::compile("run.x == 1", options).unwrap().plan();
    let snapshot = store.snapshot().await.unwrap();
    let counts = count_probes(&*snapshot, PROJECT, &plan, &RunSamples::default()).await.unwrap();
    assert_eq!((counts.known_runs(), counts.runs()), (None, ASSUMED_RUNS));
}

/// Every read needs its own snapshot, and the query has many probes.
#[tokio::test]
async fn rule_90_a_plan_outlives_its_snapshot() {
    const PROJECT: Project = Project(1);
    let directory = tempfile::TempDir::new().unwrap();
    let store = EmbeddedStore::open(directory.path(), Default::default()).await.unwrap();
    let one = Scalar::Number(1.0).key();
    let mut batch = Batch::default();
    batch.add(keys::project_counter(PROJECT, Counter::Runs), 60_000);
    for number in (0..25_000).map(RunNumber) {
        batch.set(keys::index_param(PROJECT, &["x".into()], &one, number), vec![]);
    }
    store.commit(batch).await.unwrap();
    // As many reads as a page of params takes from one snapshot.
    let store: Arc<dyn Store> = Arc::new(ShortLivedStore { store, reads: 3 });
    let options = matyan_ql::QueryOptions { endpoint: matyan_ql::Endpoint::Run, offset_minutes: 0, now: 0.0 };
    let plan =
        matyan_ql::compile("run.x == 1 and 'a' in run.tags and run.hash == 'b'", options).unwrap().plan();
    let snapshot = RenewedSnapshot::open(store.clone()).await.unwrap();
    let counts = count_probes(&snapshot, PROJECT, &plan, &RunSamples::default()).await.unwrap();
    assert_eq!(counts.runs(), 60_000);
    let plan = matyan_ql::compile("run.x == 1", options).unwrap().plan();
    let evaluation = Evaluation::start(1).unwrap();
    let found = reader(store, &evaluation).await.matches(&plan.runs).await.unwrap().unwrap();
    assert_eq!(found.len(), 25_000);
}
