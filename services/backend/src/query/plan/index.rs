//! The part of the planner that reads the store: which rows satisfy a probe, and how many there
//! are. Index rows may belong to deleted or changed runs; the documents decide.

use std::{collections::VecDeque, ops::Bound};

use matyan_model::{
    entity::entity_find,
    format::format_has_every_run,
    ids::{Project, RunId, RunNumber},
    index::{DocumentIndex, index_has_row, index_page_count},
    keys::{self, Counter, EntityKind, SeriesKind},
    param_cohort::ReadList,
    project::project_count,
    run::head_live,
};
use matyan_ql::{AccessPath, Interval, Plan, Probe, Statistics};
use matyan_store::{Error as StoreError, Range, Snapshot};

use super::{
    param_counter::{CountedColumns, ParamCounters},
    probed_param::ProbedParam,
};
use crate::server::{error::Result, run_samples::RunSamples};

/// Number of runs that a plan assumes if the counter is damaged.
pub(super) const ASSUMED_RUNS: u64 = 100_000;
/// Rows counted in the first and second rounds; the first finds a very selective probe quickly.
const COUNTED: [u64; 2] = [2_000, 10_000];
/// Rows counted for all probes of a plan together, because a query may have thousands of
/// probes.
const COUNTED_IN_ALL: u64 = 200_000;
/// Runs whose documents are read to know whether they match, in a project of any size, and at most.
const FEW_UNKNOWN: u64 = 2_048;
const MOST_UNKNOWN: u64 = 50_000;
/// A scan is cheaper for more than one in this many runs.
const SCAN_FROM: u64 = 6;
/// Rows read at a time.
pub(super) const PAGE: usize = 10_000;
/// Maximum length of a key, close to the limit of the store.
const MAX_KEY_BYTES: usize = 4_096;

/// The rows that satisfy a probe.
pub(super) enum ProbeRows {
    /// Runs known without an index.
    Runs(Vec<RunNumber>),
    Ranges(Vec<Range>),
    Param(ProbedParam),
}

/// The runs whose params only documents have.
#[derive(Clone, Default)]
struct ListedRuns {
    count: u64,
    /// `None` if they were not read, or are too many for an index.
    list: Option<ReadList>,
}

/// Row counts of the probes of a plan.
pub(crate) struct ProbeCounts<'p> {
    /// Number of runs; `None` if its counter is damaged.
    runs: Option<u64>,
    /// The runs whose params only documents have, if the plan needs them.
    listed: ListedRuns,
    /// Sorted by the address of the probe, for a binary search: a plan may have a thousand probes, and
    /// the count of each is looked up.
    counts: Vec<(&'p Probe, Option<u64>)>,
}

impl Statistics for ProbeCounts<'_> {
    fn runs(&self) -> u64 {
        self.runs.unwrap_or(ASSUMED_RUNS)
    }

    fn count(&self, probe: &Probe) -> Option<u64> {
        let found = self
            .counts
            .binary_search_by_key(&std::ptr::from_ref(probe), |(known, _)| std::ptr::from_ref(*known));
        found.ok().and_then(|index| self.counts[index].1)
    }

    fn listed(&self) -> u64 {
        self.listed.count
    }
}

impl ProbeCounts<'_> {
    /// Number of runs of the project; `None` if its counter is damaged.
    pub(crate) fn known_runs(&self) -> Option<u64> {
        self.runs
    }

    /// The list of the runs whose params only documents have, if it was read.
    pub(crate) fn list(&self) -> Option<&ReadList> {
        self.listed.list.as_ref()
    }
}

/// The number of runs of a project, by which the work of a list is planned; `None` if its counter is damaged. That fails
/// no list: the number decides how rows are found, and not which rows.
pub(crate) async fn count_runs(snapshot: &dyn Snapshot, project: Project) -> Result<Option<u64>> {
    match project_count(snapshot, project, Counter::Runs).await {
        Ok(runs) => Ok(Some(runs.max(0).cast_unsigned())),
        Err(error @ StoreError::Corrupt { .. }) => {
            tracing::error!(
                project = project.0,
                %error,
                "planned a list without the number of runs, because its counter is damaged: answers are complete, but \
                 may take longer; a restore of a backup counts the runs again"
            );
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Counts the rows of each probe, and continues only while a scan is the best known access and
/// rows are left to count. Of the default filter, which matches nearly all runs, the runs that it leaves out are counted.
/// If a probe has too many rows to be counted, a sample of the runs tells how many; in a
/// project where that many are more than a scan is cheaper for, it is taken to propose all runs. So planning
/// costs the same for any number of runs.
pub(crate) async fn count_probes<'p>(
    snapshot: &dyn Snapshot,
    project: Project,
    plan: &'p Plan,
    samples: &RunSamples,
) -> Result<ProbeCounts<'p>> {
    let known_runs = count_runs(snapshot, project).await?;
    let runs = known_runs.unwrap_or(ASSUMED_RUNS);
    let mut counters: Vec<ProbeCounter<'p>> = Vec::new();
    let mut params = ParamCounters::new();
    let mut listed: Option<ListedRuns> = None;
    for (at, probe) in plan.probes().into_iter().enumerate() {
        let counter = match probe {
            Probe::Archived(false) => {
                ProbeCounter::of_left_out(probe, vec![keys::index_archived_all(project, true)])
            }
            _ => {
                // With many unknown runs, the documents of all of them would have to be read.
                let is_param = matches!(probe, Probe::Param { .. });
                if is_param && listed.is_none() {
                    listed = Some(read_listed(snapshot, project, runs).await?);
                }
                let is_indexed = !is_param || listed.as_ref().is_some_and(|listed| listed.list.is_some());
                let rows = if is_indexed { rows_of(snapshot, project, probe).await? } else { None };
                if let Some(ProbeRows::Param(param)) = &rows {
                    params.add(project, at, param);
                }
                let mut counter = ProbeCounter::new(probe, rows);
                let list = listed.as_ref().and_then(|listed| listed.list.as_ref());
                if is_param && list.is_some_and(|list| !list.may_have_index_rows()) {
                    counter.rest.clear();
                }
                counter
            }
        };
        counters.push(counter);
    }
    let listed = listed.unwrap_or_default();
    for most in COUNTED {
        let mut left = COUNTED_IN_ALL;
        // The default filter matters only if nothing else is selective.
        for leaves_out in [false, true] {
            for one in counters.iter_mut().filter(|one| one.leaves_out == leaves_out) {
                one.count_up_to(snapshot, most.min(left)).await?;
                left -= one.rows.unwrap_or(0).min(left);
            }
            if !leaves_out {
                let report = |at: usize, found, counted| {
                    let counter: &mut ProbeCounter<'p> = &mut counters[at];
                    counter.in_columns = found;
                    counter.columns = counted;
                };
                params.count_up_to(snapshot, most, report).await?;
            }
            if plan.choose(&estimates(known_runs, &listed, &counters)).access != AccessPath::Scan {
                return Ok(estimates(known_runs, &listed, &counters));
            }
        }
        if counters.iter().all(ProbeCounter::is_counted) {
            break;
        }
    }
    if counters.iter().any(|one| one.is_too_large(runs)) {
        sample(snapshot, project, runs, samples, &mut counters).await?;
    }
    Ok(estimates(known_runs, &listed, &counters))
}

/// The number of runs whose documents are read to know whether they match. Of more, a scan is cheaper.
pub(super) fn most_unknown(runs: u64) -> u64 {
    FEW_UNKNOWN.max(runs / SCAN_FROM).min(MOST_UNKNOWN)
}

/// Reads the runs whose params only documents have, unless they are too many for an index.
async fn read_listed(snapshot: &dyn Snapshot, project: Project, runs: u64) -> Result<ListedRuns> {
    let most = most_unknown(runs);
    let list = ReadList::read(snapshot, project, usize::try_from(most).unwrap_or(usize::MAX)).await?;
    // Of too many, it is not known how many they are.
    let count = list.as_ref().map_or(most + 1, |list| list.runs().len() as u64);
    Ok(ListedRuns { count, list })
}

/// Estimates the rows of the probes that have too many to be counted.
async fn sample(
    snapshot: &dyn Snapshot,
    project: Project,
    runs: u64,
    samples: &RunSamples,
    counters: &mut [ProbeCounter<'_>],
) -> Result<()> {
    let mut too_large = counters.iter().filter(|one| one.is_too_large(runs));
    let needs_params = too_large.any(|one| matches!(one.probe, Probe::Param { .. }));
    let sampled = samples.get(snapshot, project, needs_params).await?;
    for one in counters.iter_mut().filter(|one| one.is_too_large(runs)) {
        let mut found = 0_u64;
        for run in &*sampled {
            found += u64::from(one.has_row_of(snapshot, project, run.number, &run.index).await?);
        }
        one.sampled = found.saturating_mul(runs).checked_div(sampled.len() as u64);
        // A query may have thousands of probes.
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Whether an index has a run that satisfies a probe; true if no index covers it, and for a param, whose columns are not
/// read.
pub(crate) async fn has_runs(snapshot: &dyn Snapshot, project: Project, probe: &Probe) -> Result<bool> {
    let mut counter = ProbeCounter::new(probe, rows_of(snapshot, project, probe).await?);
    counter.count_up_to(snapshot, 1).await?;
    Ok(counter.rows != Some(0) || !counter.is_counted())
}

fn estimates<'p>(
    known_runs: Option<u64>,
    listed: &ListedRuns,
    counters: &[ProbeCounter<'p>],
) -> ProbeCounts<'p> {
    let runs = known_runs.unwrap_or(ASSUMED_RUNS);
    let mut counts: Vec<_> = counters.iter().map(|one| (one.probe, one.estimate(runs))).collect();
    counts.sort_unstable_by_key(|(probe, _)| std::ptr::from_ref(*probe));
    ProbeCounts { runs: known_runs, listed: listed.clone(), counts }
}

/// A probe whose rows are being counted.
struct ProbeCounter<'p> {
    probe: &'p Probe,
    /// Number of index rows counted; `None` if no index covers the probe.
    rows: Option<u64>,
    /// The ranges of all index rows that the documents call for.
    ranges: Vec<Range>,
    /// The rows that are not counted yet.
    rest: VecDeque<Range>,
    /// Number of values in the columns of a param that are counted.
    in_columns: u64,
    columns: CountedColumns,
    /// Number of rows by a sample.
    sampled: Option<u64>,
    /// Whether the rows are of the runs that the probe does not find.
    leaves_out: bool,
}

impl<'p> ProbeCounter<'p> {
    fn new(probe: &'p Probe, rows: Option<ProbeRows>) -> Self {
        let mut columns = CountedColumns::All;
        let (rows, ranges) = match rows {
            None => (None, Vec::new()),
            Some(ProbeRows::Runs(runs)) => (Some(runs.len() as u64), Vec::new()),
            Some(ProbeRows::Ranges(ranges)) => (Some(0), ranges),
            Some(ProbeRows::Param(param)) => {
                columns = CountedColumns::Part;
                (Some(0), param.rows().cloned().collect())
            }
        };
        let rest = ranges.iter().cloned().collect();
        Self { probe, rows, ranges, rest, in_columns: 0, columns, sampled: None, leaves_out: false }
    }

    /// A counter for a probe that finds all runs except those with rows in some ranges.
    fn of_left_out(probe: &'p Probe, ranges: Vec<Range>) -> Self {
        Self { leaves_out: true, ..Self::new(probe, Some(ProbeRows::Ranges(ranges))) }
    }

    /// Counts index rows until there are `most`.
    async fn count_up_to(&mut self, snapshot: &dyn Snapshot, most: u64) -> Result<()> {
        let Some(rows) = &mut self.rows else { return Ok(()) };
        while *rows < most
            && let Some(range) = self.rest.pop_front()
        {
            let wanted = usize::try_from(most - *rows).unwrap_or(PAGE).min(PAGE);
            let (found, next) = index_page_count(snapshot, &range, wanted).await?;
            *rows += found as u64;
            if let Some(next) = next {
                self.rest.push_front(next);
            }
        }
        Ok(())
    }

    /// Number of runs counted; `None` if no index covers the probe.
    fn count(&self) -> Option<u64> {
        Some(self.rows?.saturating_add(self.in_columns))
    }

    /// Whether nothing is left to count.
    fn is_counted(&self) -> bool {
        self.rest.is_empty() && self.columns == CountedColumns::All
    }

    /// Whether it has more rows than are counted, but may have too few for a scan.
    fn is_too_large(&self, runs: u64) -> bool {
        let counted = self.count().is_some_and(|count| count >= COUNTED[1]);
        let is_too_large = counted && runs / SCAN_FROM > COUNTED[1];
        (is_too_large || self.columns == CountedColumns::TooMany) && !self.is_counted()
    }

    /// Whether a run with these rows is among those that are counted.
    async fn has_row_of(
        &self,
        snapshot: &dyn Snapshot,
        project: Project,
        number: RunNumber,
        index: &DocumentIndex,
    ) -> Result<bool> {
        let Probe::Sequence(names) = self.probe else {
            return Ok(self.ranges.iter().any(|range| index.has_row_in(range)));
        };
        for kind in [SeriesKind::Metric, SeriesKind::Object] {
            let low = text(&names.low);
            let high = text(&names.high);
            let range = keys::series_names_within(project, number, kind, low, high);
            if range.start < range.end && index_has_row(snapshot, &range).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn estimate(&self, runs: u64) -> Option<u64> {
        let count = self.count()?;
        if self.leaves_out {
            let sampled = self.sampled.filter(|_| !self.is_counted());
            return Some(runs.saturating_sub(sampled.unwrap_or(count).max(count)));
        }
        let uncounted = self.sampled.unwrap_or(runs);
        Some(if self.is_counted() { count } else { uncounted.max(count) })
    }
}

/// The rows of a probe; `None` if no index covers it.
pub(super) async fn rows_of(
    snapshot: &dyn Snapshot,
    project: Project,
    probe: &Probe,
) -> Result<Option<ProbeRows>> {
    let ranges = |ranges: Vec<Range>| {
        Some(ProbeRows::Ranges(ranges.into_iter().filter(|it| it.start < it.end).collect()))
    };
    let nothing = || Some(ProbeRows::Runs(Vec::new()));
    Ok(match probe {
        Probe::Hash(hash) if hash.len() > matyan_proto::limits::RUN_ID_BYTES => nothing(),
        Probe::Hash(hash) => {
            let number = head_live(snapshot, project, &RunId::new(&**hash)).await?;
            Some(ProbeRows::Runs(number.into_iter().collect()))
        }
        Probe::Archived(value) => ranges(vec![keys::index_archived_all(project, *value)]),
        Probe::Active(value) => ranges(vec![keys::index_active_all(project, *value)]),
        Probe::Experiment(Some(name)) => match entity(snapshot, project, EntityKind::Experiment, name).await?
        {
            Some(id) => ranges(vec![keys::index_experiment_all(project, &id)]),
            None => nothing(),
        },
        Probe::Tag(name) => match entity(snapshot, project, EntityKind::Tag, name).await? {
            Some(id) => ranges(vec![keys::index_tag_all(project, &id)]),
            None => nothing(),
        },
        Probe::CreatedAt(times) => {
            let (first, end) = microseconds(times);
            ranges(vec![keys::index_created_between(project, first, end)])
        }
        Probe::Param { path, keys } => ProbedParam::of(project, path, keys).map(ProbeRows::Param),
        Probe::Sequence(names) => {
            if text_bytes(names) > MAX_KEY_BYTES {
                return Ok(None);
            }
            let low = text(&names.low);
            let high = text(&names.high);
            let of = |kind| keys::index_series_names_within(project, kind, low, high);
            ranges(vec![of(SeriesKind::Metric), of(SeriesKind::Object)])
        }
        Probe::Name(names) => keys::index_names_within(project, text(&names.low), text(&names.high))
            .and_then(|range| ranges(vec![range])),
        Probe::EndTime(times) => {
            let (first, end) = microseconds(times);
            ranges(vec![keys::index_ended_between(project, first, end)])
        }
        Probe::Parent(hash) if hash.len() > matyan_proto::limits::RUN_ID_BYTES => nothing(),
        Probe::Parent(hash) if format_has_every_run(snapshot).await? => {
            ranges(vec![keys::index_parent_all(project, hash)])
        }
        Probe::Parent(_) => None,
        // No index lists the runs without an experiment.
        Probe::Experiment(None) => None,
    })
}

/// The id of the entity with this name; no name is longer than the limit.
async fn entity(
    snapshot: &dyn Snapshot,
    project: Project,
    kind: EntityKind,
    name: &str,
) -> Result<Option<String>> {
    if name.len() > matyan_proto::limits::NAME_BYTES {
        return Ok(None);
    }
    Ok(entity_find(snapshot, project, kind, name).await?)
}

fn text_bytes(texts: &Interval<Box<str>>) -> usize {
    let bytes = |bound: &Bound<Box<str>>| match bound {
        Bound::Included(text) | Bound::Excluded(text) => text.len(),
        Bound::Unbounded => 0,
    };
    bytes(&texts.low).max(bytes(&texts.high))
}

fn text(bound: &Bound<Box<str>>) -> Bound<&str> {
    bound.as_ref().map(|text| &**text)
}

/// A time in seconds, as in the query language.
pub(crate) fn seconds(microseconds: i64) -> f64 {
    microseconds as f64 / 1e6
}

/// The range of microseconds, without its end, whose value in seconds is in the interval as the
/// query language compares it.
fn microseconds(times: &Interval<f64>) -> (i64, i64) {
    let first = match times.low {
        Bound::Unbounded => i64::MIN,
        Bound::Included(low) => first_where(|seconds| seconds >= low),
        Bound::Excluded(low) => first_where(|seconds| seconds > low),
    };
    let end = match times.high {
        Bound::Unbounded => i64::MAX,
        Bound::Included(high) => first_where(|seconds| seconds > high),
        Bound::Excluded(high) => first_where(|seconds| seconds >= high),
    };
    (first, end)
}

/// The first microsecond that satisfies a condition which holds for all later microseconds as well.
fn first_where(holds: impl Fn(f64) -> bool) -> i64 {
    let mut below = i128::from(i64::MIN);
    let mut above = i128::from(i64::MAX);
    while below < above {
        let middle = (below + above).div_euclid(2);
        if holds(seconds(middle as i64)) { above = middle } else { below = middle + 1 }
    }
    below as i64
}

#[cfg(test)]
mod tests;
