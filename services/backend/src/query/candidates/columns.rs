//! Scans without documents. Once a search has read some documents without finding enough, it
//! reads the params that its query names, and the names of runs if it uses them, from columns and
//! indexes: a hundredth of the bytes. It evaluates the query on these values. Runs that do not match are
//! dropped; the rest are checked against their documents, as after any index. A document is also
//! needed if the query reads a value that no column has, such as the run's tags or a param that is
//! a list. If that is true of many runs, the scan of documents continues instead.

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
    ids::{Project, RunNumber},
    index::{IndexColumn, IndexedValue, index_rows_runs, is_indexed_path},
    keys,
    param_cohort::{ParamReader, ReadList, param_members, undamaged},
};
use matyan_ql::{
    Datum, Endpoint, Evaluator, KeyPath, NeedSet, Outcome, ParamRead, Query, QueryLimits, RunView,
    SequenceView,
};
use matyan_store::{Error as StoreError, Key, Range, Snapshot, Value};

use super::filter::VerdictCounts;
use crate::server::{
    error::{Error, Result},
    evaluation::{Evaluation, SLICE_STEPS, SLICE_VERDICTS},
};

/// Maximum number of columns of a query.
const MAX_COLUMNS: usize = 4;
/// Maximum number of their values in memory: 24 bytes each, plus strings.
const MAX_VALUES: usize = 500_000;
/// Scanning documents is cheaper than fetching one in this many.
const FETCH_FROM: usize = 8;
/// Number of runs that are evaluated first, to see how many of them remain. They are of all ages,
/// because runs of the same period often resemble each other.
const TRIED: usize = 1_000;

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
    /// Whether scanning all documents costs less than fetching the documents of the runs that remain of
    /// `evaluated`.
    fn is_scan_cheaper(&self, evaluated: usize) -> bool {
        self.remaining.len() > evaluated.max(TRIED) / FETCH_FROM
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

    fn len(&self) -> usize {
        self.paths.len() + usize::from(self.name)
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
    snapshot: &dyn Snapshot,
    scan: RemainingScan,
) -> Result<ColumnScan> {
    let budget = AtomicU64::new(scan.limits.steps_in_total);
    let verdicts = match try_evaluate(evaluation, snapshot, scan, &budget).await {
        // There is too much data for one snapshot; documents can be read from many.
        Err(Error::Store(StoreError::SnapshotTooOld)) => None,
        verdicts => verdicts?,
    };
    Ok(ColumnScan { verdicts, steps_left: budget.into_inner() })
}

async fn try_evaluate(
    evaluation: &Evaluation,
    snapshot: &dyn Snapshot,
    scan: RemainingScan,
    budget: &AtomicU64,
) -> Result<Option<ColumnVerdicts>> {
    let RemainingScan { project, query, needed, end, limits } = scan;
    let Some(rows) = read_rows(evaluation, snapshot, project, &needed).await? else { return Ok(None) };
    let ColumnRows { columns, runs, archived } = rows;
    let columns = Arc::new(Columns { needed, columns });
    let slices = ColumnSlices { evaluation, budget, query, columns, limits };
    let samples = evaluation.run(move || {
        let all = flag_runs(runs, archived, |number| keys::document(project, number) < end);
        (all.len(), split_sample(all))
    });
    let (count, [tried, mut others]) = samples.await?;
    let tried_count = tried.len();
    let Some(mut found) = slices.evaluate(tried).await? else { return Ok(None) };
    if found.is_scan_cheaper(tried_count) {
        return Ok(None);
    }
    // Two threads evaluate one half each.
    let second = others.split_off(others.len() / 2);
    let (first, second) = futures::future::try_join(slices.evaluate(others), slices.evaluate(second)).await?;
    let (Some(first), Some(second)) = (first, second) else { return Ok(None) };
    for half in [first, second] {
        found.remaining.extend(half.remaining);
        found.verdicts.add(half.verdicts);
    }
    if found.is_scan_cheaper(count) {
        return Ok(None);
    }
    found.remaining.sort_unstable();
    Ok(Some(found))
}

/// The evaluation of runs on columns, in slices on the threads of queries.
struct ColumnSlices<'e> {
    evaluation: &'e Evaluation,
    /// Steps that all slices have left together.
    budget: &'e AtomicU64,
    query: Arc<Query>,
    columns: Arc<Columns>,
    limits: QueryLimits,
}

impl ColumnSlices<'_> {
    /// Evaluates runs, one slice after another; `None` if the query exceeds a limit.
    async fn evaluate(&self, runs: Vec<(RunNumber, bool)>) -> Result<Option<ColumnVerdicts>> {
        let runs: Arc<[(RunNumber, bool)]> = runs.into();
        let mut progress = self.columns.start(&runs);
        while progress.at < runs.len() {
            let taken = take_steps(self.budget, self.limits);
            let limits = QueryLimits { steps_in_total: taken, ..self.limits };
            let columns = self.columns.clone();
            let query = self.query.clone();
            let runs = runs.clone();
            let slice = move |is_stopped: &dyn Fn() -> bool| {
                let evaluator = query.stoppable_evaluator(limits, is_stopped);
                columns.evaluate(evaluator, limits, &runs, progress)
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

/// The runs with whether they are archived, ascending, as far as they are in the scan. `archived` is ascending.
fn flag_runs(
    mut runs: Vec<RunNumber>,
    archived: Vec<RunNumber>,
    is_in_scan: impl Fn(RunNumber) -> bool,
) -> Vec<(RunNumber, bool)> {
    runs.extend(&archived);
    runs.sort_unstable();
    runs.dedup();
    runs.truncate(runs.partition_point(|number| is_in_scan(*number)));
    let mut archived = archived.into_iter().peekable();
    let flagged = runs.into_iter().map(|number| {
        while archived.next_if(|other| *other < number).is_some() {}
        (number, archived.peek() == Some(&number))
    });
    flagged.collect()
}

/// Evenly spaced runs, about `TRIED` of them, and the others.
fn split_sample(all: Vec<(RunNumber, bool)>) -> [Vec<(RunNumber, bool)>; 2] {
    let distance = (all.len() / TRIED).max(1);
    let (sample, others): (Vec<_>, Vec<_>) =
        all.into_iter().enumerate().partition(|(index, _)| index.is_multiple_of(distance));
    let runs = |runs: Vec<(usize, (RunNumber, bool))>| runs.into_iter().map(|(_, run)| run).collect();
    [runs(sample), runs(others)]
}

/// The rows of the indexes that an evaluation needs.
struct ColumnRows {
    columns: Vec<IndexColumn>,
    /// All runs, in any order, with or without the archived ones.
    runs: Vec<RunNumber>,
    /// The archived runs, ascending.
    archived: Vec<RunNumber>,
}

/// Reads the columns of a query, and the runs of a project; `None` if there are too many rows.
async fn read_rows(
    evaluation: &Evaluation,
    snapshot: &dyn Snapshot,
    project: Project,
    needed: &NeededColumns,
) -> Result<Option<ColumnRows>> {
    // Read once for all columns.
    let Some(list) = ReadList::read(snapshot, project, MAX_VALUES).await? else { return Ok(None) };
    let most = MAX_VALUES / needed.len();
    let reader = IndexColumnReader { evaluation, snapshot, project, list: &list, most };
    let columns = needed.paths.iter().map(|path| reader.param(path));
    let (columns, names, runs, archived) = futures::future::try_join4(
        futures::future::try_join_all(columns),
        async { if needed.name { reader.names().await.map(|column| vec![column]) } else { Ok(Vec::new()) } },
        read_all_runs(evaluation, snapshot, project, &list),
        read_runs(evaluation, snapshot, keys::index_archived_all(project, true)),
    )
    .await?;
    // The names are the last column.
    let columns: Option<Vec<IndexColumn>> = columns.into_iter().chain(names).collect();
    let (Some(columns), Some(runs), Some(archived)) = (columns, runs, archived) else { return Ok(None) };
    Ok(Some(ColumnRows { columns, runs, archived }))
}

/// Reads columns of a project. A column is `None` if it has more than `most` rows, or is not known.
struct IndexColumnReader<'r> {
    evaluation: &'r Evaluation,
    snapshot: &'r dyn Snapshot,
    project: Project,
    /// Runs whose params are only in documents: they get no value.
    list: &'r ReadList,
    most: usize,
}

impl IndexColumnReader<'_> {
    /// The values of a param.
    async fn param(&self, path: &KeyPath) -> Result<Option<IndexColumn>> {
        let path: Vec<Cow<'_, str>> = path.keys().iter().map(|key| Cow::Borrowed(&**key)).collect();
        let mut reader = ParamReader::new(self.project, &path).with_list(self.list.clone());
        let mut column = IndexColumn::default();
        while let Some(page) = reader.next(self.snapshot).await? {
            let add =
                move || page.visit(&mut |number, value| column.push(number, value.as_ref())).map(|()| column);
            let Some(added) = undamaged(self.evaluation.run(add).await?)? else { return Ok(None) };
            column = added;
            if column.len() > self.most {
                return Ok(None);
            }
        }
        self.sorted(column).await.map(Some)
    }

    /// The names of the runs.
    async fn names(&self) -> Result<Option<IndexColumn>> {
        let project = self.project;
        self.read(keys::index_names(project), move |column, page| column.add_names(project, page)).await
    }

    async fn read(
        &self,
        rows: Range,
        add: impl Fn(&mut IndexColumn, &[(Key, Value)]) -> matyan_store::Result<()> + Clone + Send + 'static,
    ) -> Result<Option<IndexColumn>> {
        let mut column = IndexColumn::default();
        let mut rest = Some(rows);
        while let Some(range) = rest {
            let page = self.snapshot.scan(&range, matyan_store::Scan::default()).await?;
            rest = page.rows.last().filter(|_| page.more).map(|(last, _)| range.after(last));
            if column.len() + page.rows.len() > self.most {
                return Ok(None);
            }
            let add = add.clone();
            column = self.evaluation.run(move || add(&mut column, &page.rows).map(|()| column)).await??;
        }
        self.sorted(column).await.map(Some)
    }

    async fn sorted(&self, mut column: IndexColumn) -> Result<IndexColumn> {
        let sort = move || {
            column.sort();
            column
        };
        self.evaluation.run(sort).await
    }
}

/// The runs of a project, in any order; `None` if there are too many, or a cohort is damaged. Some may be deleted. Reading which
/// runs are in cohorts takes a fraction of the time that reading an index of them takes.
async fn read_all_runs(
    evaluation: &Evaluation,
    snapshot: &dyn Snapshot,
    project: Project,
    list: &ReadList,
) -> Result<Option<Vec<RunNumber>>> {
    // Until a migration has reached all runs, only the index has them.
    if !format_has_every_run(snapshot).await? {
        return read_runs(evaluation, snapshot, keys::index_archived_all(project, false)).await;
    }
    let mut runs: Vec<RunNumber> = list.runs().iter().copied().collect();
    let mut rest = Some(keys::cohorts(CohortKind::Params, project));
    while let Some(range) = rest {
        let page = snapshot.scan(&range, matyan_store::Scan::default()).await?;
        rest = page.rest(&range);
        let members = evaluation.run(move || param_members(&page.rows)).await?;
        let Some(members) = undamaged(members)? else { return Ok(None) };
        runs.extend(members);
        if runs.len() > MAX_VALUES {
            return Ok(None);
        }
    }
    let with_rows = if list.may_have_index_rows() {
        read_runs(evaluation, snapshot, keys::indexed_params_all(project)).await?
    } else {
        Some(Vec::new())
    };
    let hidden = read_runs(evaluation, snapshot, keys::index_binned_all(project)).await?;
    let (Some(with_rows), Some(hidden)) = (with_rows, hidden) else { return Ok(None) };
    runs.extend(with_rows);
    if !hidden.is_empty() {
        let hidden: HashSet<RunNumber> = hidden.into_iter().collect();
        runs.retain(|number| !hidden.contains(number));
    }
    Ok(Some(runs))
}

/// The runs of an index range; `None` if there are too many.
async fn read_runs(
    evaluation: &Evaluation,
    snapshot: &dyn Snapshot,
    range: Range,
) -> Result<Option<Vec<RunNumber>>> {
    let mut runs = Vec::new();
    let mut rest = Some(range);
    while let Some(range) = rest {
        let page = snapshot.scan(&range, matyan_store::Scan::default()).await?;
        rest = page.rows.last().filter(|_| page.more).map(|(last, _)| range.after(last));
        if runs.len() + page.rows.len() > MAX_VALUES {
            return Ok(None);
        }
        runs.extend(evaluation.run(move || index_rows_runs(&page.rows)).await??);
    }
    Ok(Some(runs))
}

struct Columns {
    needed: NeededColumns,
    columns: Vec<IndexColumn>,
}

impl Columns {
    fn start(&self, runs: &[(RunNumber, bool)]) -> ColumnProgress {
        let positions = match runs.first() {
            Some((first, _)) => self.columns.iter().map(|column| column.position(*first)).collect(),
            None => Vec::new(),
        };
        ColumnProgress { at: 0, positions, found: ColumnVerdicts::default() }
    }

    /// Continues for a slice, with all steps of `limits`. Returns `None` if the query exceeds a limit,
    /// and the steps left.
    fn evaluate(
        &self,
        mut evaluator: Evaluator<'_>,
        limits: QueryLimits,
        runs: &[(RunNumber, bool)],
        mut progress: ColumnProgress,
    ) -> (Option<ColumnProgress>, u64) {
        let started = progress.at;
        let mut values = vec![None; self.columns.len()];
        for (number, archived) in &runs[started..] {
            let steps = limits.steps_in_total - evaluator.steps_left();
            if steps > SLICE_STEPS || (progress.at - started) as u64 > SLICE_VERDICTS {
                break;
            }
            let columns = self.columns.iter().zip(&mut progress.positions);
            for (value, (column, position)) in values.iter_mut().zip(columns) {
                *value = column.value_at(position, *number);
            }
            let row = ColumnRow {
                paths: &self.needed.paths,
                values: &values,
                name: values.last().copied().flatten().filter(|_| self.needed.name),
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

/// The evaluation of runs as far as it has come.
struct ColumnProgress {
    /// Number of runs evaluated.
    at: usize,
    /// Positions of the next run in the columns.
    positions: Vec<usize>,
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
    use matyan_model::index::Scalar;
    use matyan_ql::{QueryOptions, compile};
    use matyan_store::{Batch, Store, embedded::EmbeddedStore};

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
        let snapshot = store.snapshot().await.unwrap();
        evaluate(&Evaluation::start(2).unwrap(), snapshot.as_ref(), scan).await.unwrap()
    }

    #[test]
    fn runs_are_ascending_and_archived_or_not() {
        let numbers = |numbers: &[u64]| numbers.iter().copied().map(RunNumber).collect::<Vec<_>>();
        let flagged = flag_runs(numbers(&[7, 3, 9, 3, 1]), numbers(&[2, 3, 8]), |number| number.0 < 9);
        let expected = [(1, false), (2, true), (3, true), (7, false), (8, true)];
        assert_eq!(flagged, expected.map(|(number, is_archived)| (RunNumber(number), is_archived)));
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
