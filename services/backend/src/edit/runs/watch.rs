//! Watching runs: first, on request, the current state of every run, then each change once.
//!
//! A change says only that a transaction touched a run, not how: a watch collects
//! changes for a short time and then sends the current state of the run. A change committed
//! before the snapshot that was sent is not sent. The `resume` position of a response is
//! before every change that was collected and not sent, so a disconnect loses no change.

mod filter;
mod resume;
mod shown_runs;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use matyan_model::{
    ids::{RunId, RunNumber},
    keys,
    run::{Document, documents_get, head_live, run_id_get, runs_list},
};
use matyan_proto::{
    limits,
    runs::v1::{RunChange, WatchRequest, WatchResponse, run_change},
};
use matyan_store::{Error as StoreError, Scan, Snapshot, Version};
use prost::Message;
use tokio::time::Instant;

use crate::{
    changes::{ChangedRun, DueRun, LiveEvent, LiveEvents, NUMBER_BYTES, RunChanges, Watches, end_position},
    server::{
        call::Call,
        convert,
        deps::Deps,
        error::{Error, Result},
        stream::{MESSAGE_BYTES, Sender, StreamEnd},
    },
    view::EntityNames,
};
use filter::WatchFilter;
use shown_runs::ShownRuns;

/// Maximum number of runs in one message.
const RUNS: usize = 100;

/// Documents read from one snapshot.
const PAGE: Scan = Scan { rows: RUNS, bytes: 1 << 20, reverse: true, ..Scan::DEFAULT };

pub(crate) struct Watch {
    deps: Arc<Deps>,
    call: Call,
    with_snapshot: bool,
    filter: WatchFilter,
    events: LiveEvents,
    /// The version at which a run was sent; kept while earlier changes to it may still
    /// arrive.
    sent: HashMap<RunNumber, Version>,
    shown: ShownRuns,
    runs: RunChanges,
}

pub(crate) async fn start(
    deps: &Arc<Deps>,
    watches: &Watches,
    call: Call,
    request: WatchRequest,
) -> Result<Watch> {
    convert::check_limit("run_ids", request.run_ids.len(), limits::RUNS_PER_CALL)?;
    let parts = convert::parts(request.parts.clone())?;
    let settle = convert::settle_time(request.settle_ms)?;
    if request.snapshot && !request.resume.is_empty() {
        return Err(Error::field("resume", "cannot be combined with `snapshot`: set one of them"));
    }
    let now = end_position(deps.store.as_ref()).await?;
    let position = match &request.resume {
        resume if resume.is_empty() => now,
        resume => match resume::parse(resume)? {
            // The position comes from another store, or this store was restored from
            // an older backup.
            position if position > now => return Err(Error::PositionExpired),
            position => position,
        },
    };
    let mut watch = Watch {
        filter: WatchFilter::new(deps, &request).await?,
        events: watches.after(&call, position, settle).await?,
        runs: RunChanges::new(deps.clone(), call.again(), parts, request.progress),
        deps: deps.clone(),
        call,
        with_snapshot: request.snapshot,
        sent: HashMap::new(),
        shown: if request.snapshot { ShownRuns::Known(HashSet::new()) } else { ShownRuns::unknown() },
    };
    watch.account()?;
    Ok(watch)
}

impl Watch {
    pub(crate) async fn run(mut self, sender: &Sender<WatchResponse>) -> Result<(), StreamEnd> {
        if self.with_snapshot {
            self.send_snapshot(sender).await?;
        }
        loop {
            self.account()?;
            match self.events.next(sender).await? {
                LiveEvent::Changes(changes) => self.collect(changes).await?,
                LiveEvent::RunsDue => self.send_due(sender).await?,
                LiveEvent::KeepAliveDue => {
                    self.call.check_project(&self.deps).await?;
                    sender.send(self.response(Vec::new())).await?;
                    self.events.mark_sent();
                }
            }
        }
    }

    fn response(&self, changes: Vec<RunChange>) -> WatchResponse {
        let resume = resume::encode(self.events.sent_position());
        WatchResponse { changes, resume, snapshot_done: false }
    }

    /// Takes memory for the remembered state.
    fn account(&mut self) -> Result<()> {
        let numbers = self.sent.len() + self.shown.len();
        let bytes = numbers * NUMBER_BYTES + self.filter.bytes() + self.runs.remembered_bytes();
        self.events.remember(bytes)
    }

    /// Records which runs have changed.
    async fn collect(&mut self, changes: Vec<ChangedRun>) -> Result<()> {
        for change in changes {
            let sent_version = self.sent.get(&change.number);
            if sent_version.is_none_or(|version| change.stamp.version() > *version)
                && self.filter.may_want(&self.deps, &self.call, change.number).await?
            {
                self.events.add(change);
            }
        }
        let position = self.events.read_position().version();
        // Changes before the position of the feed can no longer arrive.
        self.sent.retain(|_, version| *version > position);
        self.sent.shrink_to(2 * self.sent.len());
        Ok(())
    }

    /// Sends the runs that are due.
    async fn send_due(&mut self, sender: &Sender<WatchResponse>) -> Result<(), StreamEnd> {
        let now = Instant::now();
        loop {
            let before = resume::encode(self.events.sent_position());
            let due = self.events.take_due(now, RUNS);
            if due.is_empty() {
                return Ok(());
            }
            let mut left = &due[..];
            while !left.is_empty() {
                let (changes, processed) = self.changes(left).await?;
                left = &left[processed..];
                if !changes.is_empty() {
                    // The resume position may move past these runs only once
                    // all of them are sent.
                    let resume = if left.is_empty() {
                        resume::encode(self.events.sent_position())
                    } else {
                        before.clone()
                    };
                    sender.send(WatchResponse { changes, resume, snapshot_done: false }).await?;
                    self.events.mark_sent();
                }
            }
        }
    }

    /// Changes of the first runs, as many as fit in a message, with the number of runs
    /// processed. A change committed after the snapshot is sent again later.
    async fn changes(&mut self, mut due: &[DueRun]) -> Result<(Vec<RunChange>, usize)> {
        let (wanted, version) = loop {
            match self.wanted(due).await {
                // Fewer runs take less time.
                Err(Error::Store(StoreError::SnapshotTooOld)) if due.len() > 1 => due = &due[..due.len() / 2],
                found => break found?,
            }
        };
        let mut names = EntityNames::new(&self.call);
        let mut changes = Vec::new();
        let mut bytes = 0;
        let mut processed = 0;
        for run in due {
            let number = run.number;
            processed += 1;
            self.sent.insert(number, version);
            let change =
                if wanted.contains(&number) { self.runs.read(&mut names, *run).await? } else { None };
            let change = match change {
                Some(change) => {
                    self.shown.add(number);
                    Some(change)
                }
                None => self.departure(number).await?,
            };
            bytes += change.as_ref().map_or(0, Message::encoded_len);
            changes.extend(change);
            if bytes >= MESSAGE_BYTES {
                break;
            }
        }
        Ok((changes, processed))
    }

    /// The runs that exist and match, as of one version.
    async fn wanted(&self, due: &[DueRun]) -> Result<(HashSet<RunNumber>, Version)> {
        // Before the snapshot, which would expire if searches took all pages for long.
        let evaluation = &self.deps.evaluation;
        let mut room = self.filter.room(evaluation).await;
        let mut snapshot = self.deps.store.snapshot().await?;
        let mut runs = self.visible(due, snapshot.as_ref()).await?;
        if let Some(page) = &mut room
            && self.filter.reads_large_params(&runs)
            && !page.is_enough_for_large_params()
        {
            drop((room.take(), snapshot, runs));
            room = Some(evaluation.page_of_large_params().await);
            snapshot = self.deps.store.snapshot().await?;
            runs = self.visible(due, snapshot.as_ref()).await?;
        }
        let wanted = self.filter.matching(evaluation, &self.call, snapshot.as_ref(), runs).await?;
        drop(room);
        Ok((wanted, snapshot.version()))
    }

    /// The due runs that exist in a snapshot.
    async fn visible(&self, due: &[DueRun], snapshot: &dyn Snapshot) -> Result<Vec<(RunNumber, Document)>> {
        let numbers: Vec<RunNumber> = due.iter().map(|run| run.number).collect();
        let documents = documents_get(snapshot, self.call.project, &numbers).await?;
        let found = numbers.into_iter().zip(documents);
        let visible = found.filter_map(|(number, document)| {
            document.filter(|document| !document.props.pending_delete).map(|document| (number, document))
        });
        Ok(visible.collect())
    }

    /// Reports once that a run no longer exists or no longer matches the watch.
    async fn departure(&mut self, number: RunNumber) -> Result<Option<RunChange>> {
        if !self.shown.remove(number) {
            return Ok(None);
        }
        let snapshot = self.deps.store.snapshot().await?;
        let Some(id) = run_id_get(snapshot.as_ref(), self.call.project, number).await? else {
            return Ok(None);
        };
        // If the id now belongs to another run, that run has its own change.
        let live = head_live(snapshot.as_ref(), self.call.project, &id).await?;
        if live.is_some_and(|live| live != number) {
            return Ok(None);
        }
        Ok(Some(self.runs.left(number, id.as_str().to_owned())))
    }

    /// Sends the current state of every watched run.
    async fn send_snapshot(&mut self, sender: &Sender<WatchResponse>) -> Result<(), StreamEnd> {
        let mut source = Source::new(&self.call, &self.filter);
        while let Some(numbers) = source.next(&self.deps, &self.call).await? {
            let due = numbers.into_iter().map(|number| DueRun { number, shared_points: false });
            let due: Vec<DueRun> = due.collect();
            let mut left = &due[..];
            while !left.is_empty() {
                let (mut changes, processed) = self.changes(left).await?;
                self.account()?;
                left = &left[processed..];
                // A snapshot contains only runs that exist and match.
                changes.retain(|change| matches!(change.change, Some(run_change::Change::Run(_))));
                if !changes.is_empty() {
                    sender.send(WatchResponse { changes, ..WatchResponse::default() }).await?;
                }
            }
        }
        sender.send(WatchResponse { snapshot_done: true, ..self.response(Vec::new()) }).await?;
        Ok(())
    }
}

/// The runs that exist when a watch starts; the runs of a project are newest first.
enum Source {
    Documents(Option<matyan_store::Range>),
    Ids(std::vec::IntoIter<String>),
}

impl Source {
    fn new(call: &Call, filter: &WatchFilter) -> Self {
        match filter.run_ids() {
            Some(ids) => Self::Ids(ids.into_iter()),
            None => Self::Documents(Some(keys::documents(call.project))),
        }
    }

    async fn next(&mut self, deps: &Deps, call: &Call) -> Result<Option<Vec<RunNumber>>> {
        let snapshot = deps.store.snapshot().await?;
        match self {
            Self::Documents(rest) => {
                let Some(range) = rest.take() else { return Ok(None) };
                let page = runs_list(snapshot.as_ref(), call.project, &range, PAGE).await?;
                *rest = page.rest;
                Ok(Some(page.runs.into_iter().map(|(number, _)| number).collect()))
            }
            Self::Ids(ids) => {
                let ids: Vec<String> = ids.by_ref().take(RUNS).collect();
                if ids.is_empty() {
                    return Ok(None);
                }
                let mut numbers = Vec::with_capacity(ids.len());
                for id in ids {
                    numbers.extend(head_live(snapshot.as_ref(), call.project, &RunId::new(id)).await?);
                }
                Ok(Some(numbers))
            }
        }
    }
}
