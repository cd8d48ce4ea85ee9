//! Watching runs: first, on request, the current state of every run, then each change once.
//!
//! A change says only that a transaction touched a run, not what it did: a watch collects
//! changes for a short time and then sends the current state of the run. A change committed
//! before the snapshot that was sent is not sent again. The `resume` position of a response is
//! before every change that was collected and not sent, so a disconnect loses no change.

mod feed;
mod filter;
mod pending_runs;
mod resume;

pub(crate) use feed::ChangeFeeds;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use matyan_model::{
    change::Change,
    ids::{RunId, RunNumber},
    keys,
    run::{document_get, documents_get, head_live, run_id_get, runs_list, writing_get},
};
use matyan_proto::{
    limits,
    runs::v1::{RunChange, RunParts, WatchRequest, WatchResponse, run_change},
};
use matyan_store::{Scan, Stamp, Version};
use prost::Message;
use tokio::time::{Instant, sleep_until};

use crate::{
    Backend, Deps,
    call::Call,
    convert,
    error::{Error, Result},
    stream::{MESSAGE_BYTES, Sender, StreamEnd},
    view::{EntityNames, first_piece, run_parts},
};
use feed::ChangeFeed;
use filter::WatchFilter;
use pending_runs::PendingRuns;

const DEFAULT_SETTLE_MS: u32 = 200;
const MAX_SETTLE_MS: u32 = 60_000;

/// Interval of keep-alive messages to watchers.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Maximum number of runs waiting to be sent; above it, no more changes are read until some are
/// sent.
const MAX_PENDING: usize = limits::RUNS_PER_CALL;

/// Maximum number of runs in one message.
const RUNS: usize = 100;

/// Maximum number of runs remembered to avoid redundant messages; forgetting them costs at most
/// a repeated message.
const REMEMBERED: usize = 100_000;

/// Documents read from one snapshot.
const PAGE: Scan = Scan { rows: RUNS, bytes: 1 << 20, reverse: true };

pub(super) struct Watch {
    deps: Arc<Deps>,
    call: Call,
    parts: RunParts,
    settle: Duration,
    with_snapshot: bool,
    filter: WatchFilter,
    feed: ChangeFeed,
    pending: PendingRuns,
    /// The version as of which a run was sent; kept while earlier changes to it may still
    /// arrive.
    sent: HashMap<RunNumber, Version>,
    /// Runs already reported as having left the watch.
    departed: HashSet<RunNumber>,
    /// Amount of data of each run when it was last sent.
    data: HashMap<RunNumber, u64>,
}

pub(super) async fn begin(backend: &Backend, call: Call, request: WatchRequest) -> Result<Watch> {
    let deps = backend.deps.clone();
    convert::check_limit("run_ids", request.run_ids.len(), limits::RUNS_PER_CALL)?;
    let parts = convert::parts(request.parts.clone())?;
    let settle_ms = request.settle_ms.unwrap_or(DEFAULT_SETTLE_MS);
    if settle_ms > MAX_SETTLE_MS {
        return Err(Error::field("settle_ms", format!("is {settle_ms}: use at most {MAX_SETTLE_MS}")));
    }
    let now = feed::end_position(deps.store.as_ref()).await?;
    let position = match &request.resume {
        resume if resume.is_empty() || request.snapshot => now,
        resume => match resume::parse(resume)? {
            // The position comes from another store, or this store was restored from
            // an older backup.
            position if position > now => return Err(Error::PositionExpired),
            position => position,
        },
    };
    let filter = WatchFilter::new(&deps, &request)?;
    let feed = backend.feeds.follow(&deps.store, &backend.streams, call.project, position).await?;
    Ok(Watch {
        deps,
        call,
        parts,
        settle: Duration::from_millis(settle_ms.into()),
        with_snapshot: request.snapshot,
        filter,
        feed,
        pending: PendingRuns::default(),
        sent: HashMap::new(),
        departed: HashSet::new(),
        data: HashMap::new(),
    })
}

/// An event that a watch waits for.
enum Event {
    Changes(Vec<Change>),
    RunsDue,
    KeepAliveDue,
}

impl Watch {
    pub(super) async fn run(mut self, sender: &Sender<WatchResponse>) -> Result<(), StreamEnd> {
        if self.with_snapshot {
            self.send_snapshot(sender).await?;
        }
        let mut last_sent = Instant::now();
        loop {
            let due = self.pending.due();
            let takes_more = self.pending.len() < MAX_PENDING;
            let feed = &mut self.feed;
            let event = async {
                tokio::select! {
                    biased;
                    // Polled first, so that a steady flow of changes cannot
                    // delay runs that are due.
                    () = sleep_until(due.unwrap_or(last_sent)), if due.is_some() => Ok(Event::RunsDue),
                    changes = feed.next(), if takes_more => changes.map(Event::Changes),
                    () = sleep_until(last_sent + KEEP_ALIVE) => Ok(Event::KeepAliveDue),
                }
            };
            match sender.wait(event).await?? {
                Event::Changes(changes) => self.collect(changes).await?,
                Event::RunsDue => {
                    if self.send_due(sender).await? {
                        last_sent = Instant::now();
                    }
                }
                Event::KeepAliveDue => {
                    self.call.check_project(&self.deps).await?;
                    sender.send(self.response(Vec::new())).await?;
                    last_sent = Instant::now();
                }
            }
        }
    }

    /// The position up to which everything was sent.
    fn position(&self) -> Stamp {
        self.pending.position_before_first().unwrap_or(self.feed.position())
    }

    fn response(&self, changes: Vec<RunChange>) -> WatchResponse {
        WatchResponse { changes, resume: resume::encode(self.position()), snapshot_done: false }
    }

    /// Records which runs have changed.
    async fn collect(&mut self, changes: Vec<Change>) -> Result<()> {
        let due = Instant::now() + self.settle;
        for change in changes {
            let sent_version = self.sent.get(&change.number);
            if sent_version.is_none_or(|version| change.stamp.version() > *version)
                && self.filter.may_want(&self.deps, &self.call, change.number).await?
            {
                self.pending.add(change.number, change.stamp, due);
            }
        }
        let position = self.feed.position().version();
        // Changes before the position of the feed can no longer arrive.
        self.sent.retain(|_, version| *version > position);
        Ok(())
    }

    /// Sends the runs that are due; returns false if none of them had a change to report.
    async fn send_due(&mut self, sender: &Sender<WatchResponse>) -> Result<bool, StreamEnd> {
        let mut has_sent = false;
        let now = Instant::now();
        loop {
            let before = resume::encode(self.position());
            let numbers = self.pending.take(now, RUNS);
            if numbers.is_empty() {
                return Ok(has_sent);
            }
            let mut left = &numbers[..];
            while !left.is_empty() {
                let (changes, processed) = self.changes(left).await?;
                left = &left[processed..];
                if !changes.is_empty() {
                    has_sent = true;
                    // The resume position may move past these runs only once
                    // all of them are sent.
                    let resume =
                        if left.is_empty() { resume::encode(self.position()) } else { before.clone() };
                    sender.send(WatchResponse { changes, resume, snapshot_done: false }).await?;
                }
            }
        }
    }

    /// Changes of the first runs, as many as fit in a message, with the number of runs
    /// processed. A change committed after the snapshot is sent again later.
    async fn changes(&mut self, numbers: &[RunNumber]) -> Result<(Vec<RunChange>, usize)> {
        let snapshot = self.deps.store.snapshot().await?;
        let version = snapshot.version();
        let documents = documents_get(snapshot.as_ref(), self.call.project, numbers).await?;
        let found = numbers.iter().copied().zip(documents);
        let visible = found.filter_map(|(number, document)| {
            document.filter(|document| !document.props.pending_delete).map(|document| (number, document))
        });
        let wanted = self
            .filter
            .matching(&self.deps.evaluation, &self.call, snapshot.as_ref(), visible.collect())
            .await?;
        drop(snapshot);
        let mut names = EntityNames::new(&self.call);
        let (mut changes, mut bytes, mut processed) = (Vec::new(), 0, 0);
        for number in numbers {
            processed += 1;
            self.sent.insert(*number, version);
            let change = match wanted.contains(number) {
                true => self.changed_run(&mut names, *number).await?,
                false => None,
            };
            let change = match change {
                Some(change) => Some(change),
                None => self.departure(*number).await?,
            };
            bytes += change.as_ref().map_or(0, Message::encoded_len);
            changes.extend(change);
            if bytes >= MESSAGE_BYTES {
                break;
            }
        }
        Ok((changes, processed))
    }

    /// The run with the requested parts, if it still exists.
    async fn changed_run(&mut self, names: &mut EntityNames, number: RunNumber) -> Result<Option<RunChange>> {
        let snapshot = self.deps.store.snapshot().await?;
        let document = document_get(snapshot.as_ref(), self.call.project, number).await?;
        let Some(document) = document.filter(|document| !document.props.pending_delete) else {
            return Ok(None);
        };
        let writing = writing_get(snapshot.as_ref(), self.call.project, number).await?;
        let run = run_parts(&self.deps, names, snapshot.as_ref(), number, &document, &self.parts).await?;
        let run = first_piece(run);
        self.departed.remove(&number);
        if self.data.len() > REMEMBERED {
            self.data.clear();
        }
        let data = writing.bytes.saturating_add(writing.points);
        let before = self.data.insert(number, data).unwrap_or_default();
        let run_id = run.run_id.clone();
        Ok(Some(RunChange { run_id, change: Some(run_change::Change::Run(run)), data: data != before }))
    }

    /// Reports once that a run no longer exists or no longer matches the watch.
    async fn departure(&mut self, number: RunNumber) -> Result<Option<RunChange>> {
        let snapshot = self.deps.store.snapshot().await?;
        let Some(id) = run_id_get(snapshot.as_ref(), self.call.project, number).await? else {
            return Ok(None);
        };
        // If the id now belongs to another run, that run has its own change.
        let live = head_live(snapshot.as_ref(), self.call.project, &id).await?;
        let is_replaced = live.is_some_and(|live| live != number);
        if self.departed.len() > REMEMBERED {
            self.departed.clear();
        }
        if is_replaced || !self.departed.insert(number) {
            return Ok(None);
        }
        let change = Some(run_change::Change::Left(true));
        Ok(Some(RunChange { run_id: id.as_str().to_owned(), change, data: false }))
    }

    /// Sends the current state of every watched run.
    async fn send_snapshot(&mut self, sender: &Sender<WatchResponse>) -> Result<(), StreamEnd> {
        let mut source = Source::new(&self.call, &self.filter);
        while let Some(numbers) = source.next(&self.deps, &self.call).await? {
            let mut left = &numbers[..];
            while !left.is_empty() {
                let (mut changes, processed) = self.changes(left).await?;
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

/// The runs that exist when a watch starts; those of a project newest first.
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
