//! The part of the planner that reads the store: which rows satisfy a probe, how many there
//! are, and which runs they list. Index rows may belong to deleted or changed runs; the
//! documents decide.

use std::{collections::VecDeque, ops::Bound, sync::Arc};

use matyan_model::{
    entity::entity_find,
    format::format_has_every_run,
    ids::{Project, RunId, RunNumber},
    index::{DocumentIndex, index_has_row, index_page_count, index_runs_page},
    keys::{self, Counter, EntityKind, SeriesKind},
    param_cohort::param_columns_count,
    params::ParamInterval,
    project::project_count,
    run::head_live,
};
use matyan_ql::{AccessPath, Interval, Plan, Probe, Proposal, Statistics};
use matyan_store::{Error as StoreError, Range, Snapshot};

use super::{
    ascending::{difference, intersection, union},
    probed_param::ProbedParam,
    renewed_snapshot::RenewedSnapshot,
};
use crate::server::{deps::Deps, error::Result, evaluation::Evaluation, run_samples::RunSamples};

/// Number of runs that a plan assumes if the counter is damaged.
const ASSUMED_RUNS: u64 = 100_000;
/// Rows counted in the first and second rounds; the first finds a very selective probe quickly.
const COUNTED: [u64; 2] = [2_000, 10_000];
/// Rows counted for all probes of a plan together, because a query may have thousands of
/// probes.
const COUNTED_IN_ALL: u64 = 200_000;
/// Columns of a param that are counted, and that are read at a time: of the runs of many more, a sample tells as much.
const COUNTED_COLUMNS: usize = 256;
const COLUMNS_PAGE: usize = 16;
/// Runs whose documents are read to know whether they match, in a project of any size.
const FEW_UNKNOWN: u64 = 2_048;
/// A scan is cheaper for more than one in this many runs.
const SCAN_FROM: u64 = 6;
/// Rows that are read to find all matches of a plan: this many for each run, and some more. Evaluating the
/// query for every run is cheaper than more.
const MATCH_ROWS: u64 = 8;
const MORE_MATCH_ROWS: u64 = 10_000;
/// Runs above which a list is sorted on the threads of queries.
const SORTED_HERE: usize = 20_000;
/// Rows read at a time.
const PAGE: usize = 10_000;
/// Maximum length of a key, close to the limit of the store.
const MAX_KEY_BYTES: usize = 4_096;

/// The rows that satisfy a probe.
enum ProbeRows {
    /// Runs known without an index.
    Runs(Vec<RunNumber>),
    Ranges(Vec<Range>),
    Param(ProbedParam),
}

/// Row counts of the probes of a plan.
pub(crate) struct ProbeCounts<'p> {
    /// Number of runs; `None` if its counter is damaged.
    runs: Option<u64>,
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
}

impl ProbeCounts<'_> {
    /// Number of runs of the project; `None` if its counter is damaged.
    pub(crate) fn known_runs(&self) -> Option<u64> {
        self.runs
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
    let mut counters = Vec::new();
    for probe in plan.probes() {
        counters.push(match probe {
            Probe::Archived(false) => {
                ProbeCounter::of_left_out(project, probe, vec![keys::index_archived_all(project, true)])
            }
            _ => ProbeCounter::new(project, probe, rows_of(snapshot, project, probe).await?),
        });
    }
    for most in COUNTED {
        let mut left = COUNTED_IN_ALL;
        // The default filter matters only if nothing else is selective.
        for leaves_out in [false, true] {
            for one in counters.iter_mut().filter(|one| one.leaves_out == leaves_out) {
                one.count_up_to(snapshot, most.min(left)).await?;
                left -= one.count.unwrap_or(0).min(left);
            }
            if plan.choose(&estimates(known_runs, &counters)).access != AccessPath::Scan {
                return Ok(estimates(known_runs, &counters));
            }
        }
        if counters.iter().all(|one| one.rest.is_empty()) {
            break;
        }
    }
    if counters.iter().any(|one| one.is_too_large(runs)) {
        sample(snapshot, project, runs, samples, &mut counters).await?;
    }
    Ok(estimates(known_runs, &counters))
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

/// Whether an index has a run that satisfies a probe; true if no index covers it.
pub(crate) async fn has_runs(snapshot: &dyn Snapshot, project: Project, probe: &Probe) -> Result<bool> {
    let mut counter = ProbeCounter::new(project, probe, rows_of(snapshot, project, probe).await?);
    counter.count_up_to(snapshot, 1).await?;
    Ok(counter.count != Some(0))
}

fn estimates<'p>(known_runs: Option<u64>, counters: &[ProbeCounter<'p>]) -> ProbeCounts<'p> {
    let runs = known_runs.unwrap_or(ASSUMED_RUNS);
    let mut counts: Vec<_> = counters.iter().map(|one| (one.probe, one.estimate(runs))).collect();
    counts.sort_unstable_by_key(|(probe, _)| std::ptr::from_ref(*probe));
    ProbeCounts { runs: known_runs, counts }
}

/// A probe whose rows are being counted.
struct ProbeCounter<'p> {
    probe: &'p Probe,
    /// Number of rows counted; `None` if no index covers the probe.
    count: Option<u64>,
    /// The ranges of all index rows, as the documents call for them.
    ranges: Vec<Range>,
    /// What is not counted yet.
    rest: VecDeque<Counted>,
    /// Columns that may still be counted.
    columns_left: usize,
    /// Runs that were counted because their documents have to be read.
    listed: u64,
    /// Number of rows by a sample.
    sampled: Option<u64>,
    /// Whether the rows are of the runs that the probe does not find.
    leaves_out: bool,
}

/// What is counted of a probe.
enum Counted {
    /// Runs whose documents have to be read.
    Listed(Range),
    Rows(Range),
    Columns {
        range: Range,
        values: Arc<ParamInterval>,
    },
}

impl<'p> ProbeCounter<'p> {
    fn new(project: Project, probe: &'p Probe, rows: Option<ProbeRows>) -> Self {
        let mut rest = VecDeque::new();
        let (count, ranges) = match rows {
            None => (None, Vec::new()),
            Some(ProbeRows::Runs(runs)) => (Some(runs.len() as u64), Vec::new()),
            Some(ProbeRows::Ranges(ranges)) => (Some(0), ranges),
            Some(ProbeRows::Param(param)) => {
                rest.push_back(Counted::Listed(ProbedParam::listed(project)));
                let values = Arc::new(param.values().clone());
                rest.push_back(Counted::Columns { range: param.columns(project), values });
                (Some(0), param.rows().into_iter().collect())
            }
        };
        rest.extend(ranges.iter().cloned().map(Counted::Rows));
        Self {
            probe,
            count,
            ranges,
            rest,
            columns_left: COUNTED_COLUMNS,
            listed: 0,
            sampled: None,
            leaves_out: false,
        }
    }

    /// A counter for a probe that finds all runs except those with rows in some ranges.
    fn of_left_out(project: Project, probe: &'p Probe, ranges: Vec<Range>) -> Self {
        Self { leaves_out: true, ..Self::new(project, probe, Some(ProbeRows::Ranges(ranges))) }
    }

    /// Counts until there are `most` rows.
    async fn count_up_to(&mut self, snapshot: &dyn Snapshot, most: u64) -> Result<()> {
        let Some(count) = &mut self.count else { return Ok(()) };
        while *count < most
            && let Some(counted) = self.rest.pop_front()
        {
            let (found, next) = match counted {
                Counted::Listed(range) => {
                    let wanted = usize::try_from(most - *count).unwrap_or(PAGE).min(PAGE);
                    let (found, next) = index_page_count(snapshot, &range, wanted).await?;
                    self.listed += found as u64;
                    (found, next.map(Counted::Listed))
                }
                Counted::Rows(range) => {
                    let wanted = usize::try_from(most - *count).unwrap_or(PAGE).min(PAGE);
                    let (found, next) = index_page_count(snapshot, &range, wanted).await?;
                    (found, next.map(Counted::Rows))
                }
                counted @ Counted::Columns { .. } if self.columns_left == 0 => {
                    self.rest.push_front(counted);
                    return Ok(());
                }
                Counted::Columns { range, values } => {
                    let wanted = self.columns_left.min(COLUMNS_PAGE);
                    let (found, columns, next) =
                        param_columns_count(snapshot, &range, &values, wanted).await?;
                    self.columns_left -= columns;
                    (found, next.map(|range| Counted::Columns { range, values }))
                }
            };
            *count += found as u64;
            if let Some(next) = next {
                self.rest.push_front(next);
            }
        }
        Ok(())
    }

    /// Whether it has more rows than are counted, but may have too few for a scan.
    fn is_too_large(&self, runs: u64) -> bool {
        let counted = self.count.is_some_and(|count| count >= COUNTED[1]);
        let is_too_large = counted && runs / SCAN_FROM > COUNTED[1];
        (is_too_large || self.columns_left == 0) && !self.rest.is_empty()
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
        let count = self.count?;
        if self.leaves_out {
            let sampled = self.sampled.filter(|_| !self.rest.is_empty());
            return Some(runs.saturating_sub(sampled.unwrap_or(count).max(count)));
        }
        let has_many_listed = matches!(self.rest.front(), Some(Counted::Listed(_)));
        let sampled = self.sampled.filter(|_| !has_many_listed);
        let uncounted = sampled.map_or(runs, |sampled| sampled.saturating_add(self.listed));
        Some(if self.rest.is_empty() { count } else { uncounted.max(count) })
    }
}

/// The rows of a probe; `None` if no index covers it.
async fn rows_of(snapshot: &dyn Snapshot, project: Project, probe: &Probe) -> Result<Option<ProbeRows>> {
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

/// The runs proposed by an access path plus the runs that are not fully indexed, ascending; `None` for
/// every run.
pub(crate) async fn propose_runs(
    deps: &Deps,
    project: Project,
    access: &AccessPath<'_>,
) -> Result<Option<Vec<RunNumber>>> {
    let snapshot = RenewedSnapshot::open(deps.store.clone()).await?;
    let mut reader = IndexReader {
        evaluation: &deps.evaluation,
        project,
        snapshot,
        rows_left: u64::MAX,
        proposes: true,
        unknown: Vec::new(),
    };
    let Some(found) = reader.runs(access).await? else { return Ok(None) };
    let partial = reader.read_ranges(vec![keys::index_partial_all(project)]).await?;
    Ok(partial.map(|partial| union(&found, &partial)))
}

/// The matches of a plan as the indexes know them.
pub(crate) struct IndexedMatches {
    /// Ascending.
    pub(crate) matches: Vec<RunNumber>,
    /// Runs that are not fully indexed, or not yet, which may match or not.
    pub(crate) partial: Vec<RunNumber>,
}

/// The matches of an exact plan, however many they are; `None` if indexes do not know them, or too many
/// rows would have to be read.
pub(crate) async fn find_matches(
    deps: &Deps,
    project: Project,
    plan: &Plan,
) -> Result<Option<IndexedMatches>> {
    if !plan.exact {
        return Ok(None);
    }
    let snapshot = RenewedSnapshot::open(deps.store.clone()).await?;
    let runs = count_runs(&snapshot, project).await?.unwrap_or(ASSUMED_RUNS);
    let rows_left = runs.saturating_mul(MATCH_ROWS).saturating_add(MORE_MATCH_ROWS);
    let mut reader = IndexReader {
        evaluation: &deps.evaluation,
        project,
        snapshot,
        rows_left,
        proposes: false,
        unknown: Vec::new(),
    };
    let Some(matches) = reader.matches(&plan.runs).await? else { return Ok(None) };
    // A scan is faster.
    if reader.unknown.len() as u64 > FEW_UNKNOWN.max(runs / SCAN_FROM) {
        return Ok(None);
    }
    let partial = reader.read_ranges(vec![keys::index_partial_all(project)]).await?;
    let unknown = reader.unknown;
    Ok(partial.map(|partial| IndexedMatches { matches, partial: [partial, unknown].concat() }))
}

/// Reads index rows.
struct IndexReader<'a> {
    evaluation: &'a Evaluation,
    project: Project,
    snapshot: RenewedSnapshot,
    /// Rows that may still be read.
    rows_left: u64,
    /// Whether runs that may satisfy a probe count as if they did.
    proposes: bool,
    /// The other runs that may satisfy a probe: their documents decide.
    unknown: Vec<RunNumber>,
}

impl IndexReader<'_> {
    async fn runs(&mut self, access: &AccessPath<'_>) -> Result<Option<Vec<RunNumber>>> {
        Ok(match access {
            AccessPath::Scan => None,
            AccessPath::Nothing => Some(Vec::new()),
            AccessPath::Probe(probe) => match rows_of(&self.snapshot, self.project, probe).await? {
                None => None,
                Some(ProbeRows::Runs(runs)) => Some(runs),
                Some(ProbeRows::Ranges(ranges)) => self.read_ranges(ranges).await?,
                Some(ProbeRows::Param(param)) => self.read_param(&param).await?,
            },
            AccessPath::Intersect(parts) => {
                let mut all: Option<Vec<RunNumber>> = None;
                for part in parts.iter() {
                    if all.as_ref().is_some_and(Vec::is_empty) {
                        break;
                    }
                    // A part without an index proposes every run, and so
                    // does not narrow the result.
                    let Some(part) = Box::pin(self.runs(part)).await? else { continue };
                    all = Some(match all {
                        Some(all) => intersection(&all, &part),
                        None => part,
                    });
                }
                all
            }
            AccessPath::Union(parts) => {
                let mut all = Vec::new();
                for part in parts.iter() {
                    match Box::pin(self.runs(part)).await? {
                        Some(part) => all = union(&all, &part),
                        // A part that proposes every run makes the union
                        // a scan.
                        None => return Ok(None),
                    }
                }
                Some(all)
            }
        })
    }

    /// The runs of a proposal; `None` if no index has them.
    async fn matches(&mut self, proposal: &Proposal) -> Result<Option<Vec<RunNumber>>> {
        Ok(match proposal {
            Proposal::Everything => None,
            Proposal::Nothing => Some(Vec::new()),
            Proposal::Probe(probe) => self.runs(&AccessPath::Probe(probe)).await?,
            Proposal::Union(parts) => {
                let mut all = Vec::new();
                for part in parts {
                    let Some(part) = Box::pin(self.matches(part)).await? else { return Ok(None) };
                    all = union(&all, &part);
                }
                Some(all)
            }
            Proposal::Intersect(parts) => self.common(parts).await?,
        })
    }

    /// The runs common to some proposals; `None` if no index has them. The default filter comes last, because few
    /// of the others may be archived.
    async fn common(&mut self, parts: &[Proposal]) -> Result<Option<Vec<RunNumber>>> {
        let is_default = |part: &&Proposal| matches!(part, Proposal::Probe(Probe::Archived(false)));
        let mut all: Option<Vec<RunNumber>> = None;
        for part in parts.iter().filter(|part| !is_default(part)) {
            let Some(part) = Box::pin(self.matches(part)).await? else { return Ok(None) };
            all = Some(match all {
                None => part,
                Some(all) => intersection(&all, &part),
            });
        }
        match (all, parts.iter().find(is_default)) {
            (Some(all), Some(_)) => self.without_archived(all).await,
            (None, Some(default)) => Box::pin(self.matches(default)).await,
            (all, None) => Ok(all),
        }
    }

    /// Leaves out the runs that are archived.
    async fn without_archived(&mut self, runs: Vec<RunNumber>) -> Result<Option<Vec<RunNumber>>> {
        let archived = vec![keys::index_archived_all(self.project, true)];
        let few = (runs.len() as u64).max(PAGE as u64).min(self.rows_left);
        if let Some(archived) = self.read_up_to(archived, few).await? {
            self.rows_left -= archived.rows;
            return Ok(Some(difference(&runs, &archived.runs)));
        }
        let shown = self.read_ranges(vec![keys::index_archived_all(self.project, false)]).await?;
        Ok(shown.map(|shown| intersection(&runs, &shown)))
    }

    /// The runs that have the values of a param, ascending; `None` if they are more than may be read.
    async fn read_param(&mut self, param: &ProbedParam) -> Result<Option<Vec<RunNumber>>> {
        let Some(mut reader) = param.reader(self.project) else { return Ok(None) };
        let mut found = Vec::new();
        let mut unknown = Vec::new();
        loop {
            // Rows of a page must agree.
            let read = reader.next(self.snapshot.current().as_ref()).await;
            let page = match self.snapshot.renew(read).await? {
                Some(page) => page,
                None => reader.next(self.snapshot.current().as_ref()).await?,
            };
            let Some(page) = page else { break };
            if page.is_light() {
                page.find(&mut found, &mut unknown)?;
            } else {
                let find = move || page.find(&mut found, &mut unknown).map(|()| (found, unknown));
                (found, unknown) = self.evaluation.run(find).await??;
            }
            if (found.len() + unknown.len()) as u64 > self.rows_left {
                return Ok(None);
            }
        }
        self.rows_left -= (found.len() + unknown.len()) as u64;
        if self.proposes {
            found.append(&mut unknown);
        } else {
            self.unknown.append(&mut unknown);
        }
        self.sorted(found).await.map(Some)
    }

    /// The runs in some ranges, ascending; `None` if they have more rows than may be read.
    async fn read_ranges(&mut self, ranges: Vec<Range>) -> Result<Option<Vec<RunNumber>>> {
        let Some(found) = self.read_up_to(ranges, self.rows_left).await? else { return Ok(None) };
        self.rows_left -= found.rows;
        Ok(Some(found.runs))
    }

    /// The runs in some ranges; `None` if they have more than `most` rows.
    async fn read_up_to(&self, ranges: Vec<Range>, most: u64) -> Result<Option<IndexedRuns>> {
        let mut numbers = Vec::new();
        for range in ranges {
            let mut rest = Some(range);
            while let Some(range) = rest {
                let (found, next) = index_runs_page(&self.snapshot, &range, PAGE).await?;
                numbers.extend(found);
                if numbers.len() as u64 > most {
                    return Ok(None);
                }
                rest = next;
            }
        }
        let rows = numbers.len() as u64;
        Ok(Some(IndexedRuns { runs: self.sorted(numbers).await?, rows }))
    }

    async fn sorted(&self, mut numbers: Vec<RunNumber>) -> Result<Vec<RunNumber>> {
        let is_short = numbers.len() <= SORTED_HERE;
        let sort = move || {
            numbers.sort_unstable();
            numbers.dedup();
            numbers
        };
        if is_short { Ok(sort()) } else { self.evaluation.run(sort).await }
    }
}

/// The runs that some index rows list.
struct IndexedRuns {
    /// Ascending.
    runs: Vec<RunNumber>,
    /// Number of rows.
    rows: u64,
}

#[cfg(test)]
mod tests;
