//! Reads candidate runs page by page, newest first: each page is read from one snapshot and
//! evaluated as a whole. Runs that do not match are dropped and pages are small, so memory is
//! bounded for any number of runs.

use std::{collections::VecDeque, sync::Arc};

use matyan_model::{
    ids::{Project, RunNumber},
    keys,
    run::{Document, RunPage, runs_get, runs_list},
};
use matyan_ql::Interval;
use matyan_store::{Error as StoreError, Range, Scan, Snapshot};

use super::{
    columns::{self, ColumnVerdicts, NeededColumns},
    filter::{MatchedRun, QueryFilter},
    load::CandidateLoader,
};
use crate::{
    query::plan::{CompiledQuery, RenewedSnapshot},
    server::{
        deps::Deps,
        error::{Error, Result},
        evaluation::{Evaluation, PAGE_PARAMS, PageRoom},
        left_out_runs::LeftOutRuns,
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
/// Documents are scanned until this fraction of all runs is reached: by then, columns cost less than
/// the next documents, and many searches have found enough.
const SCANNED_PART: u64 = 512;
/// Sequences loaded per page: a page ends with the run that exceeds this number.
const SEQUENCES: usize = 4_096;

/// Matching runs as of one snapshot.
pub(crate) struct MatchPage {
    pub(crate) snapshot: Box<dyn Snapshot>,
    pub(crate) matched: VecDeque<MatchedRun>,
    /// The last of the requested runs, which did not fit in the page.
    pub(crate) unread: Vec<RunNumber>,
}

pub(super) struct PageReader {
    deps: Arc<Deps>,
    project: Project,
    queue: ScanQueue,
    loader: CandidateLoader,
    filter: QueryFilter,
    /// The last page read params in pieces, or had no room for them: the next page is likely to need it.
    expects_large_params: bool,
    /// Columns that may replace the rest of a scan; taken once that has been tried.
    columns: Option<NeededColumns>,
    /// Damaged runs that were read.
    left_out: LeftOutRuns,
    progress: ScanProgress,
}

/// How far a scan has come.
#[derive(Clone, Copy)]
pub(super) struct ScanProgress {
    /// Number of runs examined.
    pub(super) checked: u64,
    /// Number of runs to examine.
    pub(super) total: u64,
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

pub(super) enum RemainingRuns {
    /// All runs in a range of documents.
    Scan(Option<Range>),
    /// These runs, ascending, taken from the end.
    Listed(Vec<RunNumber>),
}

impl PageReader {
    /// A reader of the runs of `rest` that match.
    pub(super) fn new(
        deps: Arc<Deps>,
        project: Project,
        compiled: &CompiledQuery,
        rest: RemainingRuns,
        total: u64,
    ) -> Self {
        let queue = ScanQueue { fetched: FETCHED[0], scanned: SCANNED[0], put_back: VecDeque::new(), rest };
        Self {
            deps,
            project,
            queue,
            loader: CandidateLoader::new(project, compiled.query.clone(), None),
            filter: QueryFilter::new(compiled.query.clone(), None),
            expects_large_params: false,
            columns: None,
            left_out: LeftOutRuns::default(),
            progress: ScanProgress { checked: 0, total },
        }
    }

    /// Reads only the named sequences, and columns instead of documents where they suffice.
    pub(super) fn narrowed(
        self,
        compiled: &CompiledQuery,
        sequences: Option<Vec<Interval<Box<str>>>>,
    ) -> Self {
        Self {
            loader: CandidateLoader::new(self.project, compiled.query.clone(), sequences.as_deref()),
            filter: QueryFilter::new(compiled.query.clone(), sequences),
            columns: NeededColumns::new(&compiled.query),
            ..self
        }
    }

    pub(super) fn deps(&self) -> &Arc<Deps> {
        &self.deps
    }

    pub(super) fn left_out(&self) -> LeftOutRuns {
        self.left_out.clone()
    }

    pub(super) fn progress(&self) -> ScanProgress {
        self.progress
    }

    pub(super) fn progress_mut(&mut self) -> &mut ScanProgress {
        &mut self.progress
    }

    pub(super) fn is_done(&self) -> bool {
        self.queue.is_done()
    }

    pub(super) fn always_raised(&self) -> bool {
        self.filter.always_raised()
    }

    /// Continues with `number`, or with the next older candidate if it is not one.
    pub(super) fn seek(&mut self, number: RunNumber) {
        self.queue.seek(self.project, number);
    }

    /// Reads the runs of a page, which come next, once more.
    pub(super) fn put_back(&mut self, page: MatchPage) {
        let numbers: Vec<RunNumber> = page.matched.iter().map(|matched| matched.candidate.number).collect();
        self.progress.checked = self.progress.checked.saturating_sub(numbers.len() as u64);
        self.queue.put_back(numbers);
    }

    /// The next page; `None` when all candidates have been examined.
    pub(super) async fn next(&mut self) -> Result<Option<MatchPage>> {
        let deps = self.deps.clone();
        while !self.is_done() {
            self.apply_columns().await?;
            let room = self.room(&deps.evaluation).await;
            let snapshot = deps.store.snapshot().await?;
            let RunPage { runs, damaged, .. } = self.queue.read(snapshot.as_ref(), self.project).await?;
            self.left_out.extend(&deps.metrics, &damaged);
            let read = runs.len();
            let mut page = self.page(room, snapshot, runs).await?;
            let examined = read - page.unread.len();
            self.progress.checked += examined as u64;
            self.queue.put_back_unread(std::mem::take(&mut page.unread), examined);
            // Only a lack of room lets a page end before its first run.
            if examined > 0 || read == 0 {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    /// Waits for room for the next page.
    async fn room<'e>(&self, evaluation: &'e Evaluation) -> PageRoom<'e> {
        if self.expects_large_params {
            evaluation.page_of_large_params().await
        } else {
            evaluation.page().await
        }
    }

    /// Reduces a long scan to the runs that the columns do not rule out.
    async fn apply_columns(&mut self) -> Result<()> {
        let RemainingRuns::Scan(Some(range)) = &self.queue.rest else { return Ok(()) };
        if self.progress.checked == 0 || self.progress.checked * SCANNED_PART < self.progress.total {
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
        let snapshot = RenewedSnapshot::open(self.deps.store.clone()).await?;
        let scanned = columns::evaluate(&self.deps.evaluation, &snapshot, scan).await?;
        self.filter.set_steps_left(scanned.steps_left);
        if let Some(ColumnVerdicts { remaining, verdicts }) = scanned.verdicts {
            self.progress.checked += verdicts.evaluated;
            self.filter.add_verdicts(verdicts);
            self.queue.rest = RemainingRuns::Listed(remaining);
        }
        Ok(())
    }

    /// Reads the given runs once more, in order, and returns the runs that still exist and still match.
    /// Takes up to about a page of runs.
    pub(super) async fn reread(&mut self, numbers: &[RunNumber]) -> Result<MatchPage> {
        let deps = self.deps.clone();
        loop {
            let room = self.room(&deps.evaluation).await;
            let snapshot = deps.store.snapshot().await?;
            let RunPage { runs, damaged, .. } = runs_get(snapshot.as_ref(), self.project, numbers).await?;
            self.left_out.extend(&deps.metrics, &damaged);
            let read = runs.len();
            let page = self.page(room, snapshot, runs).await?;
            if page.unread.len() < read || read == 0 {
                return Ok(page);
            }
        }
    }

    /// Loads and evaluates runs until the page is full. Examines none if the first run has to wait for room.
    async fn page(
        &mut self,
        mut room: PageRoom<'_>,
        snapshot: Box<dyn Snapshot>,
        documents: Vec<(RunNumber, Document)>,
    ) -> Result<MatchPage> {
        let mut candidates = Vec::with_capacity(documents.len());
        let mut sequences = 0;
        let mut params = 0;
        let mut documents = documents.into_iter();
        let mut unread = Vec::new();
        self.expects_large_params = false;
        for (number, document) in documents.by_ref() {
            if document.props.pending_delete {
                continue;
            }
            if self.loader.reads_large_params(&document) && !room.is_enough_for_large_params() {
                // The snapshot would expire during a long wait.
                self.expects_large_params = true;
                unread.push(number);
                break;
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
        self.expects_large_params |= room.has_large_params();
        let matched = self.filter.matching(&self.deps.evaluation, candidates).await?.into();
        Ok(MatchPage { snapshot, matched, unread })
    }
}

impl ScanQueue {
    fn is_done(&self) -> bool {
        self.put_back.is_empty()
            && match &self.rest {
                RemainingRuns::Scan(rest) => rest.is_none(),
                RemainingRuns::Listed(numbers) => numbers.is_empty(),
            }
    }

    fn seek(&mut self, project: Project, number: RunNumber) {
        self.put_back.retain(|other| *other <= number);
        match &mut self.rest {
            RemainingRuns::Scan(rest) => {
                *rest = rest.take().map(|range| {
                    let end = range.after(&keys::document(project, number)).start;
                    Range::new(range.start.clone(), end.min(range.end))
                });
            }
            RemainingRuns::Listed(numbers) => {
                numbers.truncate(numbers.partition_point(|other| *other <= number))
            }
        }
    }

    fn put_back(&mut self, numbers: Vec<RunNumber>) {
        // In reverse, so that the runs keep their order.
        for number in numbers.into_iter().rev() {
            self.put_back.push_front(number);
        }
    }

    /// Puts the rest of a page back. The next page then has no more runs than are likely to fit.
    fn put_back_unread(&mut self, numbers: Vec<RunNumber>, examined: usize) {
        if !numbers.is_empty() && examined > 0 {
            self.fetched = FETCHED[1].min(2 * examined);
        }
        self.put_back(numbers);
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
