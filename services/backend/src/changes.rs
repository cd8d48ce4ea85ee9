//! Changes of runs as they are committed. A stream takes changes from the feed of its project,
//! collects the changes of a run for a while, and then reads the new state of the run.

mod change_feed;
mod pending_runs;
mod run_changes;
mod sent_runs;
mod watch_memory;

use std::{sync::Arc, time::Duration};

use matyan_model::ids::Project;
use matyan_proto::limits;
use matyan_store::Stamp;
use tokio::time::{Instant, sleep_until};

pub(crate) use {
    change_feed::{ChangedRun, end_position},
    pending_runs::DueRun,
    run_changes::RunChanges,
    watch_memory::NUMBER_BYTES,
};

use crate::server::{
    Server,
    call::Call,
    deps::Deps,
    error::Result,
    stream::{KEEP_ALIVE, Sender, StreamEnd},
};
use change_feed::{ChangeFeed, ChangeFeeds};
use pending_runs::PendingRuns;
use watch_memory::{WatchMemory, WatchShare};

/// Maximum number of runs waiting to be sent; above it, no more changes are read until some are
/// sent.
const MAX_PENDING: usize = limits::RUNS_PER_CALL;

/// The next step of the stream of a watcher.
pub(crate) enum LiveEvent {
    Changes(Vec<ChangedRun>),
    RunsDue,
    KeepAliveDue,
}

/// The events of one stream.
pub(crate) struct LiveEvents {
    deps: Arc<Deps>,
    project: Project,
    feed: ChangeFeed,
    pending: PendingRuns,
    settle: Duration,
    last_sent: Instant,
    memory: WatchShare,
}

/// The state that all watches share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Watches {
    server: Server,
    feeds: ChangeFeeds,
    memory: WatchMemory,
}

impl Watches {
    pub(crate) fn new(server: Server) -> Self {
        Self { server, feeds: ChangeFeeds::default(), memory: WatchMemory::default() }
    }

    /// Changes after a position.
    pub(crate) async fn after(&self, call: &Call, position: Stamp, settle: Duration) -> Result<LiveEvents> {
        let Server { deps, streams, .. } = &self.server;
        deps.announce_reader(call.project).await;
        let feed = self.feeds.follow(&deps.store, streams, call.project, position).await?;
        Ok(LiveEvents {
            deps: deps.clone(),
            project: call.project,
            feed,
            pending: PendingRuns::default(),
            settle,
            last_sent: Instant::now(),
            memory: self.memory.share(),
        })
    }

    /// Changes from now on.
    pub(crate) async fn watch_from_now(&self, call: &Call, settle: Duration) -> Result<LiveEvents> {
        let position = end_position(self.server.deps.store.as_ref()).await?;
        self.after(call, position, settle).await
    }
}

impl LiveEvents {
    pub(crate) async fn next<T>(&mut self, sender: &Sender<T>) -> Result<LiveEvent, StreamEnd> {
        // A stream has an event at least as often as it sends keep-alives.
        sender.wait(self.deps.announce_reader(self.project)).await?;
        let due = self.pending.due();
        let takes_more = self.pending.len() < MAX_PENDING;
        let feed = &mut self.feed;
        let last_sent = self.last_sent;
        let event = async {
            tokio::select! {
                biased;
                // Polled first, so that a steady flow of changes cannot delay runs that are due.
                () = sleep_until(due.unwrap_or(last_sent)), if due.is_some() => Ok(LiveEvent::RunsDue),
                changes = feed.next(), if takes_more => changes.map(LiveEvent::Changes),
                () = sleep_until(last_sent + KEEP_ALIVE) => Ok(LiveEvent::KeepAliveDue),
            }
        };
        Ok(sender.wait(event).await??)
    }

    /// Notes how much the stream remembers of the runs that it has sent.
    pub(crate) fn remember(&mut self, bytes: usize) -> Result<()> {
        self.memory.resize(bytes)
    }

    /// Notes that a message was sent, so that no keep-alive is due soon.
    pub(crate) fn mark_sent(&mut self) {
        self.last_sent = Instant::now();
    }

    /// Collects a change of a run that the stream shows.
    pub(crate) fn add(&mut self, changed: ChangedRun) {
        self.pending.add(changed, Instant::now() + self.settle);
    }

    /// Takes up to `count` runs that are due at `now`.
    pub(crate) fn take_due(&mut self, now: Instant, count: usize) -> Vec<DueRun> {
        self.pending.take(now, count)
    }

    /// The position up to which changes were read.
    pub(crate) fn read_position(&self) -> Stamp {
        self.feed.position()
    }

    /// The position up to which everything was sent.
    pub(crate) fn sent_position(&self) -> Stamp {
        self.pending.position_before_first().unwrap_or(self.feed.position())
    }
}
