//! Queries that are evaluated on columns of a store.

use std::{ops::RangeInclusive, sync::atomic::AtomicBool};

use matyan_maintenance::ParamCohorts;
use matyan_model::{ids::RunId, index::Scalar, run::run_create};
use matyan_ql::{QueryOptions, compile};
use matyan_store::{
    Batch, Commit, Page, Result as StoreResult, Scan, Store, Transaction, Value, Version,
    embedded::EmbeddedStore,
};
use matyan_value::Value::Integer;
use tokio_util::sync::CancellationToken;

use super::*;

const PROJECT: Project = Project(1);
const RUNS: u64 = 3_000;
const LONG_NAME: u64 = 5;
/// Steps that are enough for the query of a test.
const BUDGET: u64 = 10_000_000;

async fn open(directory: &tempfile::TempDir) -> Arc<dyn Store> {
    Arc::new(EmbeddedStore::open(directory.path(), Default::default()).await.unwrap())
}

fn scan_before(end: Key, text: &str, steps_in_total: u64) -> RemainingScan {
    let options = QueryOptions { endpoint: Endpoint::Run, offset_minutes: 0, now: 0.0 };
    let query = Arc::new(compile(text, options).unwrap());
    RemainingScan {
        project: PROJECT,
        needed: NeededColumns::new(&query).unwrap(),
        query,
        end,
        limits: QueryLimits { steps_in_total, ..QueryLimits::default() },
    }
}

/// Stores runs with index rows of an earlier format, whose `x` is their number.
async fn store_rows(store: &dyn Store, runs: RangeInclusive<u64>) {
    let mut batch = Batch::default();
    for number in runs {
        // A row with this value is a float.
        batch.set(x_row(number), vec![0]);
        batch.set(keys::indexed_params(PROJECT, RunNumber(number)), vec![]);
        // The name of one run is too long for the index.
        let name = if number == LONG_NAME { "x".repeat(5_000) } else { format!("run {number}") };
        batch.set(keys::index_name(PROJECT, &name, RunNumber(number)), vec![]);
    }
    store.commit(batch).await.unwrap();
}

fn x_row(number: u64) -> Key {
    let value = Scalar::Number(number as f64).key();
    keys::index_param(PROJECT, &["x".into()], &value, RunNumber(number))
}

/// Evaluates a query on the index rows of runs whose `x` is their number.
async fn scan(text: &str, steps_in_total: u64) -> ColumnScan {
    let directory = tempfile::TempDir::new().unwrap();
    let store = open(&directory).await;
    store_rows(&*store, 1..=RUNS).await;
    let snapshot = RenewedSnapshot::open(store).await.unwrap();
    let scan = scan_before(keys::documents(PROJECT).end, text, steps_in_total);
    evaluate(&Evaluation::start(2).unwrap(), &snapshot, scan).await.unwrap()
}

/// There are more cohorts than are tried, and than a page has.
#[tokio::test]
async fn runs_of_many_cohorts_are_evaluated() {
    const RUNS_OF_COHORT: usize = 3;
    const COHORT_COUNT: usize = 3 * COHORTS;
    let directory = tempfile::TempDir::new().unwrap();
    let store = open(&directory).await;
    let clock = || 1;
    let collector = ParamCohorts::new(&*store, &clock).of_runs(RUNS_OF_COHORT);
    let mut numbers = Vec::new();
    for _ in 0..COHORT_COUNT {
        for _ in 0..RUNS_OF_COHORT {
            let x = numbers.len() as i64;
            let mut transaction = Transaction::new(store.snapshot().await.unwrap());
            let id = RunId::new(format!("run-{x}"));
            let mut edit = run_create(&mut transaction, PROJECT, &id, x).await.unwrap();
            numbers.push(edit.number());
            edit.params(transaction.unchecked()).await.unwrap().insert("x".into(), Integer(x));
            edit.write(transaction.batch());
            store.commit(transaction.into_batch()).await.unwrap();
        }
        while collector.collect(PROJECT, 1, [8; 16], &CancellationToken::new()).await.unwrap().has_more {}
    }
    let snapshot = RenewedSnapshot::open(store).await.unwrap();
    assert_eq!(param_cohort_numbers(&snapshot, PROJECT).await.unwrap().len(), COHORT_COUNT);
    let evaluation = Evaluation::start(2).unwrap();
    let verdicts = async |text: &str, end: Key, steps: u64| {
        evaluate(&evaluation, &snapshot, scan_before(end, text, steps)).await.unwrap().verdicts
    };
    let end = keys::documents(PROJECT).end;
    let all = verdicts("run.x % 10 == 3", end.clone(), BUDGET).await.unwrap();
    let expected: Vec<RunNumber> = numbers.iter().copied().skip(3).step_by(10).collect();
    assert_eq!(all.remaining, expected);
    assert_eq!(all.verdicts.evaluated as usize, numbers.len() - expected.len());
    let older = verdicts("run.x % 10 == 3", keys::document(PROJECT, numbers[13]), BUDGET).await.unwrap();
    assert_eq!((older.remaining, older.verdicts.evaluated), (vec![numbers[3]], 12));
    let most = verdicts("run.x > 3", end.clone(), BUDGET).await;
    assert!(most.is_none(), "nearly all documents would have to be read");
    let exceeded = verdicts("run.x % 10 == 3", end, 100).await;
    assert!(exceeded.is_none());
}

/// A store whose first snapshot is too old once runs with index rows are to be read. A run has been listed by then.
struct AgingStore {
    inner: Arc<dyn Store>,
    listed: RunNumber,
    is_old: Arc<AtomicBool>,
}

struct AgingSnapshot {
    inner: Box<dyn Snapshot>,
    is_old: Arc<AtomicBool>,
}

#[tonic::async_trait]
impl Store for AgingStore {
    async fn snapshot(&self) -> StoreResult<Box<dyn Snapshot>> {
        if self.is_old.load(Ordering::Relaxed) {
            // Like a change of the params of the run.
            let mut batch = Batch::default();
            batch.clear(x_row(self.listed.0));
            batch.clear(keys::indexed_params(PROJECT, self.listed));
            let first = keys::ListGeneration::FIRST;
            batch.set(keys::uncollected(CohortKind::Params, PROJECT, first, self.listed), vec![]);
            self.inner.commit(batch).await?;
        }
        let inner = self.inner.snapshot().await?;
        Ok(Box::new(AgingSnapshot { inner, is_old: self.is_old.clone() }))
    }

    async fn commit(&self, batch: Batch) -> StoreResult<Commit> {
        self.inner.commit(batch).await
    }

    async fn sync(&self) -> StoreResult<()> {
        self.inner.sync().await
    }

    async fn changed(&self, key: &Key, seen: Option<&Value>) -> StoreResult<()> {
        self.inner.changed(key, seen).await
    }

    fn clears_ranges_at_once(&self) -> bool {
        self.inner.clears_ranges_at_once()
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }
}

#[tonic::async_trait]
impl Snapshot for AgingSnapshot {
    async fn get(&self, key: &Key) -> StoreResult<Option<Value>> {
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> StoreResult<Vec<Option<Value>>> {
        self.inner.get_many(keys).await
    }

    async fn scan(&self, range: &Range, scan: Scan) -> StoreResult<Page> {
        let is_first =
            *range == keys::indexed_params_all(PROJECT) && !self.is_old.swap(true, Ordering::Relaxed);
        if is_first { Err(StoreError::SnapshotTooOld) } else { self.inner.scan(range, scan).await }
    }

    fn version(&self) -> Version {
        self.inner.version()
    }
}

#[tokio::test]
async fn a_run_that_changes_between_two_snapshots_is_not_missed() {
    let directory = tempfile::TempDir::new().unwrap();
    let inner = open(&directory).await;
    store_rows(&*inner, 1..=RUNS).await;
    let store = AgingStore { inner, listed: RunNumber(1_017), is_old: Arc::default() };
    let snapshot = RenewedSnapshot::open(Arc::new(store)).await.unwrap();
    let scan = scan_before(keys::documents(PROJECT).end, "run.x % 1000 == 17", BUDGET);
    let found = evaluate(&Evaluation::start(2).unwrap(), &snapshot, scan).await.unwrap();
    assert_eq!(found.verdicts.unwrap().remaining, [17, 1_017, 2_017].map(RunNumber));
}

#[tokio::test]
async fn names_are_a_column() {
    let query = "'17' in run.name and run.x % 1000 == 17 or 'y' in run.name";
    let found = scan(query, BUDGET).await.verdicts.unwrap();
    assert_eq!(found.remaining, [LONG_NAME, 17, 1017, 2017].map(RunNumber));
}

#[tokio::test]
async fn steps_are_taken_from_one_budget() {
    let found = scan("run.x == 7", BUDGET).await;
    let verdicts = found.verdicts.unwrap();
    assert_eq!((verdicts.remaining, verdicts.verdicts.evaluated), (vec![RunNumber(7)], RUNS - 1));
    let taken = BUDGET - found.steps_left;
    assert!((RUNS..RUNS * 100).contains(&taken), "{taken}");
    // A slice may take more than it needs, and gives the rest back.
    let slice = SLICE_STEPS + QueryLimits::default().steps_per_candidate;
    let found = scan("run.x == 7", taken + slice).await;
    assert_eq!((found.verdicts.is_some(), found.steps_left), (true, slice));

    // A query that takes too much is not evaluated a second time with the whole budget, nor is a
    // query for which most documents have to be read.
    let exceeded = scan("run.x == 7", taken / 2).await;
    assert!(exceeded.verdicts.is_none() && exceeded.steps_left < taken / 4, "{}", exceeded.steps_left);
    let refused = scan("run.x > 0 and run.description == 'a'", BUDGET).await;
    assert!(refused.verdicts.is_none() && refused.steps_left < BUDGET, "{}", refused.steps_left);
}
