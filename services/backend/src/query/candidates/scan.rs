//! The scan of a search: pages of matching runs, newest first. While a page is sent, the next one can be read
//! ahead.

use std::sync::Arc;

use matyan_model::{
    ids::{Project, RunNumber},
    keys,
    run::runs_list,
};
use matyan_proto::{common::v1::Progress, search::v1::Warning};
use matyan_ql::Endpoint;
use matyan_store::Scan;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::AbortOnDropHandle;

use super::page_reader::{MatchPage, PageReader, RemainingRuns, ScanProgress};
use crate::{
    query::plan::{CompiledQuery, RenewedSnapshot, index, propose_runs},
    server::{
        deps::Deps,
        error::{Error, Result},
        left_out_runs::LeftOutRuns,
        metrics::PlannerPath,
        stream::{Sender, task_error},
    },
};

pub(crate) struct RunScanner {
    reader: ReaderPlace,
    /// Why the next page could not be read ahead: reported after the runs of the page before it.
    failure: Option<Error>,
    /// Damaged runs that were read.
    pub(crate) left_out: LeftOutRuns,
    /// All runs are scanned although the indexes know the matches exactly, because most
    /// runs match.
    is_dense: bool,
}

/// Where the reader of pages is.
enum ReaderPlace {
    Here(Box<PageReader>),
    /// Reads the next page in its own task.
    Ahead(PageAhead),
    /// The task of the reader ended without a result, because the server stops.
    Lost,
}

/// The reader, and the page that it has read.
type ReadPage = (Box<PageReader>, Result<Option<MatchPage>>);

struct PageAhead {
    /// As of the page before.
    progress: ScanProgress,
    /// Held until the page is taken.
    _room: OwnedSemaphorePermit,
    read: AbortOnDropHandle<Result<ReadPage>>,
}

impl RunScanner {
    /// Reads from the indexes which runs may match.
    pub(crate) async fn new(deps: Arc<Deps>, project: Project, compiled: &CompiledQuery) -> Result<Self> {
        let plan = &compiled.plan;
        let snapshot = RenewedSnapshot::open(deps.store.clone()).await?;
        let counts = index::count_probes(&snapshot, project, plan, &deps.run_samples).await?;
        let choice = plan.choose(&counts);
        let planned = (snapshot, counts.list().cloned());
        let (rest, total) = match propose_runs(&deps, project, &choice.access, planned).await? {
            None => {
                // Without the number of runs, the progress has the checked runs as its total.
                (RemainingRuns::Scan(Some(keys::documents(project))), counts.known_runs().unwrap_or_default())
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
        let reader = PageReader::new(deps, project, compiled, rest, total).narrowed(compiled, narrowed);
        Ok(Self { is_dense, ..Self::of_reader(reader) })
    }

    /// A scanner that proposes no run, to read runs that are already known. `total` is the number
    /// of runs to report.
    pub(crate) fn of_known(deps: Arc<Deps>, project: Project, compiled: &CompiledQuery, total: u64) -> Self {
        let rest = RemainingRuns::Listed(Vec::new());
        Self::of_reader(PageReader::new(deps, project, compiled, rest, total))
    }

    /// A scanner of these runs, ascending, which finds the matches among them.
    pub(crate) fn of_runs(
        deps: Arc<Deps>,
        project: Project,
        compiled: &CompiledQuery,
        runs: Vec<RunNumber>,
    ) -> Self {
        let total = runs.len() as u64;
        Self::of_reader(PageReader::new(deps, project, compiled, RemainingRuns::Listed(runs), total))
    }

    fn of_reader(reader: PageReader) -> Self {
        let left_out = reader.left_out();
        Self { reader: ReaderPlace::Here(Box::new(reader)), failure: None, left_out, is_dense: false }
    }

    pub(crate) fn is_dense(&self) -> bool {
        self.is_dense
    }

    /// Reports that a table knows all of this many matches.
    pub(crate) fn set_total(&mut self, total: u64) {
        if let ReaderPlace::Here(reader) = &mut self.reader {
            *reader.progress_mut() = ScanProgress { checked: total, total };
        }
    }

    /// Counts runs examined outside this scan.
    pub(crate) fn count_checked(&mut self, checked: usize) {
        if let ReaderPlace::Here(reader) = &mut self.reader {
            reader.progress_mut().checked += checked as u64;
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        match &self.reader {
            ReaderPlace::Here(reader) => self.failure.is_none() && reader.is_done(),
            ReaderPlace::Ahead(_) => false,
            ReaderPlace::Lost => true,
        }
    }

    pub(crate) fn progress(&self, matched: u64) -> Progress {
        let ScanProgress { checked, total } = match &self.reader {
            ReaderPlace::Here(reader) => reader.progress(),
            ReaderPlace::Ahead(ahead) => ahead.progress,
            ReaderPlace::Lost => ScanProgress { checked: 0, total: 0 },
        };
        Progress { checked, total: total.max(checked), matched }
    }

    /// Whether nothing was found because the query raised an error for every run, once all were examined.
    pub(crate) fn always_raised(&self) -> bool {
        matches!(&self.reader, ReaderPlace::Here(reader) if reader.always_raised())
    }

    /// Continues with `number`, or with the next older candidate if it is not one. No page may have been read
    /// ahead.
    pub(crate) fn seek(&mut self, number: RunNumber) {
        if let ReaderPlace::Here(reader) = &mut self.reader {
            reader.seek(number);
        }
    }

    /// Continues with the first candidate that is older than `number`.
    pub(crate) fn seek_after(&mut self, number: RunNumber) {
        // Numbers start at 1.
        self.seek(RunNumber(number.0.saturating_sub(1)));
    }

    /// The next page; `None` when all candidates have been examined.
    pub(crate) async fn next(&mut self) -> Result<Option<MatchPage>> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        match self.take_ahead().await? {
            Some(page) => Ok(Some(page)),
            None => self.here()?.next().await,
        }
    }

    /// Starts to read the next page, if there is a next page and room for it, while the stream of `sender` continues: on
    /// the threads of queries, in a task that ends with this scanner.
    pub(crate) fn read_ahead<T>(&mut self, sender: &Sender<T>) {
        if self.failure.is_some() || self.is_done() {
            return;
        }
        match std::mem::replace(&mut self.reader, ReaderPlace::Lost) {
            ReaderPlace::Here(mut reader) => {
                let deps = reader.deps().clone();
                let Some(room) = deps.evaluation.page_ahead() else {
                    self.reader = ReaderPlace::Here(reader);
                    return;
                };
                let progress = reader.progress();
                let read = Box::pin(async move {
                    let page = reader.next().await;
                    (reader, page)
                });
                let read = sender.spawn(async move { deps.evaluation.drive(read).await });
                self.reader = ReaderPlace::Ahead(PageAhead { progress, read, _room: room });
            }
            other => self.reader = other,
        }
    }

    /// Gives up the page that was read ahead, with its snapshot. Its runs are read again.
    pub(crate) async fn put_back_ahead(&mut self) -> Result<()> {
        match self.take_ahead().await {
            Ok(Some(page)) => self.here()?.put_back(page),
            Ok(None) => {}
            Err(failure) => self.failure = Some(failure),
        }
        Ok(())
    }

    /// The page that is being read ahead, if there is one, once it has been read.
    async fn take_ahead(&mut self) -> Result<Option<MatchPage>> {
        let ReaderPlace::Ahead(ahead) = &mut self.reader else { return Ok(None) };
        let read = (&mut ahead.read).await;
        self.reader = ReaderPlace::Lost;
        let (reader, page) = read.map_err(task_error)??;
        self.reader = ReaderPlace::Here(reader);
        page
    }

    fn here(&mut self) -> Result<&mut PageReader> {
        match &mut self.reader {
            ReaderPlace::Here(reader) => Ok(reader),
            ReaderPlace::Ahead(_) | ReaderPlace::Lost => Err(Error::Stopping),
        }
    }

    /// Reads the given runs once more, in order, and returns the runs that still exist and still match.
    /// Takes up to about a page of runs.
    pub(crate) async fn reread(&mut self, numbers: &[RunNumber]) -> Result<MatchPage> {
        self.put_back_ahead().await?;
        self.here()?.reread(numbers).await
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
