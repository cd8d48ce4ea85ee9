//! Scans without documents. Once a search has read some documents without finding enough, it
//! reads the params that its query names from columns, a few cohorts at a time, and the names of runs if it uses
//! them from their index: a hundredth of the bytes. It evaluates the query on these values. Runs that do not match are
//! dropped; the rest are checked against their documents, as after any index. A document is also
//! needed if the query reads a value that no column has, such as the run's tags or a param that is
//! a list. If that is true of many runs, the scan of documents continues instead.
//!
//! The runs come in groups: those whose params only documents have, those with index rows of an earlier format, and those of
//! some cohorts at a time.

use std::{
    borrow::Cow,
    cell::Cell,
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use matyan_model::{
    cohort::CohortKind,
    format::format_has_every_run,
    ids::{CohortNumber, Project, RunNumber},
    index::{IndexColumn, IndexedValue, index_rows_runs, is_indexed_path},
    keys,
    param_cohort::{CohortPage, CohortParams, ReadList, param_cohort_numbers, undamaged},
    series::COHORT_RUNS,
};
use matyan_ql::{
    Datum, Endpoint, Evaluator, KeyPath, NeedSet, Outcome, ParamRead, Query, QueryLimits, RunView,
    SequenceView,
};
use matyan_store::{Key, Range, Scan, Snapshot, Value};
use tokio::sync::Mutex;

use super::filter::VerdictCounts;
use crate::{
    query::plan::RenewedSnapshot,
    server::{
        error::Result,
        evaluation::{Evaluation, SLICE_STEPS, SLICE_VERDICTS},
    },
};

/// Maximum number of columns of a query.
const MAX_COLUMNS: usize = 4;
/// Maximum number of rows in memory of an index or a list: 24 bytes each, plus strings.
const MAX_ROWS: usize = 500_000;
/// Cohorts that are evaluated at a time. They have up to 256 KiB of each param, and usually 4 kB.
const COHORTS: usize = 16;
/// Scanning documents is cheaper than fetching one in this many.
const FETCH_FROM: usize = 8;
/// Documents are fetched if they are fewer than `FETCH_FROM` allows for so many runs.
const FEW_RUNS: usize = 1_000;
/// Number of cohorts that are evaluated first, to see how many of their runs remain. They are of all ages,
/// because runs of the same period often resemble each other.
const TRIED: usize = 8;

/// The result of evaluating a scan on columns.
pub(super) struct ColumnScan {
    /// `None` if the documents have to be scanned.
    pub(super) verdicts: Option<ColumnVerdicts>,
    /// The rest of the budget of the scan.
    pub(super) steps_left: u64,
}

#[derive(Default)]
pub(super) struct ColumnVerdicts {
    /// Runs to check against their documents, ascending.
    pub(super) remaining: Vec<RunNumber>,
    /// Verdicts on all other runs.
    pub(super) verdicts: VerdictCounts,
}

impl ColumnVerdicts {
    /// Whether scanning the documents of `runs`, or of all runs evaluated, costs less than fetching the documents of the runs
    /// that remain.
    fn is_scan_cheaper(&self, runs: usize) -> bool {
        let evaluated = self.remaining.len() + self.verdicts.evaluated as usize;
        self.remaining.len() > evaluated.max(runs).max(FEW_RUNS) / FETCH_FROM
    }

    fn add(&mut self, other: Self) {
        self.remaining.extend(other.remaining);
        self.verdicts.add(other.verdicts);
    }
}

/// The columns that a query reads.
pub(super) struct NeededColumns {
    paths: Vec<KeyPath>,
    /// Whether it reads the names of runs.
    name: bool,
}

impl NeededColumns {
    /// Returns `None` if columns cannot evaluate the query, because it reads more than they have.
    pub(super) fn new(query: &Query) -> Option<Self> {
        let needs = query.needs();
        let NeedSet::Only(paths) = &needs.params else { return None };
        let is_of_columns = query.options().endpoint == Endpoint::Run
            && needs.sequences.is_empty()
            && (1..=MAX_COLUMNS).contains(&(paths.len() + usize::from(needs.name)))
            && paths.iter().all(|path| is_indexed_path(path.keys()));
        is_of_columns.then(|| Self { paths: paths.iter().cloned().collect(), name: needs.name })
    }

    /// The paths as the keys of rows have them.
    fn key_paths(&self) -> Vec<Vec<Cow<'_, str>>> {
        let keys = self.paths.iter().map(KeyPath::keys);
        keys.map(|keys| keys.iter().map(|key| Cow::Borrowed(&**key)).collect()).collect()
    }
}

/// The remainder of a scan of documents.
pub(super) struct RemainingScan {
    pub(super) project: Project,
    pub(super) query: Arc<Query>,
    pub(super) needed: NeededColumns,
    /// Only documents before this key remain to be read.
    pub(super) end: Key,
    pub(super) limits: QueryLimits,
}

/// Evaluates the query on columns.
pub(super) async fn evaluate(
    evaluation: &Evaluation,
    snapshot: &RenewedSnapshot,
    scan: RemainingScan,
) -> Result<ColumnScan> {
    let budget = AtomicU64::new(scan.limits.steps_in_total);
    let verdicts = try_evaluate(evaluation, snapshot, scan, &budget).await?;
    Ok(ColumnScan { verdicts, steps_left: budget.into_inner() })
}

async fn try_evaluate(
    evaluation: &Evaluation,
    snapshot: &RenewedSnapshot,
    scan: RemainingScan,
    budget: &AtomicU64,
) -> Result<Option<ColumnVerdicts>> {
    // Until a migration has reached all runs, only an index has them.
    if !format_has_every_run(snapshot).await? {
        return Ok(None);
    }
    let version = snapshot.version();
    let project = scan.project;
    let Some(list) = ReadList::read(snapshot, project, MAX_ROWS).await? else { return Ok(None) };
    let cohorts = param_cohort_numbers(snapshot, project).await?;
    let indexes = IndexReader { evaluation, snapshot, project };
    let Some(runs) = ScannedRuns::read(&indexes, list.clone(), &scan).await? else { return Ok(None) };
    let groups =
        GroupReader { evaluation, snapshot, project, budget, rules: Arc::new(GroupRules { scan, runs }) };

    let Some(mut found) = groups.evaluate_listed(&indexes).await? else { return Ok(None) };
    if found.is_scan_cheaper(cohorts.len() * COHORT_RUNS) {
        return Ok(None);
    }
    let (tried, others) = split_sample(project, &cohorts);
    let Some(sample) = groups.evaluate_cohorts(tried).await? else { return Ok(None) };
    if sample.is_scan_cheaper(0) {
        return Ok(None);
    }
    found.add(sample);
    let Some(rest) = groups.evaluate_cohorts(others).await? else { return Ok(None) };
    found.add(rest);
    if snapshot.version() != version {
        // A run that was listed meanwhile may have left its cohort before the cohort was read.
        let Some(listed) = ReadList::read(snapshot, project, MAX_ROWS).await? else { return Ok(None) };
        let listed = listed.runs().difference(list.runs()).copied();
        found.remaining.extend(listed.filter(|number| groups.rules.is_in_scan(*number)));
    }
    if found.is_scan_cheaper(0) {
        return Ok(None);
    }
    found.remaining.sort_unstable();
    found.remaining.dedup();
    Ok(Some(found))
}

/// Ranges of evenly spaced cohorts, `TRIED` of them or none if all are few, and the ranges of the others. The first of these is
/// the newest, and includes cohorts that are made later.
fn split_sample(project: Project, cohorts: &[CohortNumber]) -> (Vec<Range>, Vec<Range>) {
    let all = keys::cohorts(CohortKind::Params, project);
    let distance = cohorts.len() / TRIED;
    let tried = cohorts.iter().step_by(distance.max(1)).take(if distance > 1 { TRIED } else { 0 });
    let mut sample = Vec::new();
    let mut others = Vec::new();
    let mut start = all.start.clone();
    for cohort in tried {
        let key = keys::cohort(CohortKind::Params, project, *cohort);
        let rest = all.after(&key);
        others.push(Range::new(start, key.clone()));
        sample.push(Range::new(key, rest.start.clone()));
        start = rest.start;
    }
    others.push(Range::new(start, all.end));
    others.reverse();
    (sample, others)
}

/// What is known of runs apart from their params.
struct ScannedRuns {
    /// Runs whose params only documents have.
    list: ReadList,
    archived: HashSet<RunNumber>,
    binned: HashSet<RunNumber>,
    /// Empty if the query does not use names.
    names: IndexColumn,
}

impl ScannedRuns {
    /// Returns `None` if it is too much.
    async fn read(indexes: &IndexReader<'_>, list: ReadList, scan: &RemainingScan) -> Result<Option<Self>> {
        let names =
            async { if scan.needed.name { indexes.names().await } else { Ok(Some(IndexColumn::default())) } };
        let (archived, binned, names) = futures::try_join!(
            indexes.runs(keys::index_archived_all(scan.project, true)),
            indexes.runs(keys::index_binned_all(scan.project)),
            names,
        )?;
        let (Some(archived), Some(binned), Some(names)) = (archived, binned, names) else { return Ok(None) };
        Ok(Some(Self {
            list,
            archived: archived.into_iter().collect(),
            binned: binned.into_iter().collect(),
            names,
        }))
    }
}

/// Reads indexes of a project. What has more than `MAX_ROWS` rows is `None`.
struct IndexReader<'r> {
    evaluation: &'r Evaluation,
    snapshot: &'r RenewedSnapshot,
    project: Project,
}

impl IndexReader<'_> {
    /// The names of the runs.
    async fn names(&self) -> Result<Option<IndexColumn>> {
        let project = self.project;
        let names = keys::index_names(project);
        self.column(names, MAX_ROWS, move |column, rows| column.add_names(project, rows)).await
    }

    /// The values of some params in index rows of an earlier format.
    async fn params(&self, paths: &[Vec<Cow<'_, str>>]) -> Result<Option<Vec<IndexColumn>>> {
        let most = MAX_ROWS / paths.len().max(1);
        let columns = paths.iter().map(|path| {
            let all = keys::index_param_path(self.project, path);
            self.column(all.clone(), most, move |column, rows| column.add_params(&all, rows))
        });
        let columns = futures::future::try_join_all(columns).await?;
        Ok(columns.into_iter().collect())
    }

    /// The runs of the rows, in any order.
    async fn runs(&self, rows: Range) -> Result<Option<Vec<RunNumber>>> {
        let add = |runs: &mut Vec<RunNumber>, rows: &[(Key, Value)]| {
            runs.extend(index_rows_runs(rows)?);
            Ok(())
        };
        self.read(rows, MAX_ROWS, add).await
    }

    async fn column(
        &self,
        rows: Range,
        most: usize,
        add: impl Fn(&mut IndexColumn, &[(Key, Value)]) -> matyan_store::Result<()> + Clone + Send + 'static,
    ) -> Result<Option<IndexColumn>> {
        let Some(mut column) = self.read::<IndexColumn>(rows, most, add).await? else { return Ok(None) };
        let sorted = move || {
            column.sort();
            column
        };
        self.evaluation.run(sorted).await.map(Some)
    }

    async fn read<T: Default + Send + 'static>(
        &self,
        rows: Range,
        most: usize,
        add: impl Fn(&mut T, &[(Key, Value)]) -> matyan_store::Result<()> + Clone + Send + 'static,
    ) -> Result<Option<T>> {
        let mut found = T::default();
        let mut read = 0;
        let mut rest = Some(rows);
        while let Some(range) = rest {
            let page = self.snapshot.scan(&range, Scan::default()).await?;
            rest = page.rest(&range);
            read += page.rows.len();
            if read > most {
                return Ok(None);
            }
            let add = add.clone();
            found = self.evaluation.run(move || add(&mut found, &page.rows).map(|()| found)).await??;
        }
        Ok(Some(found))
    }
}

/// Reads runs with their params, and evaluates the query on them.
struct GroupReader<'e> {
    evaluation: &'e Evaluation,
    snapshot: &'e RenewedSnapshot,
    project: Project,
    /// Steps that all groups have left together.
    budget: &'e AtomicU64,
    rules: Arc<GroupRules>,
}

impl GroupReader<'_> {
    /// Evaluates the runs that no cohort has; `None` if they are too many, or the query exceeds a limit.
    async fn evaluate_listed(&self, indexes: &IndexReader<'_>) -> Result<Option<ColumnVerdicts>> {
        let GroupRules { scan, runs } = &*self.rules;
        let columns = scan.needed.paths.iter().map(|_| IndexColumn::default()).collect();
        let listed = CohortParams { runs: runs.list.runs().iter().copied().collect(), columns };
        let Some(mut found) = self.evaluate(listed).await? else { return Ok(None) };
        if runs.list.may_have_index_rows() {
            let with_rows = indexes.runs(keys::indexed_params_all(self.project)).await?;
            let columns = indexes.params(&scan.needed.key_paths()).await?;
            let (Some(runs), Some(columns)) = (with_rows, columns) else { return Ok(None) };
            let Some(others) = self.evaluate(CohortParams { runs, columns }).await? else { return Ok(None) };
            found.add(others);
        }
        Ok(Some(found))
    }

    /// Evaluates the cohorts of some ranges, of the last range first; `None` if a cohort is damaged, or the query exceeds a limit.
    async fn evaluate_cohorts(&self, ranges: Vec<Range>) -> Result<Option<ColumnVerdicts>> {
        let rest = Mutex::new(ranges);
        // Two threads evaluate pages, and read them one after the other.
        let (first, second) =
            futures::future::try_join(self.evaluate_pages(&rest), self.evaluate_pages(&rest)).await?;
        let (Some(mut first), Some(second)) = (first, second) else { return Ok(None) };
        first.add(second);
        Ok(Some(first))
    }

    /// Takes pages from the rest, and evaluates them.
    async fn evaluate_pages(&self, rest: &Mutex<Vec<Range>>) -> Result<Option<ColumnVerdicts>> {
        let paths = self.rules.scan.needed.key_paths();
        let mut all = ColumnVerdicts::default();
        loop {
            let mut ranges = rest.lock().await;
            let Some(range) = ranges.pop() else { return Ok(Some(all)) };
            let (page, of_range) = self.read_cohorts(&paths, &range).await?;
            ranges.extend(of_range);
            drop(ranges);
            let Some(found) = self.evaluate_page(page).await? else { return Ok(None) };
            all.add(found);
        }
    }

    /// The first cohorts of a range, and the range of the rest.
    async fn read_cohorts(
        &self,
        paths: &[Vec<Cow<'_, str>>],
        range: &Range,
    ) -> Result<(CohortPage, Option<Range>)> {
        // Rows of a page must agree.
        let current = self.snapshot.current();
        let read = CohortPage::read(current.as_ref(), self.project, paths, range, COHORTS).await;
        if let Some(page) = self.snapshot.renew(read).await? {
            return Ok(page);
        }
        let current = self.snapshot.current();
        Ok(CohortPage::read(current.as_ref(), self.project, paths, range, COHORTS).await?)
    }

    async fn evaluate_page(&self, page: CohortPage) -> Result<Option<ColumnVerdicts>> {
        let rules = self.rules.clone();
        let decoded = self.evaluation.run(move || page.decode(rules.runs.list.runs())).await?;
        match undamaged(decoded)? {
            Some(params) => self.evaluate(params).await,
            None => Ok(None),
        }
    }

    /// Evaluates runs in slices on the threads of queries; `None` if the query exceeds a limit.
    async fn evaluate(&self, params: CohortParams) -> Result<Option<ColumnVerdicts>> {
        let limits = self.rules.scan.limits;
        let rules = self.rules.clone();
        let group = self.evaluation.run(move || rules.group(params)).await?;
        let mut progress = group.start(&self.rules);
        let group = Arc::new(group);
        while progress.at < group.runs.len() {
            let taken = take_steps(self.budget, limits);
            let limits = QueryLimits { steps_in_total: taken, ..limits };
            let rules = self.rules.clone();
            let group = group.clone();
            let slice = move |is_stopped: &dyn Fn() -> bool| {
                let evaluator = rules.scan.query.stoppable_evaluator(limits, is_stopped);
                group.evaluate(&rules, evaluator, limits, progress)
            };
            let (continued, steps_left) = self.evaluation.run_stoppable(slice).await?;
            self.budget.fetch_add(steps_left, Ordering::Relaxed);
            match continued {
                Some(next) => progress = next,
                None => return Ok(None),
            }
        }
        Ok(Some(progress.found))
    }
}

/// Takes from the budget the steps that a slice may use: its own, and the steps of the run that exceeds
/// them.
fn take_steps(budget: &AtomicU64, limits: QueryLimits) -> u64 {
    let most = SLICE_STEPS + limits.steps_per_candidate;
    let rest = |left: u64| Some(left.saturating_sub(most));
    let left = budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest);
    left.unwrap_or_else(|left| left).min(most)
}

/// What is equal for all groups.
struct GroupRules {
    scan: RemainingScan,
    runs: ScannedRuns,
}

impl GroupRules {
    fn is_in_scan(&self, number: RunNumber) -> bool {
        keys::document(self.scan.project, number) < self.scan.end
    }

    /// The runs of the scan, ascending.
    fn group(&self, params: CohortParams) -> RunGroup {
        let ScannedRuns { archived, binned, .. } = &self.runs;
        let CohortParams { mut runs, columns } = params;
        runs.sort_unstable();
        runs.truncate(runs.partition_point(|number| self.is_in_scan(*number)));
        let runs = runs.into_iter().filter(|number| !binned.contains(number));
        let runs = runs.map(|number| (number, archived.contains(&number))).collect();
        RunGroup { runs, params: columns }
    }
}

/// Runs with their params.
struct RunGroup {
    /// The runs with whether they are archived, ascending.
    runs: Vec<(RunNumber, bool)>,
    params: Vec<IndexColumn>,
}

impl RunGroup {
    fn start(&self, rules: &GroupRules) -> GroupProgress {
        let first = self.runs.first().map_or(RunNumber(0), |(number, _)| *number);
        GroupProgress {
            at: 0,
            positions: self.params.iter().map(|column| column.position(first)).collect(),
            name: rules.runs.names.position(first),
            found: ColumnVerdicts::default(),
        }
    }

    /// Continues for a slice, with all steps of `limits`. Returns `None` if the query exceeds a limit,
    /// and the steps left.
    fn evaluate(
        &self,
        rules: &GroupRules,
        mut evaluator: Evaluator<'_>,
        limits: QueryLimits,
        mut progress: GroupProgress,
    ) -> (Option<GroupProgress>, u64) {
        let started = progress.at;
        let mut values = vec![None; self.params.len()];
        for (number, archived) in &self.runs[started..] {
            let steps = limits.steps_in_total - evaluator.steps_left();
            if steps > SLICE_STEPS || (progress.at - started) as u64 > SLICE_VERDICTS {
                break;
            }
            let columns = self.params.iter().zip(&mut progress.positions);
            for (value, (column, position)) in values.iter_mut().zip(columns) {
                *value = column.value_at(position, *number);
            }
            let row = ColumnRow {
                paths: &rules.scan.needed.paths,
                values: &values,
                name: rules.runs.names.value_at(&mut progress.name, *number),
                archived: *archived,
                needs_document: Cell::new(false),
            };
            let Ok(outcome) = evaluator.run(&row) else { return (None, evaluator.steps_left()) };
            if row.needs_document.get() || outcome == Outcome::Match {
                progress.found.remaining.push(*number);
            } else {
                progress.found.verdicts.record(outcome);
            }
            progress.at += 1;
        }
        (Some(progress), evaluator.steps_left())
    }
}

/// The evaluation of a group as far as it has come.
struct GroupProgress {
    /// Number of runs evaluated.
    at: usize,
    /// Positions of the next run in the columns, and among the names.
    positions: Vec<usize>,
    name: usize,
    found: ColumnVerdicts,
}

/// A run as seen through the columns.
struct ColumnRow<'c> {
    paths: &'c [KeyPath],
    values: &'c [Option<IndexedValue<'c>>],
    name: Option<IndexedValue<'c>>,
    archived: bool,
    /// Set when the query reads a value that only the document has; the verdict is then
    /// void.
    needs_document: Cell<bool>,
}

impl ColumnRow<'_> {
    fn unknown<T: Default>(&self) -> T {
        self.needs_document.set(true);
        T::default()
    }
}

impl RunView for ColumnRow<'_> {
    fn hash(&self) -> &str {
        self.unknown()
    }

    fn name(&self) -> Option<&str> {
        match self.name {
            Some(IndexedValue::Text(name)) => Some(name),
            _ => self.unknown(),
        }
    }

    fn description(&self) -> Option<&str> {
        self.unknown()
    }

    fn experiment(&self) -> Option<&str> {
        self.unknown()
    }

    fn created_at(&self) -> f64 {
        self.unknown()
    }

    fn end_time(&self) -> Option<f64> {
        self.unknown()
    }

    fn active(&self) -> bool {
        self.unknown()
    }

    fn outcome(&self) -> Option<&str> {
        self.unknown()
    }

    fn parent(&self) -> Option<&str> {
        self.unknown()
    }

    fn archived(&self) -> bool {
        self.archived
    }

    fn tags(&self) -> Vec<&str> {
        self.unknown()
    }

    fn param(&self, path: &KeyPath, _: usize) -> ParamRead<'_> {
        let known =
            self.paths.iter().position(|known| known == path).and_then(|position| self.values[position]);
        let datum = match known {
            Some(IndexedValue::Null) => Some(Datum::None),
            Some(IndexedValue::Bool(value)) => Some(Datum::Bool(value)),
            Some(IndexedValue::Integer(value)) => Some(Datum::Int(value)),
            Some(IndexedValue::Float(value)) => Some(Datum::Float(value)),
            Some(IndexedValue::Text(text)) => Some(Datum::Text(Cow::Borrowed(text))),
            None => self.unknown(),
        };
        datum.into()
    }

    fn sequences(&self, _: &str) -> Vec<&dyn SequenceView> {
        self.unknown()
    }
}

#[cfg(test)]
mod tests {
    use matyan_maintenance::ParamCohorts;
    use matyan_model::{ids::RunId, index::Scalar, run::run_create};
    use matyan_ql::{QueryOptions, compile};
    use matyan_store::{Batch, Store, Transaction, embedded::EmbeddedStore};
    use matyan_value::Value::Integer;
    use tokio_util::sync::CancellationToken;

    use super::*;

    const PROJECT: Project = Project(1);
    const RUNS: u64 = 3_000;
    const LONG_NAME: u64 = 5;

    /// Evaluates a query on the columns of runs whose `x` is their number.
    async fn scan(text: &str, steps_in_total: u64) -> ColumnScan {
        let directory = tempfile::TempDir::new().unwrap();
        let store = EmbeddedStore::open(directory.path(), Default::default()).await.unwrap();
        let mut batch = Batch::default();
        for number in 1..=RUNS {
            let value = Scalar::Number(number as f64).key();
            // A row with this value is a float.
            batch.set(keys::index_param(PROJECT, &["x".into()], &value, RunNumber(number)), vec![0]);
            batch.set(keys::indexed_params(PROJECT, RunNumber(number)), vec![]);
            // The name of one run is too long for the index.
            let name = if number == LONG_NAME { "x".repeat(5_000) } else { format!("run {number}") };
            batch.set(keys::index_name(PROJECT, &name, RunNumber(number)), vec![]);
        }
        store.commit(batch).await.unwrap();
        let options = QueryOptions { endpoint: Endpoint::Run, offset_minutes: 0, now: 0.0 };
        let query = Arc::new(compile(text, options).unwrap());
        let scan = RemainingScan {
            project: PROJECT,
            needed: NeededColumns::new(&query).unwrap(),
            query,
            end: keys::documents(PROJECT).end,
            limits: QueryLimits { steps_in_total, ..QueryLimits::default() },
        };
        let snapshot = RenewedSnapshot::open(Arc::new(store)).await.unwrap();
        evaluate(&Evaluation::start(2).unwrap(), &snapshot, scan).await.unwrap()
    }

    /// Fewer runs in each cohort than any page has, and more cohorts than are tried, and than a page has.
    #[tokio::test]
    async fn runs_of_many_cohorts_are_evaluated() {
        const COHORT: usize = 3;
        const COHORT_COUNT: usize = 3 * COHORTS;
        let directory = tempfile::TempDir::new().unwrap();
        let store: Arc<dyn Store> =
            Arc::new(EmbeddedStore::open(directory.path(), Default::default()).await.unwrap());
        let clock = || 1;
        let collector = ParamCohorts::new(&*store, &clock).of_runs(COHORT);
        let mut numbers = Vec::new();
        for cohort in 0..COHORT_COUNT {
            for run in 0..COHORT {
                let at = cohort * COHORT + run;
                let mut transaction = Transaction::new(store.snapshot().await.unwrap());
                let id = RunId::new(format!("run-{at}"));
                let mut edit = run_create(&mut transaction, PROJECT, &id, at as i64).await.unwrap();
                numbers.push(edit.number());
                let params = edit.params(transaction.unchecked()).await.unwrap();
                params.insert("x".into(), Integer(at as i64));
                edit.write(transaction.batch());
                store.commit(transaction.into_batch()).await.unwrap();
            }
            while collector.collect(PROJECT, 1, [8; 16], &CancellationToken::new()).await.unwrap().has_more {}
        }
        let snapshot = RenewedSnapshot::open(store.clone()).await.unwrap();
        assert_eq!(param_cohort_numbers(&snapshot, PROJECT).await.unwrap().len(), COHORT_COUNT);
        let scan = |text: &str, end: Key| {
            let options = QueryOptions { endpoint: Endpoint::Run, offset_minutes: 0, now: 0.0 };
            let query = Arc::new(compile(text, options).unwrap());
            let needed = NeededColumns::new(&query).unwrap();
            RemainingScan { project: PROJECT, needed, query, end, limits: QueryLimits::default() }
        };
        let end = keys::documents(PROJECT).end;
        let evaluation = Evaluation::start(2).unwrap();
        let all = evaluate(&evaluation, &snapshot, scan("run.x % 10 == 3", end.clone())).await.unwrap();
        let verdicts = all.verdicts.unwrap();
        let expected: Vec<RunNumber> = numbers.iter().copied().skip(3).step_by(10).collect();
        assert_eq!(verdicts.remaining, expected);
        assert_eq!(verdicts.verdicts.evaluated as usize, numbers.len() - expected.len());
        // The documents before a run are left.
        let end = keys::document(PROJECT, numbers[13]);
        let older = evaluate(&evaluation, &snapshot, scan("run.x % 10 == 3", end)).await.unwrap();
        let verdicts = older.verdicts.unwrap();
        assert_eq!((verdicts.remaining, verdicts.verdicts.evaluated), (vec![numbers[3]], 12));
        // Nearly all documents would have to be read.
        let end = keys::documents(PROJECT).end;
        let most = evaluate(&evaluation, &snapshot, scan("run.x > 3", end)).await.unwrap();
        assert!(most.verdicts.is_none());
    }

    #[tokio::test]
    async fn names_are_a_column() {
        let query = "'17' in run.name and run.x % 1000 == 17 or 'y' in run.name";
        let found = scan(query, 10_000_000).await.verdicts.unwrap();
        assert_eq!(found.remaining, [LONG_NAME, 17, 1017, 2017].map(RunNumber));
    }

    #[tokio::test]
    async fn steps_are_taken_from_one_budget() {
        const BUDGET: u64 = 10_000_000;
        let found = scan("run.x == 7", BUDGET).await;
        let verdicts = found.verdicts.unwrap();
        assert_eq!((verdicts.remaining, verdicts.verdicts.evaluated), (vec![RunNumber(7)], RUNS - 1));
        let taken = BUDGET - found.steps_left;
        assert!((RUNS..RUNS * 100).contains(&taken), "{taken}");
        // Both halves share the rest of the budget. Each may hold a slice while the other one ends.
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
}
