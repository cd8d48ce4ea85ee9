//! Scans candidate runs page by page, newest first: each page is read from one snapshot and
//! evaluated as a whole. Runs that do not match are dropped and pages are small, so memory is
//! bounded for any number of runs.

use std::{collections::VecDeque, sync::Arc};

use matyan_model::{
    ids::{Project, RunNumber},
    keys,
    run::{Document, documents_get, runs_list},
};
use matyan_proto::common::v1::Progress;
use matyan_ql::{Endpoint, KeyPath, Plan};
use matyan_store::{Error as StoreError, Range, Scan, Snapshot};

use super::{
    columns, index,
    judge::{Judge, Matched},
    load::Loader,
    text::Compiled,
};
use crate::{
    Context,
    error::{Error, Result},
    metrics::Planned,
};

/// Documents per page of a scan: few at first, to find something quickly, then enough that
/// thread switches are negligible.
const SCANNED: [Scan; 2] =
    [Scan { rows: 256, bytes: 1 << 20, reverse: true }, Scan { rows: 1_024, bytes: 4 << 20, reverse: true }];
/// Documents fetched by number per page: at first as many as the embedded store reads without
/// switching threads, to find something quickly, then enough for two threads.
const FETCHED: [usize; 2] = [64, 256];
/// Documents are scanned until this fraction of all runs is reached: by then, columns would
/// have cost as much, and many searches have found what they need.
const SCANNED_PART: u64 = 64;
/// Sequences loaded per page: a page ends with the run that exceeds this number.
const SEQUENCES: usize = 4_096;

/// Matching runs as of one snapshot.
pub(crate) struct Page {
    pub(crate) snapshot: Box<dyn Snapshot>,
    pub(crate) matched: VecDeque<Matched>,
    /// The last of the requested runs, for which the page had no room.
    pub(crate) unread: Vec<RunNumber>,
}

pub(crate) struct Scanner {
    context: Arc<Context>,
    project: Project,
    ahead: Ahead,
    loader: Loader,
    judge: Judge,
    /// Params whose columns may replace the rest of a scan; taken once that has been tried.
    columns: Option<Vec<KeyPath>>,
    checked: u64,
    total: u64,
    /// All runs are scanned although the indexes know the matches exactly, as most runs
    /// match.
    is_dense: bool,
}

/// The runs not examined yet.
struct Ahead {
    /// Sizes of the next page when fetching and scanning.
    fetched: usize,
    scanned: Scan,
    /// Runs read once and put back; they come first.
    again: VecDeque<RunNumber>,
    rest: Rest,
}

enum Rest {
    /// All runs in a range of documents.
    Scan(Option<Range>),
    /// These runs, ascending, taken from the end.
    Listed(Vec<RunNumber>),
}

impl Scanner {
    /// Reads from the indexes which runs may match.
    pub(crate) async fn new(context: Arc<Context>, project: Project, compiled: &Compiled) -> Result<Self> {
        let plan: Plan = compiled.query.plan();
        let snapshot = context.store.snapshot().await?;
        let counts = index::counts(snapshot.as_ref(), project, &plan).await?;
        drop(snapshot);
        let choice = plan.choose(&counts);
        let (rest, total) = match index::proposed(&context, project, &choice.access).await? {
            None => (Rest::Scan(Some(keys::documents(project))), matyan_ql::Statistics::runs(&counts)),
            Some(numbers) => {
                let total = numbers.len() as u64;
                (Rest::Listed(numbers), total)
            }
        };
        let endpoint = compiled.query.options().endpoint;
        let is_listed = matches!(rest, Rest::Listed(_));
        let planned = match is_listed {
            true if choice.exact => Planned::Exact,
            true => Planned::Superset,
            false if endpoint != Endpoint::Run && plan.sequences.is_none() => Planned::UnindexedSequence,
            false => Planned::NoCandidates,
        };
        context.metrics.planned(endpoint, planned);
        let is_dense = plan.exact && !is_listed;
        let narrowed = plan.sequences.clone();
        // If no sequence name can match, no run has to be read.
        let rest = if narrowed.as_ref().is_some_and(Vec::is_empty) { Rest::Listed(Vec::new()) } else { rest };
        Ok(Self {
            loader: Loader::new(project, compiled.query.clone(), narrowed.as_deref()),
            judge: Judge::new(compiled.query.clone(), narrowed),
            context,
            project,
            columns: columns::paths(&compiled.query),
            ahead: Ahead { fetched: FETCHED[0], scanned: SCANNED[0], again: VecDeque::new(), rest },
            checked: 0,
            total,
            is_dense,
        })
    }

    pub(crate) fn is_dense(&self) -> bool {
        self.is_dense
    }

    /// Counts runs examined outside of this scan.
    pub(crate) fn count(&mut self, checked: usize) {
        self.checked += checked as u64;
    }

    pub(crate) fn is_done(&self) -> bool {
        self.ahead.again.is_empty()
            && match &self.ahead.rest {
                Rest::Scan(rest) => rest.is_none(),
                Rest::Listed(numbers) => numbers.is_empty(),
            }
    }

    pub(crate) fn progress(&self, matched: u64) -> Progress {
        Progress { checked: self.checked, total: self.total.max(self.checked), matched }
    }

    pub(crate) fn always_raised(&self) -> bool {
        self.judge.always_raised()
    }

    /// Continues with `number`, or with the next older candidate if it is not one.
    pub(crate) fn seek(&mut self, number: RunNumber) {
        self.ahead.again.retain(|other| *other <= number);
        match &mut self.ahead.rest {
            Rest::Scan(rest) => {
                *rest = rest.take().map(|range| {
                    let end = range.after(&keys::document(self.project, number)).start;
                    Range::new(range.start.clone(), end.min(range.end))
                });
            }
            Rest::Listed(numbers) => numbers.truncate(numbers.partition_point(|other| *other <= number)),
        }
    }

    /// The next page; `None` when all candidates have been examined.
    pub(crate) async fn next(&mut self) -> Result<Option<Page>> {
        if self.is_done() {
            return Ok(None);
        }
        self.sieve().await?;
        let snapshot = self.context.store.snapshot().await?;
        let documents = self.ahead.read(snapshot.as_ref(), self.project).await?;
        let read = documents.len();
        let mut page = self.page(snapshot, documents).await?;
        self.checked += (read - page.unread.len()) as u64;
        self.ahead.put_back(std::mem::take(&mut page.unread));
        Ok(Some(page))
    }

    /// Reduces a long scan to the runs that the columns do not rule out.
    async fn sieve(&mut self) -> Result<()> {
        let Rest::Scan(Some(range)) = &self.ahead.rest else { return Ok(()) };
        if self.checked == 0 || self.checked * SCANNED_PART < self.total {
            return Ok(());
        }
        let Some(paths) = self.columns.take() else { return Ok(()) };
        let scan = columns::Scan {
            project: self.project,
            query: self.judge.query().clone(),
            paths,
            end: range.end.clone(),
            limits: self.judge.limits(),
        };
        // A snapshot of its own, as this may take the lifetime of one.
        let snapshot = self.context.store.snapshot().await?;
        if let Some(sieved) = columns::sieve(snapshot.as_ref(), scan).await? {
            self.checked += sieved.tally.evaluated;
            self.judge.count(sieved.tally, sieved.steps_left);
            self.ahead.rest = Rest::Listed(sieved.left);
        }
        Ok(())
    }

    /// Reads the given runs again, in order: those that still exist and still match. Takes
    /// up to about a page of runs.
    pub(crate) async fn again(&mut self, numbers: &[RunNumber]) -> Result<Page> {
        let snapshot = self.context.store.snapshot().await?;
        let documents = documents_get(snapshot.as_ref(), self.project, numbers).await?;
        let documents = numbers.iter().copied().zip(documents);
        let documents = documents.filter_map(|(number, document)| Some((number, document?))).collect();
        self.page(snapshot, documents).await
    }

    async fn page(
        &mut self,
        snapshot: Box<dyn Snapshot>,
        documents: Vec<(RunNumber, Document)>,
    ) -> Result<Page> {
        let mut candidates = Vec::with_capacity(documents.len());
        let mut sequences = 0;
        let mut documents = documents.into_iter();
        let mut unread = Vec::new();
        for (number, document) in documents.by_ref() {
            if document.props.pending_delete {
                continue;
            }
            let candidate = match self.loader.load(snapshot.as_ref(), number, document).await {
                // Evaluate the runs read so far; the others are read from a
                // newer snapshot.
                Err(Error::Store(StoreError::SnapshotTooOld)) if !candidates.is_empty() => {
                    unread.push(number);
                    break;
                }
                loaded => loaded?,
            };
            sequences += candidate.sequences.len();
            candidates.push(candidate);
            if sequences > SEQUENCES {
                break;
            }
        }
        unread.extend(documents.map(|(number, _)| number));
        Ok(Page { snapshot, matched: self.judge.matching(candidates).await?.into(), unread })
    }
}

impl Ahead {
    fn put_back(&mut self, numbers: Vec<RunNumber>) {
        // In reverse, so that the runs keep their order.
        for number in numbers.into_iter().rev() {
            self.again.push_front(number);
        }
    }

    async fn read(
        &mut self,
        snapshot: &dyn Snapshot,
        project: Project,
    ) -> Result<Vec<(RunNumber, Document)>> {
        let fetched = std::mem::replace(&mut self.fetched, FETCHED[1]);
        let scanned = std::mem::replace(&mut self.scanned, SCANNED[1]);
        let numbers: Vec<RunNumber> = match &mut self.rest {
            _ if !self.again.is_empty() => {
                let taken = self.again.len().min(fetched);
                self.again.drain(..taken).collect()
            }
            Rest::Scan(rest) => {
                let Some(range) = rest.take() else { return Ok(Vec::new()) };
                let page = runs_list(snapshot, project, &range, scanned).await?;
                *rest = page.rest;
                return Ok(page.runs);
            }
            Rest::Listed(numbers) => {
                let from = numbers.len().saturating_sub(fetched);
                numbers.drain(from..).rev().collect()
            }
        };
        let documents = documents_get(snapshot, project, &numbers).await?;
        let read = numbers.into_iter().zip(documents);
        Ok(read.filter_map(|(number, document)| Some((number, document?))).collect())
    }
}
