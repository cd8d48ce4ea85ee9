//! The runs that may match, page by page, newest first: each page is read from one snapshot and evaluated whole. Nothing
//! is kept of what does not match, and a page is small, so memory is bounded however many runs there are.

use std::{collections::VecDeque, sync::Arc};

use matyan_model::{
    ids::{Project, RunNumber},
    keys,
    run::{Document, documents_get, runs_list},
};
use matyan_proto::common::v1::Progress;
use matyan_ql::{Endpoint, Path, Plan};
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

/// Documents of a scan that are read at once: at first few, so that something is found soon, and then so many that changes
/// of threads do not count.
const SCANNED: [Scan; 2] =
    [Scan { rows: 256, bytes: 1 << 20, reverse: true }, Scan { rows: 1_024, bytes: 4 << 20, reverse: true }];
/// Documents fetched by number at once: at first as many as the embedded store reads without changing threads, so that
/// something is found soon, and then enough for two threads.
const FETCHED: [usize; 2] = [64, 256];
/// Documents are scanned until they are this part of all runs: by then columns would have cost as much, and many searches
/// have found what they want.
const SCANNED_PART: u64 = 64;
/// Sequences loaded at once: a page ends with the run that goes over it.
const SEQUENCES: usize = 4_096;

/// Runs that match, as of one snapshot.
pub(crate) struct Page {
    pub(crate) snapshot: Box<dyn Snapshot>,
    pub(crate) matched: VecDeque<Matched>,
    /// Those of the runs that were asked for that the page has no room for: the last ones.
    pub(crate) unread: Vec<RunNumber>,
}

pub(crate) struct Scanner {
    context: Arc<Context>,
    project: Project,
    ahead: Ahead,
    loader: Loader,
    judge: Judge,
    /// Params whose columns may spare the rest of a scan; until that was tried.
    columns: Option<Vec<Path>>,
    checked: u64,
    total: u64,
    /// Every run is looked at although the indexes know the matches: so many are they.
    is_dense: bool,
}

/// What is still to be looked at.
struct Ahead {
    /// Fetched and scanned at once, the next time.
    fetched: usize,
    scanned: Scan,
    /// Read once and put back; they come first.
    again: VecDeque<RunNumber>,
    rest: Rest,
}

enum Rest {
    /// Every run of a range of documents.
    Scan(Option<Range>),
    /// These, ascending: taken from the end.
    Listed(Vec<RunNumber>),
}

impl Scanner {
    /// Asks the indexes which runs may match.
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

    /// Counts runs that somebody else has proposed.
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

    /// Goes on with `number`, or with the next older run if it is not among those that may match.
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

    /// The next page; none when everything was looked at.
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

    /// Leaves of a scan that goes on and on what the columns do not refuse.
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
        // A snapshot of its own: it may take as long as one lives.
        let snapshot = self.context.store.snapshot().await?;
        if let Some(sieved) = columns::sieve(snapshot.as_ref(), scan).await? {
            self.checked += sieved.tally.evaluated;
            self.judge.count(sieved.tally, sieved.steps_left);
            self.ahead.rest = Rest::Listed(sieved.left);
        }
        Ok(())
    }

    /// The same runs as of now, in their order: those that are still there and still match. About a page may be asked for.
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
                // What was read is evaluated; the others are read from a newer snapshot.
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
