//! Scans without documents. Once a search has read some documents without finding enough, it
//! reads the params named by its query from their indexes, a hundredth of the bytes, and
//! evaluates the query on those. Runs that do not match are dropped; the rest are checked
//! against their documents, as after any index. A document is also needed if the query reads a
//! value that no column has, such as the run's name or a param that is a list. If that is true
//! of many runs, the scan of documents continues instead.

use std::{borrow::Cow, cell::Cell, sync::Arc};

use matyan_model::{
    ids::{Project, RunNumber},
    index::{IndexedValue, ParamColumn, index_rows_runs, is_indexed_path},
    keys,
};
use matyan_ql::{Datum, Endpoint, KeyPath, NeedSet, Outcome, Query, QueryLimits, RunView, SequenceView};
use matyan_store::{Error as StoreError, Key, Range, Snapshot};

use super::filter::VerdictCounts;
use crate::{
    error::{Error, Result},
    evaluation::{Evaluation, SLICE_STEPS, SLICE_VERDICTS},
};

/// Maximum number of params in the query.
const MAX_PATHS: usize = 4;
/// Maximum number of their values in memory: 24 bytes each, plus strings.
const MAX_VALUES: usize = 500_000;
/// Scanning documents is cheaper than fetching one in this many.
const FETCH_FROM: usize = 8;
/// Number of runs that are evaluated first, to see how many of them remain. They are of all ages,
/// because runs of the same period often resemble each other.
const TRIED: usize = 1_000;

/// The result of evaluating a scan on columns.
pub(super) struct ColumnVerdicts {
    /// Runs to check against their documents, ascending.
    pub(super) remaining: Vec<RunNumber>,
    /// Verdicts on all other runs.
    pub(super) verdicts: VerdictCounts,
    pub(super) steps_left: u64,
}

impl ColumnVerdicts {
    /// Whether scanning all documents costs less than fetching those of the runs that remain of `evaluated`.
    fn is_scan_cheaper(&self, evaluated: usize) -> bool {
        self.remaining.len() > evaluated.max(TRIED) / FETCH_FROM
    }
}

/// The params a query reads, if columns can evaluate it; `None` if it reads more than params.
pub(super) fn paths(query: &Query) -> Option<Vec<KeyPath>> {
    let needs = query.needs();
    let NeedSet::Only(paths) = &needs.params else { return None };
    let is_of_params = query.options().endpoint == Endpoint::Run
        && needs.sequences.is_empty()
        && (1..=MAX_PATHS).contains(&paths.len())
        && paths.iter().all(|path| is_indexed_path(path.keys()));
    is_of_params.then(|| paths.iter().cloned().collect())
}

/// The remainder of a scan of documents.
pub(super) struct RemainingScan {
    pub(super) project: Project,
    pub(super) query: Arc<Query>,
    /// The result of `paths`.
    pub(super) paths: Vec<KeyPath>,
    /// Only documents before this key remain to be read.
    pub(super) end: Key,
    pub(super) limits: QueryLimits,
}

/// Evaluates the query on columns. Returns `None` if the documents have to be scanned.
pub(super) async fn evaluate(
    evaluation: &Evaluation,
    snapshot: &dyn Snapshot,
    scan: RemainingScan,
) -> Result<Option<ColumnVerdicts>> {
    match try_evaluate(evaluation, snapshot, scan).await {
        // There is too much data for one snapshot; documents can be read from many.
        Err(Error::Store(StoreError::SnapshotTooOld)) => Ok(None),
        verdicts => verdicts,
    }
}

async fn try_evaluate(
    evaluation: &Evaluation,
    snapshot: &dyn Snapshot,
    scan: RemainingScan,
) -> Result<Option<ColumnVerdicts>> {
    let RemainingScan { project, query, paths, end, limits } = scan;
    let most = MAX_VALUES / paths.len();
    let columns = paths.iter().map(|path| read_column(evaluation, snapshot, project, path, most));
    let (columns, shown, archived) = futures::future::try_join3(
        futures::future::try_join_all(columns),
        read_runs(evaluation, snapshot, keys::index_archived_all(project, false)),
        read_runs(evaluation, snapshot, keys::index_archived_all(project, true)),
    )
    .await?;
    let columns: Option<Vec<ParamColumn>> = columns.into_iter().collect();
    let (Some(columns), Some(shown), Some(archived)) = (columns, shown, archived) else { return Ok(None) };
    let columns = Arc::new(Columns { paths, columns });
    let mut all: Vec<(RunNumber, bool)> = shown.into_iter().map(|number| (number, false)).collect();
    all.extend(archived.into_iter().map(|number| (number, true)));
    all.sort_unstable();
    all.truncate(all.partition_point(|(number, _)| keys::document(project, *number) < end));
    let part = async |runs: Vec<(RunNumber, bool)>, steps: u64| -> Result<Option<ColumnVerdicts>> {
        let runs: Arc<[(RunNumber, bool)]> = runs.into();
        let limits = QueryLimits { steps_in_total: steps, ..limits };
        let mut progress = columns.begin(limits, &runs);
        while progress.at < runs.len() {
            let (columns, query, runs) = (columns.clone(), query.clone(), runs.clone());
            let sliced = evaluation.run(move || columns.evaluate(&query, limits, &runs, progress));
            match sliced.await? {
                Some(next) => progress = next,
                None => return Ok(None),
            }
        }
        let ColumnProgress { remaining, verdicts, steps_left, .. } = progress;
        Ok(Some(ColumnVerdicts { remaining, verdicts, steps_left }))
    };
    let count = all.len();
    let [tried, mut others] = split_sample(all);
    let tried_count = tried.len();
    let Some(mut found) = part(tried, limits.steps_in_total).await? else { return Ok(None) };
    if found.is_scan_cheaper(tried_count) {
        return Ok(None);
    }
    // Two threads evaluate one half each, with half of the budget.
    let (second, steps) = (others.split_off(others.len() / 2), found.steps_left / 2);
    let (first, second) = futures::future::try_join(part(others, steps), part(second, steps)).await?;
    let (Some(first), Some(second)) = (first, second) else { return Ok(None) };
    found.steps_left = 0;
    for half in [first, second] {
        found.remaining.extend(half.remaining);
        found.verdicts.add(half.verdicts);
        found.steps_left += half.steps_left;
    }
    found.remaining.sort_unstable();
    Ok((!found.is_scan_cheaper(count)).then_some(found))
}

/// Evenly spaced runs, about `TRIED` of them, and the others.
fn split_sample(all: Vec<(RunNumber, bool)>) -> [Vec<(RunNumber, bool)>; 2] {
    let distance = (all.len() / TRIED).max(1);
    let (sample, others): (Vec<_>, Vec<_>) =
        all.into_iter().enumerate().partition(|(index, _)| index.is_multiple_of(distance));
    let runs = |runs: Vec<(usize, (RunNumber, bool))>| runs.into_iter().map(|(_, run)| run).collect();
    [runs(sample), runs(others)]
}

/// A param's values for all runs; `None` if more than `most` runs have it.
async fn read_column(
    evaluation: &Evaluation,
    snapshot: &dyn Snapshot,
    project: Project,
    path: &KeyPath,
    most: usize,
) -> Result<Option<ParamColumn>> {
    let path: Vec<Cow<'_, str>> = path.keys().iter().map(|key| Cow::Borrowed(&**key)).collect();
    let all = keys::index_param_path(project, &path);
    let (mut column, mut rest) = (ParamColumn::default(), Some(all.clone()));
    while let Some(range) = rest {
        let page = snapshot.scan(&range, matyan_store::Scan::default()).await?;
        rest = page.rows.last().filter(|_| page.more).map(|(last, _)| range.after(last));
        if column.len() + page.rows.len() > most {
            return Ok(None);
        }
        let all = all.clone();
        column = evaluation.run(move || column.add(&all, &page.rows).map(|()| column)).await??;
    }
    let sorted = evaluation.run(move || {
        column.sort();
        column
    });
    sorted.await.map(Some)
}

/// The runs of an index range; `None` if there are too many.
async fn read_runs(
    evaluation: &Evaluation,
    snapshot: &dyn Snapshot,
    range: Range,
) -> Result<Option<Vec<RunNumber>>> {
    let (mut runs, mut rest) = (Vec::new(), Some(range));
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
    paths: Vec<KeyPath>,
    columns: Vec<ParamColumn>,
}

impl Columns {
    fn begin(&self, limits: QueryLimits, runs: &[(RunNumber, bool)]) -> ColumnProgress {
        let positions = match runs.first() {
            Some((first, _)) => self.columns.iter().map(|column| column.position(*first)).collect(),
            None => Vec::new(),
        };
        ColumnProgress {
            at: 0,
            positions,
            remaining: Vec::new(),
            verdicts: VerdictCounts::default(),
            steps_left: limits.steps_in_total,
        }
    }

    /// Continues for a slice. Returns `None` if the query exceeds its budget.
    fn evaluate(
        &self,
        query: &Query,
        limits: QueryLimits,
        runs: &[(RunNumber, bool)],
        mut progress: ColumnProgress,
    ) -> Option<ColumnProgress> {
        let limits = QueryLimits { steps_in_total: progress.steps_left, ..limits };
        let mut evaluator = query.evaluator(limits);
        let begun = progress.at;
        let mut values = vec![None; self.paths.len()];
        for (number, archived) in &runs[begun..] {
            let steps = limits.steps_in_total - evaluator.steps_left();
            if steps > SLICE_STEPS || (progress.at - begun) as u64 > SLICE_VERDICTS {
                break;
            }
            let columns = self.columns.iter().zip(&mut progress.positions);
            for (value, (column, position)) in values.iter_mut().zip(columns) {
                *value = column.value_at(position, *number);
            }
            let row = ColumnRow {
                paths: &self.paths,
                values: &values,
                archived: *archived,
                needs_document: Cell::new(false),
            };
            let outcome = evaluator.run(&row).ok()?;
            if row.needs_document.get() || outcome == Outcome::Match {
                progress.remaining.push(*number);
            } else {
                progress.verdicts.record(outcome);
            }
            progress.at += 1;
        }
        progress.steps_left = evaluator.steps_left();
        Some(progress)
    }
}

/// The evaluation of runs as far as it has come.
struct ColumnProgress {
    /// Number of runs evaluated.
    at: usize,
    /// Positions of the next run in the columns.
    positions: Vec<usize>,
    remaining: Vec<RunNumber>,
    verdicts: VerdictCounts,
    steps_left: u64,
}

/// A run as seen through the columns.
struct ColumnRow<'c> {
    paths: &'c [KeyPath],
    values: &'c [Option<IndexedValue<'c>>],
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
        self.unknown()
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

    fn param(&self, path: &KeyPath) -> Option<Datum<'_>> {
        let known =
            self.paths.iter().position(|known| known == path).and_then(|position| self.values[position]);
        match known {
            Some(IndexedValue::Null) => Some(Datum::None),
            Some(IndexedValue::Bool(value)) => Some(Datum::Bool(value)),
            Some(IndexedValue::Integer(value)) => Some(Datum::Int(value)),
            Some(IndexedValue::Float(value)) => Some(Datum::Float(value)),
            Some(IndexedValue::Text(text)) => Some(Datum::Text(Cow::Borrowed(text))),
            None => self.unknown(),
        }
    }

    fn sequences(&self, _: &str) -> Vec<&dyn SequenceView> {
        self.unknown()
    }
}
