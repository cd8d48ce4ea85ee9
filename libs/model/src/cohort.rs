//! Cohorts: runs whose values are stored together, in a row for each metric, or for each param, so that a list
//! that is sorted by one of them does not read a row of every run. Cohorts of metrics and cohorts of params have
//! the same rows and rules; this file says what they are for metrics, and `param_cohort` where params differ.
//!
//! The summaries of series decide. A run is in the list of uncollected runs from the transaction on that
//! changes a summary or a name of its series, and until a cohort has taken its values; while it is in this
//! list, or has blocks that are not folded, or is a branch, readers ignore its values in cohorts. So a
//! reader must read these lists before it reads cohorts: a run that leaves the list later is in a cohort by
//! then, and a run that joins it later has changed since.
//!
//! A cohort takes values in steps. [`cohort_begin`] replaces the rows of its runs in the list by a token.
//! Then [`CohortValues`] reads and writes the values, and [`cohort_shorten`] leaves out the runs whose values do
//! not fit. [`cohort_admit`] makes members of the runs that still have the token: the values of other runs have
//! changed in the meantime, and readers ignore the values of these runs in the cohort. An interrupted cohort has no
//! members, and is cleared. A row of values never changes once a run is a member, and a run never moves to an
//! earlier cohort. So a reader that reads cohorts in their order, with a snapshot for each page, misses no run.
//!
//! The caller must hold a lock: two cohorts that take values of one run at the same time would mix them.

mod collect;

use std::collections::{BTreeMap, btree_map::Entry};

use matyan_store::{Batch, Range, Result, Scan, Snapshot, Transaction, Value};

pub use self::collect::{CohortValues, cohort_runs_due};
use crate::{
    ids::{CohortNumber, Project, RunNumber},
    keys, rows,
    series::{CohortColumn, CohortRuns},
    uncollected::UncollectedList,
};
pub use crate::{
    keys::CohortKind,
    series::{COHORT_RUNS, MetricStatistic},
};

/// Values of runs on their way to the rows of a cohort.
pub trait CohortSource: Send {
    /// Reads some of the values, from a snapshot that must be more recent than the start of the cohort. Returns false
    /// once the cohort takes no more.
    fn read(&mut self, snapshot: &dyn Snapshot) -> impl Future<Output = Result<bool>> + Send;

    /// Whether the values must be written before more are read.
    fn is_full(&self) -> bool;

    /// Takes values out, and writes them to a batch of limited size. Returns true once none are left.
    fn write(&mut self, batch: &mut Batch) -> bool;

    /// The number of runs that the cohort takes, once everything is read. The values of the others do not
    /// fit.
    fn runs(&self) -> usize;

    /// Whether the cohort takes all its runs.
    fn is_complete(&self) -> bool;

    /// The runs of the cohort that cannot be read.
    fn damaged(&self) -> &[RunNumber];
}

/// Lists a run whose summaries or names of series change in this transaction.
pub(crate) async fn uncollected_put(
    snapshot: &dyn Snapshot,
    batch: &mut Batch,
    project: Project,
    number: RunNumber,
) -> Result<()> {
    let list = UncollectedList::read(snapshot, CohortKind::Metrics, project).await?;
    list.put(batch, number, Vec::new());
    Ok(())
}

/// The value of the row of a run whose values a cohort is about to take.
fn token(cohort: CohortNumber) -> Value {
    rows::encode(&cohort.0)
}

async fn cohort_get(
    transaction: &Transaction,
    kind: CohortKind,
    project: Project,
    cohort: CohortNumber,
) -> Result<Option<CohortRuns>> {
    let key = keys::cohort(kind, project, cohort);
    let value = transaction.get(&key).await?;
    value.map(|value| CohortRuns::decode(&value).map_err(|malformed| malformed.at(&key))).transpose()
}

fn cohort_put(
    batch: &mut Batch,
    kind: CohortKind,
    project: Project,
    cohort: CohortNumber,
    runs: &CohortRuns,
) {
    batch.set(keys::cohort(kind, project, cohort), runs.encode());
}

/// A number for the next cohort: the time, or more if a cohort has a later number.
pub async fn cohort_number_next(
    snapshot: &dyn Snapshot,
    kind: CohortKind,
    project: Project,
    now_us: i64,
) -> Result<CohortNumber> {
    let all = keys::cohorts(kind, project);
    let scan = Scan { rows: 1, reverse: true, keys_only: true, ..Scan::DEFAULT };
    let last = match snapshot.scan(&all, scan).await?.rows.first() {
        Some((key, _)) => keys::tail::<(u64,)>(&all.start, key)?.0,
        None => 0,
    };
    Ok(CohortNumber(u64::try_from(now_us).unwrap_or_default().max(last + 1)))
}

/// Creates a cohort without members of runs in ascending order, and marks the runs, so that
/// [`cohort_admit`] sees which of them have changed since. Leaves out runs that were deleted since they
/// were found. Returns the runs.
pub async fn cohort_begin(
    transaction: &mut Transaction,
    kind: CohortKind,
    project: Project,
    cohort: CohortNumber,
    numbers: &[RunNumber],
) -> Result<Vec<RunNumber>> {
    let list = UncollectedList::read(transaction.unchecked(), kind, project).await?;
    let keys: Vec<_> = numbers
        .iter()
        .flat_map(|number| {
            let listed = list.key(*number);
            [keys::dead_run(project, *number), listed, keys::run_cohort(kind, project, *number)]
        })
        .collect();
    let values = transaction.unchecked().get_many(&keys).await?;
    let since = transaction.version();
    let mut live = Vec::with_capacity(numbers.len());
    let rows = keys.chunks_exact(3).zip(values.chunks_exact(3));
    for (number, (keys, values)) in numbers.iter().zip(rows) {
        // The rows of a deleted run are cleared, and must not be written again, even if its sweep has ended in the meantime.
        // A run that changes is no conflict, because its values are read later: many runs may change all the time.
        transaction.batch().expect_unchanged(Range::prefix(keys[0].clone()), since);
        if let [None, Some(_), _] | [None, _, Some(_)] = values {
            live.push(*number);
        }
    }
    let batch = transaction.batch();
    list.check(batch);
    for number in &live {
        batch.set(list.key(*number), token(cohort));
    }
    cohort_put(batch, kind, project, cohort, &CohortRuns::new(live.clone()));
    Ok(live)
}

/// Leaves out all but the first runs of a cohort without members: another cohort takes the values of the others.
pub async fn cohort_shorten(
    transaction: &mut Transaction,
    kind: CohortKind,
    project: Project,
    cohort: CohortNumber,
    runs: usize,
) -> Result<()> {
    if let Some(mut shortened) = cohort_get(transaction, kind, project, cohort).await? {
        shortened.truncate(runs);
        cohort_put(transaction.batch(), kind, project, cohort, &shortened);
    }
    Ok(())
}

/// The cohorts that runs leave in a transaction. `None` for a cohort that is damaged, or has been cleared.
#[derive(Default)]
struct LeftCohorts(BTreeMap<CohortNumber, Option<CohortRuns>>);

impl LeftCohorts {
    async fn leave(
        &mut self,
        transaction: &Transaction,
        kind: CohortKind,
        project: Project,
        cohort: CohortNumber,
        number: RunNumber,
    ) -> Result<()> {
        let runs = match self.0.entry(cohort) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(unread) => {
                let runs = rows::readable(cohort_get(transaction, kind, project, cohort).await)?;
                unread.insert(runs.flatten())
            }
        };
        // Readers do without a damaged cohort, so its runs need not leave it.
        if let Some(runs) = runs {
            runs.set_member(number, false);
        }
        Ok(())
    }

    fn put(&self, batch: &mut Batch, kind: CohortKind, project: Project) {
        for (cohort, runs) in &self.0 {
            if let Some(runs) = runs {
                cohort_put(batch, kind, project, *cohort, runs);
            }
        }
    }
}

/// A run that has not changed since its cohort began.
struct UnchangedRun {
    number: RunNumber,
    /// The cohort that the run is in. `None` if its row is damaged.
    earlier: Option<Option<CohortNumber>>,
}

/// The runs that have not changed since the cohort began, and may not before the commit. The others may change at any time:
/// otherwise, runs that change all the time would delay all.
async fn unchanged_runs(
    transaction: &mut Transaction,
    list: &UncollectedList,
    (kind, project): (CohortKind, Project),
    cohort: CohortNumber,
    numbers: &[RunNumber],
) -> Result<Vec<UnchangedRun>> {
    let keys: Vec<_> = numbers
        .iter()
        .flat_map(|number| [list.key(*number), keys::run_cohort(kind, project, *number)])
        .collect();
    let values = transaction.unchecked().get_many(&keys).await?;
    let unchanged = Some(token(cohort));
    let mut runs = Vec::with_capacity(numbers.len());
    for (number, (keys, values)) in numbers.iter().zip(keys.chunks_exact(2).zip(values.chunks_exact(2))) {
        if values[0] != unchanged {
            continue;
        }
        for (key, value) in keys.iter().zip(values) {
            transaction.batch().expect(key.clone(), value.clone());
        }
        let earlier = match &values[1] {
            Some(value) => {
                rows::readable(rows::decode(&keys[1], value))?.map(|earlier| Some(CohortNumber(earlier)))
            }
            None => Some(None),
        };
        runs.push(UnchangedRun { number: *number, earlier });
    }
    Ok(runs)
}

/// Makes runs members of a cohort whose values are written, unless they have changed since
/// [`cohort_begin`]. They leave the cohorts that they were in. Returns the number of members that the cohort gets.
pub async fn cohort_admit(
    transaction: &mut Transaction,
    kind: CohortKind,
    project: Project,
    cohort: CohortNumber,
    numbers: &[RunNumber],
) -> Result<usize> {
    let Some(mut runs) = cohort_get(transaction, kind, project, cohort).await? else { return Ok(0) };
    let mut left = LeftCohorts::default();
    let mut admitted = Vec::with_capacity(numbers.len());
    let list = UncollectedList::read(transaction.unchecked(), kind, project).await?;
    for run in unchanged_runs(transaction, &list, (kind, project), cohort, numbers).await? {
        // A run whose earlier cohort is unknown cannot leave it, so the run stays uncollected.
        let Some(earlier) = run.earlier else { continue };
        if !runs.set_member(run.number, true) {
            continue;
        }
        admitted.push(run.number);
        if let Some(earlier) = earlier {
            left.leave(transaction, kind, project, earlier, run.number).await?;
        }
    }
    let batch = transaction.batch();
    list.check(batch);
    list.count_left(batch, admitted.len());
    for number in &admitted {
        batch.clear(list.key(*number));
        batch.set(keys::run_cohort(kind, project, *number), rows::encode(&cohort.0));
    }
    left.put(batch, kind, project);
    cohort_put(batch, kind, project, cohort, &runs);
    Ok(admitted.len())
}

/// Takes runs whose values cannot be read out of the cohorts that they are in, unless they have changed since
/// [`cohort_begin`]. They stay in the list, so readers miss nothing. Otherwise their cohorts would be written again and again
/// for the values that other runs have left there.
pub async fn cohort_expel(
    transaction: &mut Transaction,
    kind: CohortKind,
    project: Project,
    cohort: CohortNumber,
    numbers: &[RunNumber],
) -> Result<()> {
    let mut left = LeftCohorts::default();
    let list = UncollectedList::read(transaction.unchecked(), kind, project).await?;
    for run in unchanged_runs(transaction, &list, (kind, project), cohort, numbers).await? {
        if let Some(Some(earlier)) = run.earlier {
            transaction.batch().clear(keys::run_cohort(kind, project, run.number));
            left.leave(transaction, kind, project, earlier, run.number).await?;
        }
    }
    left.put(transaction.batch(), kind, project);
    Ok(())
}

/// Removes a deleted run from its cohort of a kind, and from the list of uncollected runs. Returns false if it was in
/// neither.
pub(crate) async fn cohort_leave(
    transaction: &mut Transaction,
    kind: CohortKind,
    project: Project,
    number: RunNumber,
) -> Result<bool> {
    let key = keys::run_cohort(kind, project, number);
    let value = transaction.get(&key).await?;
    let list = UncollectedList::read(transaction.unchecked(), kind, project).await?;
    let mut removed = Batch::default();
    let is_listed = list.remove(transaction.unchecked(), &mut removed, number).await?;
    transaction.batch().append(removed);
    let Some(value) = value else { return Ok(is_listed) };
    transaction.batch().clear(key.clone());
    // A damaged row stays as it is: the other rows of the run do not wait for that.
    if let Some(cohort) = rows::readable(rows::decode(&key, &value))?.map(CohortNumber)
        && let Some(Some(mut runs)) = rows::readable(cohort_get(transaction, kind, project, cohort).await)?
        && runs.set_member(number, false)
    {
        cohort_put(transaction.batch(), kind, project, cohort, &runs);
    }
    Ok(true)
}

/// A cohort with its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CohortMembers {
    pub cohort: CohortNumber,
    /// Number of runs that the cohort was made of.
    pub runs: usize,
    pub members: Vec<RunNumber>,
}

/// Cohorts to read at a time: their runs, and their values of one metric, take up to 3 MB.
pub const PAGE_COHORTS: usize = 64;

/// A page of cohorts, and the range of the rest; `keys::cohorts` is the range of the first page. Damaged
/// cohorts are left out.
pub async fn cohorts_page(
    snapshot: &dyn Snapshot,
    kind: CohortKind,
    project: Project,
    range: &Range,
) -> Result<(Vec<CohortMembers>, Option<Range>)> {
    let all = keys::cohorts(kind, project);
    let page = snapshot.scan(range, Scan { rows: PAGE_COHORTS, ..Scan::default() }).await?;
    let mut cohorts = Vec::with_capacity(page.rows.len());
    for (key, value) in &page.rows {
        let (cohort,) = keys::tail(&all.start, key)?;
        let runs = CohortRuns::decode(value).map_err(|malformed| malformed.at(key));
        let Some(runs) = rows::readable(runs)? else { continue };
        let members = runs.members().collect();
        cohorts.push(CohortMembers { cohort: CohortNumber(cohort), runs: runs.len(), members });
    }
    Ok((cohorts, page.rest(range)))
}

/// Whether a project has cohorts of metrics.
pub async fn has_cohorts(snapshot: &dyn Snapshot, project: Project) -> Result<bool> {
    let scan = Scan { rows: 1, keys_only: true, ..Scan::DEFAULT };
    Ok(!snapshot.scan(&keys::cohorts(CohortKind::Metrics, project), scan).await?.rows.is_empty())
}

/// Values of a metric in the members of cohorts.
#[derive(Debug)]
pub struct CollectedPage {
    /// NaN for a series without such a value.
    pub values: Vec<(RunNumber, f64)>,
    /// The range of the rest.
    pub rest: Option<Range>,
}

/// A page of the values of a metric in cohorts; `keys::cohorts` is the range of the first page. Members without
/// the metric, or whose series has no points, are left out.
pub async fn collected_values_page(
    snapshot: &dyn Snapshot,
    project: Project,
    range: &Range,
    (name, digest): (&str, &[u8; 16]),
    statistic: MetricStatistic,
    cohorts: usize,
) -> Result<CollectedPage> {
    let all = keys::cohorts(CohortKind::Metrics, project);
    let scan = Scan { rows: cohorts, keys_only: true, ..Scan::DEFAULT };
    let page = snapshot.scan(range, scan).await?;
    let mut cohorts = Vec::with_capacity(page.rows.len());
    for (key, _) in &page.rows {
        let (cohort,) = keys::tail(&all.start, key)?;
        cohorts.push((key.clone(), keys::cohort_column(project, CohortNumber(cohort), name, digest)));
    }
    let columns: Vec<_> = cohorts.iter().map(|(_, column)| column.clone()).collect();
    let columns = snapshot.get_many(&columns).await?;
    let found = cohorts.into_iter().zip(columns);
    let found: Vec<_> =
        found.filter_map(|((key, column_key), value)| Some((key, column_key, value?))).collect();
    let keys: Vec<_> = found.iter().map(|(key, _, _)| key.clone()).collect();
    let mut values = Vec::new();
    for ((key, column_key, column), runs) in found.iter().zip(snapshot.get_many(&keys).await?) {
        let Some(runs) = runs else { continue };
        let runs = CohortRuns::decode(&runs).map_err(|malformed| malformed.at(key))?;
        let column = CohortColumn::read(column, statistic).map_err(|malformed| malformed.at(column_key))?;
        if column.last().is_some_and(|(at, _)| *at >= runs.len()) {
            return Err(rows::corrupt(column_key, &"it has more runs than its cohort"));
        }
        values.extend(column.into_iter().filter_map(|(at, value)| Some((runs.member_at(at)?, value))));
    }
    Ok(CollectedPage { values, rest: page.rest(range) })
}

/// Rows of a range cleared in one transaction.
const CLEARED: Scan = Scan { rows: 2_000, keys_only: true, ..Scan::DEFAULT };

/// Clears some rows of a range. Returns true once nothing is left.
pub(crate) async fn rows_clear(transaction: &mut Transaction, range: Range) -> Result<bool> {
    let page = transaction.unchecked().scan(&range, CLEARED).await?;
    if let Some((last, _)) = page.rows.last() {
        let end = range.after(last).start;
        transaction.batch().clear_range(Range::new(range.start, end));
    }
    Ok(!page.more)
}

/// Clears some rows of a cohort of metrics without members. Returns true once nothing is left.
pub async fn cohort_clear(
    transaction: &mut Transaction,
    project: Project,
    cohort: CohortNumber,
) -> Result<bool> {
    if !rows_clear(transaction, keys::cohort_columns(project, cohort)).await? {
        return Ok(false);
    }
    transaction.batch().clear(keys::cohort(CohortKind::Metrics, project, cohort));
    Ok(true)
}

/// Runs listed in one transaction.
const LISTED: Scan = Scan { rows: 500, keys_only: true, ..Scan::DEFAULT };

/// Lists a page of the runs of a project, whatever cohorts have of them. Returns the runs that have been in a
/// cohort, and the range of the rest; `keys::documents` is the range of the first page.
pub async fn runs_uncollect(
    transaction: &mut Transaction,
    kind: CohortKind,
    project: Project,
    range: &Range,
) -> Result<(Vec<RunNumber>, Option<Range>)> {
    let all = keys::documents(project);
    // Checked, so that the row is not written for a run that is deleted now.
    let page = transaction.scan(range, LISTED).await?;
    let list = UncollectedList::read(transaction.unchecked(), kind, project).await?;
    list.check(transaction.batch());
    let mut numbers = Vec::with_capacity(page.rows.len());
    for (key, _) in &page.rows {
        let (number,) = keys::tail(&all.start, key)?;
        numbers.push(RunNumber(number));
        transaction.batch().set(list.key(RunNumber(number)), Vec::new());
    }
    let cohorts: Vec<_> = numbers.iter().map(|number| keys::run_cohort(kind, project, *number)).collect();
    let cohorts = transaction.unchecked().get_many(&cohorts).await?;
    let collected = numbers.into_iter().zip(cohorts).filter(|(_, cohort)| cohort.is_some());
    Ok((collected.map(|(number, _)| number).collect(), page.rest(range)))
}

/// Clears some rows of all cohorts of metrics of a project, whose runs must be listed. Returns true once nothing is left. Columns
/// are cleared first: jobs clear cohorts without runs, and would not find columns without a cohort.
pub async fn cohorts_clear(transaction: &mut Transaction, project: Project) -> Result<bool> {
    for range in [keys::cohort_columns_all(project), keys::cohorts(CohortKind::Metrics, project)] {
        if !rows_clear(transaction, range).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
