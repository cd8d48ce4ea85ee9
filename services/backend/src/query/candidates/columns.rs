//! Scans without documents. Once a search has read some documents without finding enough, it
//! reads the params that its query names from columns, a few cohorts at a time, and the names of runs if it uses
//! them from their index: a hundredth of the bytes. It evaluates the query on these values. Runs that do not match are
//! dropped; the rest are checked against their documents, as after any index. A document is also
//! needed if the query reads a value that no column has, such as the run's tags or a param that is
//! a list. If that is true of many runs, the scan of documents continues instead.
//!
//! Runs whose params only documents have, and runs with index rows of an earlier format, are one group each. The other
//! groups are the runs of a few cohorts.

mod group;
mod whole_index;

use std::{
    borrow::Cow,
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
    index::{IndexColumn, is_indexed_path},
    keys,
    param_cohort::{CohortPage, ReadList, ReadRuns, param_cohort_numbers, undamaged},
    series::COHORT_RUNS,
};
use matyan_ql::{Endpoint, KeyPath, NeedSet, Query, QueryLimits};
use matyan_store::{Error as StoreError, Key, Range, Snapshot};
use tokio::sync::Mutex;

use self::{
    group::{GroupRules, RunGroup},
    whole_index::WholeIndexReader,
};
use super::filter::VerdictCounts;
use crate::{
    query::plan::RenewedSnapshot,
    server::{
        error::{Error, Result},
        evaluation::{Evaluation, SLICE_STEPS},
    },
};

/// Maximum number of columns of a query.
const MAX_COLUMNS: usize = 4;
/// Maximum number of rows of an index, or of a list of runs, in memory: 24 bytes each, plus strings.
const MAX_ROWS: usize = 500_000;
/// Cohorts that are evaluated at a time. They have up to 256 KiB of each param, and usually 4 kB.
const COHORTS: usize = 16;
/// Scanning documents is cheaper than fetching one in this many.
const FETCH_FROM: usize = 8;
/// A scan of fewer runs counts as a scan of this many, because fetching the documents of so few takes little time anyway.
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
    fn evaluated(&self) -> usize {
        self.remaining.len() + self.verdicts.evaluated as usize
    }

    /// Whether scanning the documents of `scanned` runs costs less than fetching the documents of the runs that remain.
    fn is_scan_cheaper(&self, scanned: usize) -> bool {
        self.remaining.len() > scanned.max(FEW_RUNS) / FETCH_FROM
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
    let verdicts = match try_evaluate(evaluation, snapshot, scan, &budget).await {
        // The store is too slow for a page of cohorts. Pages of documents can be smaller.
        Err(Error::Store(StoreError::SnapshotTooOld)) => None,
        verdicts => verdicts?,
    };
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
    let indexes = WholeIndexReader { evaluation, snapshot, project };
    let Some(runs) = ScannedRuns::read(&indexes, list.clone(), &scan).await? else { return Ok(None) };
    let groups = GroupReader { indexes, budget, rules: Arc::new(GroupRules { scan, runs }) };

    let Some(mut found) = groups.evaluate_listed().await? else { return Ok(None) };
    if found.is_scan_cheaper(found.evaluated() + cohorts.len() * COHORT_RUNS) {
        return Ok(None);
    }
    let (tried, others) = split_sample(project, &cohorts);
    let Some(sample) = groups.evaluate_cohorts(tried).await? else { return Ok(None) };
    if sample.is_scan_cheaper(sample.evaluated()) {
        return Ok(None);
    }
    found.add(sample);
    let Some(rest) = groups.evaluate_cohorts(others).await? else { return Ok(None) };
    found.add(rest);
    if snapshot.version() != version {
        // A run that has changed since the list was read may no longer have index rows, or be in its cohort.
        let Some(listed) = ReadList::read(snapshot, project, MAX_ROWS).await? else { return Ok(None) };
        let changed = listed.runs().difference(list.runs()).copied();
        found.remaining.extend(changed.filter(|number| groups.rules.is_in_scan(*number)));
    }
    if found.is_scan_cheaper(found.evaluated()) {
        return Ok(None);
    }
    found.remaining.sort_unstable();
    found.remaining.dedup();
    Ok(Some(found))
}

/// The ranges of `TRIED` evenly spaced cohorts, and the ranges of all others. The others start with the range of the newest
/// cohorts, which includes cohorts that are made later. If there are few cohorts, none are tried.
fn split_sample(project: Project, cohorts: &[CohortNumber]) -> (Vec<Range>, Vec<Range>) {
    let all = keys::cohorts(CohortKind::Params, project);
    let distance = cohorts.len() / TRIED;
    let count = if distance > 1 { TRIED } else { 0 };
    let tried = cohorts.iter().step_by(distance.max(1)).take(count);
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
    async fn read(
        indexes: &WholeIndexReader<'_>,
        list: ReadList,
        scan: &RemainingScan,
    ) -> Result<Option<Self>> {
        let names = async {
            if scan.needed.name { indexes.names(MAX_ROWS).await } else { Ok(Some(IndexColumn::default())) }
        };
        let (archived, binned, names) = futures::try_join!(
            indexes.runs(keys::index_archived_all(scan.project, true), MAX_ROWS),
            indexes.runs(keys::index_binned_all(scan.project), MAX_ROWS),
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

/// Reads runs with their params, and evaluates the query on them.
struct GroupReader<'e> {
    indexes: WholeIndexReader<'e>,
    /// Steps that all groups have left together.
    budget: &'e AtomicU64,
    rules: Arc<GroupRules>,
}

impl GroupReader<'_> {
    /// Evaluates the runs that no cohort has; `None` if they are too many, or the query exceeds a limit.
    async fn evaluate_listed(&self) -> Result<Option<ColumnVerdicts>> {
        let GroupRules { scan, runs } = &*self.rules;
        let params = scan.needed.paths.iter().map(|_| IndexColumn::default()).collect();
        let listed = ReadRuns { runs: runs.list.runs().iter().copied().collect(), params };
        let Some(mut found) = self.evaluate(self.group(listed).await?).await? else { return Ok(None) };
        if runs.list.may_have_index_rows() {
            let with_rows = self.indexes.runs(keys::indexed_params_all(scan.project), MAX_ROWS).await?;
            let most = MAX_ROWS - runs.names.len();
            let params = self.indexes.params(&scan.needed.key_paths(), most).await?;
            let (Some(runs), Some(params)) = (with_rows, params) else { return Ok(None) };
            let with_rows = self.group(ReadRuns { runs, params }).await?;
            let Some(others) = self.evaluate(with_rows).await? else { return Ok(None) };
            found.add(others);
        }
        Ok(Some(found))
    }

    async fn group(&self, read: ReadRuns) -> Result<RunGroup> {
        let rules = self.rules.clone();
        self.indexes.evaluation.run(move || rules.group(read)).await
    }

    /// Evaluates the cohorts of some ranges, beginning with the last range. Returns `None` if a cohort is damaged, or the query
    /// exceeds a limit.
    async fn evaluate_cohorts(&self, ranges: Vec<Range>) -> Result<Option<ColumnVerdicts>> {
        let rest = Mutex::new(ranges);
        // Two threads evaluate one page each. A page is read while no other page is.
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
            let Some(found) = self.evaluate_page(page).await? else {
                // The other thread need not read them either.
                rest.lock().await.clear();
                return Ok(None);
            };
            all.add(found);
        }
    }

    /// The first cohorts of a range, and the range of the rest.
    async fn read_cohorts(
        &self,
        paths: &[Vec<Cow<'_, str>>],
        range: &Range,
    ) -> Result<(CohortPage, Option<Range>)> {
        let WholeIndexReader { snapshot, project, .. } = self.indexes;
        // Rows of a page must agree.
        let current = snapshot.current();
        let read = CohortPage::read(current.as_ref(), project, paths, range, COHORTS).await;
        if let Some(page) = snapshot.renew(read).await? {
            return Ok(page);
        }
        let current = snapshot.current();
        Ok(CohortPage::read(current.as_ref(), project, paths, range, COHORTS).await?)
    }

    async fn evaluate_page(&self, page: CohortPage) -> Result<Option<ColumnVerdicts>> {
        let rules = self.rules.clone();
        let decode = move || page.decode(rules.runs.list.runs()).map(|read| rules.group(read));
        match undamaged(self.indexes.evaluation.run(decode).await?)? {
            Some(group) => self.evaluate(group).await,
            None => Ok(None),
        }
    }

    /// Evaluates runs in slices on the threads of queries; `None` if the query exceeds a limit.
    async fn evaluate(&self, group: RunGroup) -> Result<Option<ColumnVerdicts>> {
        let limits = self.rules.scan.limits;
        let group = Arc::new(group);
        let mut progress = group.start(&self.rules);
        while !group.is_done(&progress) {
            let taken = take_steps(self.budget, limits);
            let limits = QueryLimits { steps_in_total: taken, ..limits };
            let rules = self.rules.clone();
            let group = group.clone();
            let slice = move |is_stopped: &dyn Fn() -> bool| {
                let evaluator = rules.scan.query.stoppable_evaluator(limits, is_stopped);
                group.evaluate(&rules, evaluator, limits, progress)
            };
            let (continued, steps_left) = self.indexes.evaluation.run_stoppable(slice).await?;
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

#[cfg(test)]
mod tests;
