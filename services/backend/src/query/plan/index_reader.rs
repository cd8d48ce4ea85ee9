//! The part of the planner that reads which runs the rows of a plan list. Rows may belong to deleted or changed runs; the
//! documents decide.

use matyan_model::{
    ids::{Project, RunNumber},
    index::index_runs_page,
    keys,
    param_cohort::{ReadList, undamaged},
};
use matyan_ql::{AccessPath, Plan, Probe, Proposal};
use matyan_store::Range;

use super::{
    ascending::{difference, intersection, union},
    index::{ASSUMED_RUNS, PAGE, ProbeRows, count_runs, most_unknown, rows_of},
    probed_param::ProbedParam,
    renewed_snapshot::RenewedSnapshot,
};
use crate::server::{deps::Deps, error::Result, evaluation::Evaluation};

/// Rows that are read to find all matches of a plan: this many for each run, and some more. Evaluating the
/// query for every run is cheaper than more.
const MATCH_ROWS: u64 = 8;
const MORE_MATCH_ROWS: u64 = 10_000;
/// Runs above which a list is sorted on the threads of queries.
const SORTED_HERE: usize = 20_000;

/// The runs proposed by an access path plus the runs that are not fully indexed, ascending; `None` for
/// every run. Reads from the snapshot of the plan, with the list of runs that the plan has read, so that it is not read twice.
pub(crate) async fn propose_runs(
    deps: &Deps,
    project: Project,
    access: &AccessPath<'_>,
    (snapshot, listed): (RenewedSnapshot, Option<ReadList>),
) -> Result<Option<Vec<RunNumber>>> {
    let mut reader = IndexReader {
        evaluation: &deps.evaluation,
        project,
        snapshot,
        rows_left: u64::MAX,
        most_unknown: u64::MAX,
        proposes: true,
        listed,
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
        most_unknown: most_unknown(runs),
        proposes: false,
        listed: None,
        unknown: Vec::new(),
    };
    let Some(matches) = reader.matches(&plan.runs).await? else { return Ok(None) };
    let partial = reader.read_ranges(vec![keys::index_partial_all(project)]).await?;
    let unknown = reader.unknown;
    Ok(partial.map(|partial| IndexedMatches { matches, partial: [partial, unknown].concat() }))
}

/// Reads index rows.
pub(super) struct IndexReader<'a> {
    pub(super) evaluation: &'a Evaluation,
    pub(super) project: Project,
    pub(super) snapshot: RenewedSnapshot,
    /// Rows that may still be read.
    pub(super) rows_left: u64,
    /// Most runs that may be unknown.
    pub(super) most_unknown: u64,
    /// Whether runs that may satisfy a probe count as if they did.
    pub(super) proposes: bool,
    /// The runs whose params are read from documents, once they are known.
    pub(super) listed: Option<ReadList>,
    /// The other runs that may satisfy a probe: their documents decide.
    pub(super) unknown: Vec<RunNumber>,
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
                let probes = parts.iter().filter_map(|part| match part {
                    AccessPath::Probe(probe) => Some(*probe),
                    _ => None,
                });
                let probes: Vec<&Probe> = probes.collect();
                let Some(mut all) = self.read_params(&probes).await? else { return Ok(None) };
                for part in parts.iter() {
                    if matches!(part, AccessPath::Probe(Probe::Param { .. })) {
                        continue;
                    }
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
    pub(super) async fn matches(&mut self, proposal: &Proposal) -> Result<Option<Vec<RunNumber>>> {
        Ok(match proposal {
            Proposal::Everything => None,
            Proposal::Nothing => Some(Vec::new()),
            Proposal::Probe(probe) => self.runs(&AccessPath::Probe(probe)).await?,
            Proposal::Union(parts) => {
                let probes = parts.iter().filter_map(|part| match part {
                    Proposal::Probe(probe) => Some(probe),
                    _ => None,
                });
                let probes: Vec<&Probe> = probes.collect();
                let Some(mut all) = self.read_params(&probes).await? else { return Ok(None) };
                for part in parts {
                    if matches!(part, Proposal::Probe(Probe::Param { .. })) {
                        continue;
                    }
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

    /// The runs that satisfy one of some probes of params, ascending. Probes of other kinds are left out. A union of
    /// probes of one param, such as the values of a list, reads its columns once.
    async fn read_params(&mut self, probes: &[&Probe]) -> Result<Option<Vec<RunNumber>>> {
        let mut params = Vec::new();
        for probe in probes {
            let Probe::Param { path, keys } = probe else { continue };
            let Some(param) = ProbedParam::of(self.project, path, keys) else { return Ok(None) };
            param.join(&mut params);
        }
        let mut all = Vec::new();
        for param in &params {
            let Some(found) = self.read_param(param).await? else { return Ok(None) };
            all = union(&all, &found);
        }
        Ok(Some(all))
    }

    /// The runs that have the values of a param, ascending; `None` if these runs, or the runs that may have the
    /// values, are too many or not known.
    async fn read_param(&mut self, param: &ProbedParam) -> Result<Option<Vec<RunNumber>>> {
        let Some(mut reader) = param.reader(self.project) else { return Ok(None) };
        let mut found = Vec::new();
        let mut unknown = Vec::new();
        if let Some(listed) = &self.listed {
            if self.proposes {
                unknown.extend(listed.runs().iter());
            }
            reader = reader.with_list(listed.clone());
        }
        loop {
            // Rows of a page must agree.
            let read = reader.next(self.snapshot.current().as_ref()).await;
            let page = match self.snapshot.renew(read).await? {
                Some(page) => page,
                None => reader.next(self.snapshot.current().as_ref()).await?,
            };
            let Some(page) = page else { break };
            let is_light = page.is_light();
            let find = move || page.find(&mut found, &mut unknown).map(|()| (found, unknown));
            let runs = if is_light { find() } else { self.evaluation.run(find).await? };
            let Some(runs) = undamaged(runs)? else { return Ok(None) };
            (found, unknown) = runs;
            let has_many_unknown =
                !self.proposes && (self.unknown.len() + unknown.len()) as u64 > self.most_unknown;
            if has_many_unknown || (found.len() + unknown.len()) as u64 > self.rows_left {
                return Ok(None);
            }
        }
        self.rows_left -= (found.len() + unknown.len()) as u64;
        self.listed = Some(reader.list());
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
