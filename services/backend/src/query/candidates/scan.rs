//! Scans candidate runs page by page, newest first: each page is read from one snapshot and
//! evaluated as a whole. Runs that do not match are dropped and pages are small, so memory is
//! bounded for any number of runs.

use std::{collections::VecDeque, sync::Arc};

use matyan_model::{
    ids::{Project, RunNumber},
    keys,
    run::{Document, RunPage, runs_get, runs_list},
};
use matyan_proto::{common::v1::Progress, search::v1::Warning};
use matyan_ql::Endpoint;
use matyan_store::{Error as StoreError, Range, Scan, Snapshot};

use super::{
    columns::{self, ColumnVerdicts, NeededColumns},
    filter::{MatchedRun, QueryFilter},
    load::CandidateLoader,
};
use crate::{
    query::plan::{CompiledQuery, index},
    server::{
        deps::Deps,
        error::{Error, Result},
        evaluation::PAGE_PARAMS,
        left_out_runs::LeftOutRuns,
        metrics::PlannerPath,
    },
};

/// Documents per page of a scan: few at first, to find something quickly, then enough that
/// thread switches are negligible.
const SCANNED: [Scan; 2] = [
    Scan { rows: 256, bytes: 1 << 20, reverse: true, ..Scan::DEFAULT },
    Scan { rows: 1_024, bytes: 4 << 20, reverse: true, ..Scan::DEFAULT },
];
/// Documents fetched by number per page: at first as many as the embedded store reads without
/// switching threads, to find something quickly, then enough for two threads.
const FETCHED: [usize; 2] = [64, 256];
/// Documents are scanned until this fraction of all runs is reached: by then, columns would
/// have cost as much, and many searches have found enough.
const SCANNED_PART: u64 = 64;
/// Sequences loaded per page: a page ends with the run that exceeds this number.
const SEQUENCES: usize = 4_096;

/// Matching runs as of one snapshot.
pub(crate) struct MatchPage {
    pub(crate) snapshot: Box<dyn Snapshot>,
    pub(crate) matched: VecDeque<MatchedRun>,
    /// The last of the requested runs, which did not fit in the page.
    pub(crate) unread: Vec<RunNumber>,
}

pub(crate) struct RunScanner {
    deps: Arc<Deps>,
    project: Project,
    queue: ScanQueue,
    loader: CandidateLoader,
    filter: QueryFilter,
    /// Columns that may replace the rest of a scan; taken once that has been tried.
    columns: Option<NeededColumns>,
    /// Damaged runs that were read.
    pub(crate) left_out: LeftOutRuns,
    checked: u64,
    total: u64,
    /// All runs are scanned although the indexes know the matches exactly, because most
    /// runs match.
    is_dense: bool,
}

/// The runs not examined yet.
struct ScanQueue {
    /// Sizes of the next page when fetching and scanning.
    fetched: usize,
    scanned: Scan,
    /// Runs read once and put back; they come first.
    put_back: VecDeque<RunNumber>,
    rest: RemainingRuns,
}

enum RemainingRuns {
    /// All runs in a range of documents.
    Scan(Option<Range>),
    /// These runs, ascending, taken from the end.
    Listed(Vec<RunNumber>),
}

impl RunScanner {
    /// Reads from the indexes which runs may match.
    pub(crate) async fn new(deps: Arc<Deps>, project: Project, compiled: &CompiledQuery) -> Result<Self> {
        let plan = &compiled.plan;
        let snapshot = deps.store.snapshot().await?;
        let counts = index::count_probes(snapshot.as_ref(), project, plan, &deps.run_samples).await?;
        drop(snapshot);
        let choice = plan.choose(&counts);
        let (rest, total) = match index::propose_runs(&deps, project, &choice.access).await? {
            None => {
                (RemainingRuns::Scan(Some(keys::documents(project))), matyan_ql::Statistics::runs(&counts))
            }
            Some(numbers) => {
                let total = numbers.len() as u64;
                (RemainingRuns::Listed(numbers), total)
            }
        };
        let endpoint = compiled.query.options().endpoint;
        let is_listed = matches!(rest, RemainingRuns::Listed(_));
        let path = if is_listed && choice.exact {
            PlannerPath::Exact
        } else if is_listed {
            PlannerPath::Superset
        } else if endpoint != Endpoint::Run && plan.sequences.is_none() {
            PlannerPath::UnindexedSequence
        } else {
            PlannerPath::NoCandidates
        };
        deps.metrics.count_search(endpoint, path);
        let is_dense = plan.exact && !is_listed;
        let narrowed = plan.sequences.clone();
        // If no sequence name can match, no run has to be read.
        let rest = if narrowed.as_ref().is_some_and(Vec::is_empty) {
            RemainingRuns::Listed(Vec::new())
        } else {
            rest
        };
        Ok(Self {
            loader: CandidateLoader::new(project, compiled.query.clone(), narrowed.as_deref()),
            filter: QueryFilter::new(compiled.query.clone(), narrowed),
            deps,
            project,
            columns: NeededColumns::new(&compiled.query),
            queue: ScanQueue { fetched: FETCHED[0], scanned: SCANNED[0], put_back: VecDeque::new(), rest },
            left_out: LeftOutRuns::default(),
            checked: 0,
            total,
            is_dense,
        })
    }

    /// A scanner that proposes no run, to read runs that are already known. `total` is the number
    /// of runs to report.
    pub(crate) fn of_known(deps: Arc<Deps>, project: Project, compiled: &CompiledQuery, total: u64) -> Self {
        let rest = RemainingRuns::Listed(Vec::new());
        Self {
            loader: CandidateLoader::new(project, compiled.query.clone(), None),
            filter: QueryFilter::new(compiled.query.clone(), None),
            deps,
            project,
            columns: None,
            queue: ScanQueue { fetched: FETCHED[0], scanned: SCANNED[0], put_back: VecDeque::new(), rest },
            left_out: LeftOutRuns::default(),
            checked: 0,
            total,
            is_dense: false,
        }
    }

    /// A scanner of these runs, ascending, which finds the matches among them.
    pub(crate) fn of_runs(
        deps: Arc<Deps>,
        project: Project,
        compiled: &CompiledQuery,
        runs: Vec<RunNumber>,
    ) -> Self {
        let mut scanner = Self::of_known(deps, project, compiled, runs.len() as u64);
        scanner.queue.rest = RemainingRuns::Listed(runs);
        scanner
    }

    pub(crate) fn is_dense(&self) -> bool {
        self.is_dense
    }

    /// Reports that a table knows all of this many matches.
    pub(crate) fn set_total(&mut self, total: u64) {
        self.checked = total;
        self.total = total;
    }

    /// Counts runs examined outside this scan.
    pub(crate) fn count_checked(&mut self, checked: usize) {
        self.checked += checked as u64;
    }

    pub(crate) fn is_done(&self) -> bool {
        self.queue.put_back.is_empty()
            && match &self.queue.rest {
                RemainingRuns::Scan(rest) => rest.is_none(),
                RemainingRuns::Listed(numbers) => numbers.is_empty(),
            }
    }

    pub(crate) fn progress(&self, matched: u64) -> Progress {
        Progress { checked: self.checked, total: self.total.max(self.checked), matched }
    }

    pub(crate) fn always_raised(&self) -> bool {
        self.filter.always_raised()
    }

    /// Continues with `number`, or with the next older candidate if it is not one.
    pub(crate) fn seek(&mut self, number: RunNumber) {
        self.queue.put_back.retain(|other| *other <= number);
        match &mut self.queue.rest {
            RemainingRuns::Scan(rest) => {
                *rest = rest.take().map(|range| {
                    let end = range.after(&keys::document(self.project, number)).start;
                    Range::new(range.start.clone(), end.min(range.end))
                });
            }
            RemainingRuns::Listed(numbers) => {
                numbers.truncate(numbers.partition_point(|other| *other <= number))
            }
        }
    }

    /// Continues with the first candidate that is older than `number`.
    pub(crate) fn seek_after(&mut self, number: RunNumber) {
        // Numbers start at 1.
        self.seek(RunNumber(number.0.saturating_sub(1)));
    }

    /// The next page; `None` when all candidates have been examined.
    pub(crate) async fn next(&mut self) -> Result<Option<MatchPage>> {
        if self.is_done() {
            return Ok(None);
        }
        self.apply_columns().await?;
        let deps = self.deps.clone();
        let _memory = deps.evaluation.page().await;
        let snapshot = self.deps.store.snapshot().await?;
        let RunPage { runs, damaged, .. } = self.queue.read(snapshot.as_ref(), self.project).await?;
        self.left_out.extend(&self.deps.metrics, &damaged);
        let read = runs.len();
        let mut page = self.page(snapshot, runs).await?;
        self.checked += (read - page.unread.len()) as u64;
        self.queue.put_back(std::mem::take(&mut page.unread));
        Ok(Some(page))
    }

    /// Reduces a long scan to the runs that the columns do not rule out.
    async fn apply_columns(&mut self) -> Result<()> {
        let RemainingRuns::Scan(Some(range)) = &self.queue.rest else { return Ok(()) };
        if self.checked == 0 || self.checked * SCANNED_PART < self.total {
            return Ok(());
        }
        let Some(needed) = self.columns.take() else { return Ok(()) };
        let scan = columns::RemainingScan {
            project: self.project,
            query: self.filter.query().clone(),
            needed,
            end: range.end.clone(),
            limits: self.filter.limits(),
        };
        let _memory = self.deps.evaluation.columns().await;
        // A separate snapshot, because this may take the lifetime of one.
        let snapshot = self.deps.store.snapshot().await?;
        let scanned = columns::evaluate(&self.deps.evaluation, snapshot.as_ref(), scan).await?;
        self.filter.set_steps_left(scanned.steps_left);
        if let Some(ColumnVerdicts { remaining, verdicts }) = scanned.verdicts {
            self.checked += verdicts.evaluated;
            self.filter.add_verdicts(verdicts);
            self.queue.rest = RemainingRuns::Listed(remaining);
        }
        Ok(())
    }

    /// Reads the given runs once more, in order, and returns the runs that still exist and still match.
    /// Takes up to about a page of runs.
    pub(crate) async fn reread(&mut self, numbers: &[RunNumber]) -> Result<MatchPage> {
        let deps = self.deps.clone();
        let _memory = deps.evaluation.page().await;
        let snapshot = self.deps.store.snapshot().await?;
        let RunPage { runs, damaged, .. } = runs_get(snapshot.as_ref(), self.project, numbers).await?;
        self.left_out.extend(&self.deps.metrics, &damaged);
        self.page(snapshot, runs).await
    }

    async fn page(
        &mut self,
        snapshot: Box<dyn Snapshot>,
        documents: Vec<(RunNumber, Document)>,
    ) -> Result<MatchPage> {
        let mut candidates = Vec::with_capacity(documents.len());
        let mut sequences = 0;
        let mut params = 0;
        let mut documents = documents.into_iter();
        let mut unread = Vec::new();
        for (number, document) in documents.by_ref() {
            if document.props.pending_delete {
                continue;
            }
            let run_id = document.props.run_id.clone();
            let candidate = match self.loader.load(snapshot.as_ref(), number, document).await {
                // Evaluate the runs read so far; the others are read from a
                // newer snapshot.
                Err(Error::Store(StoreError::SnapshotTooOld)) if !candidates.is_empty() => {
                    unread.push(number);
                    break;
                }
                Err(error) => {
                    self.left_out.leave_out(&self.deps.metrics, (number, &run_id), error)?;
                    continue;
                }
                Ok(candidate) => candidate,
            };
            sequences += candidate.sequences.len();
            params += candidate.params_bytes();
            candidates.push(candidate);
            if sequences > SEQUENCES || params > PAGE_PARAMS {
                break;
            }
        }
        unread.extend(documents.map(|(number, _)| number));
        let matched = self.filter.matching(&self.deps.evaluation, candidates).await?.into();
        Ok(MatchPage { snapshot, matched, unread })
    }
}

impl ScanQueue {
    fn put_back(&mut self, numbers: Vec<RunNumber>) {
        // In reverse, so that the runs keep their order.
        for number in numbers.into_iter().rev() {
            self.put_back.push_front(number);
        }
    }

    async fn read(&mut self, snapshot: &dyn Snapshot, project: Project) -> Result<RunPage> {
        let fetched = std::mem::replace(&mut self.fetched, FETCHED[1]);
        let scanned = std::mem::replace(&mut self.scanned, SCANNED[1]);
        let numbers: Vec<RunNumber> = match &mut self.rest {
            _ if !self.put_back.is_empty() => {
                let taken = self.put_back.len().min(fetched);
                self.put_back.drain(..taken).collect()
            }
            RemainingRuns::Scan(rest) => {
                let Some(range) = rest.take() else { return Ok(RunPage::default()) };
                let mut page = runs_list(snapshot, project, &range, scanned).await?;
                *rest = page.rest.take();
                return Ok(page);
            }
            RemainingRuns::Listed(numbers) => {
                let from = numbers.len().saturating_sub(fetched);
                numbers.drain(from..).rev().collect()
            }
        };
        Ok(runs_get(snapshot, project, &numbers).await?)
    }
}

/// The highest run number.
pub(crate) async fn newest_run(deps: &Deps, project: Project) -> Result<RunNumber> {
    let snapshot = deps.store.snapshot().await?;
    let last = Scan { rows: 1, reverse: true, ..Scan::default() };
    let page = runs_list(snapshot.as_ref(), project, &keys::documents(project), last).await?;
    let newest = page.runs.iter().map(|(number, _)| *number).chain(page.damaged).max();
    Ok(newest.unwrap_or_default())
}

/// The warning for a query that always fails.
pub(crate) fn always_raised_warning() -> Warning {
    let message =
        "the query fails for everything it is evaluated on, so nothing is found: check its names and types";
    Warning { message: message.to_owned(), ..Warning::default() }
}
