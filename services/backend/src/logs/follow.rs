//! Following a log: sends new lines or records until the run is no longer active.
//!
//! Lines may be rewritten at their step, and out of order, so steps do not show which lines are new.
//! Therefore the run numbers its writes of lines and keeps the line of each write. A line read
//! when there had been n writes reflects all writes below n; only a later write sends the line once more.
//! So nothing is missed between the backlog and the new lines, and nothing is sent twice.

use std::{collections::HashMap, ops::Range, time::Duration};

use matyan_model::{
    ids::{Project, RunNumber},
    logs::{LogScan, lines_written_list, terminal_lines_list},
    run::{RunVersion, document_get, run_change_wait, run_version, writing_get},
    series::StepRange,
};
use matyan_proto::logs::v1::{LinesResponse, RecordsResponse};
use matyan_store::Snapshot;

use super::records::{RunKey, line, read_records};
use crate::server::{
    deps::Deps,
    error::Result,
    stream::{KEEP_ALIVE, MESSAGE_BYTES, Sender, StreamEnd},
};

/// Time in which changes of a run are collected.
const SETTLE_TIME: Duration = Duration::from_millis(50);

/// Maximum number of writes covered by one message.
const WRITES: usize = 1_000;

/// A range of steps, with the number of writes at the time it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct BacklogRange {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) writes: u64,
}

pub(super) struct Follower {
    run_key: RunKey,
    wanted: StepRange,
    /// The first write not processed yet.
    next: u64,
    last_step: Option<i64>,
    backlog: Vec<BacklogRange>,
    /// Lines already sent, with the number of writes when they were read, until all of these writes
    /// are processed.
    sent: HashMap<i64, u64>,
}

impl Follower {
    pub(super) fn new(
        project: Project,
        number: RunNumber,
        wanted: StepRange,
        next: u64,
        last_step: Option<i64>,
    ) -> Self {
        let backlog = Vec::new();
        let sent = HashMap::new();
        Self { run_key: (project, number), wanted, next, last_step, backlog, sent }
    }

    /// Records a range that was sent before following.
    pub(super) fn add_backlog(&mut self, read: BacklogRange) {
        self.backlog.push(read);
    }

    fn is_sent(&self, line: i64, write: u64) -> bool {
        let in_backlog =
            |read: &BacklogRange| (read.first..=read.last).contains(&line) && write < read.writes;
        self.sent.get(&line).is_some_and(|writes| write < *writes) || self.backlog.iter().any(in_backlog)
    }

    pub(super) async fn lines(
        mut self,
        deps: &Deps,
        sender: &Sender<LinesResponse>,
    ) -> Result<(), StreamEnd> {
        loop {
            // Activity and number of lines are from one snapshot, so an inactive run
            // has no later lines.
            let state = RunState::read(deps, self.run_key).await?;
            while self.next < state.lines {
                let lines = self.new_lines(deps).await?;
                if !lines.is_empty() {
                    sender.send(LinesResponse { lines, last_step: self.last_step }).await?;
                }
            }
            if !state.is_active {
                return Ok(());
            }
            if !state.wait(deps, self.run_key, sender).await? {
                sender.send(LinesResponse { lines: Vec::new(), last_step: self.last_step }).await?;
            }
        }
    }

    /// The lines of the next writes; advances past these writes.
    async fn new_lines(&mut self, deps: &Deps) -> Result<Vec<matyan_proto::logs::v1::Line>> {
        let (project, number) = self.run_key;
        let snapshot = deps.store.snapshot().await?;
        let snapshot = snapshot.as_ref();
        let writes = writing_get(snapshot, project, number).await?.next_line;
        let listed = lines_written_list(snapshot, project, number, self.next..writes, WRITES).await?;
        let mut lines = Vec::new();
        let mut bytes = 0;
        // No writes are listed if the run was deleted, so all of them are skipped.
        let mut next = if listed.is_empty() { writes.max(self.next + 1) } else { self.next };
        for (write, step) in listed {
            if bytes >= MESSAGE_BYTES {
                break;
            }
            next = write + 1;
            self.last_step = self.last_step.max(Some(step));
            if self.is_sent(step, write) || !(self.wanted.first..=self.wanted.last).contains(&step) {
                continue;
            }
            self.sent.insert(step, writes);
            lines.extend(
                one_line(snapshot, self.run_key, step).await?.inspect(|line| bytes += line.text.len()),
            );
        }
        self.next = next;
        if next >= writes {
            // Every write that the sent lines may reflect has been processed.
            self.sent.clear();
        }
        let newest = self.backlog.iter().map(|read| read.writes).max();
        if newest.is_some_and(|writes| writes <= next) {
            self.backlog.clear();
        }
        lines.sort_by_key(|line| line.step);
        Ok(lines)
    }
}

async fn one_line(
    snapshot: &dyn Snapshot,
    (project, number): RunKey,
    step: i64,
) -> Result<Option<matyan_proto::logs::v1::Line>> {
    let one = LogScan { count: 1, bytes: 1, last: false };
    let mut lines = terminal_lines_list(snapshot, project, number, (step, step), one).await?;
    Ok(lines.pop().map(line))
}

/// The state of a run as seen by its follower.
struct RunState {
    seen: RunVersion,
    lines: u64,
    records: u64,
    is_active: bool,
}

impl RunState {
    async fn read(deps: &Deps, (project, number): RunKey) -> Result<Self> {
        let snapshot = deps.store.snapshot().await?;
        let snapshot = snapshot.as_ref();
        let seen = run_version(snapshot, project, number).await?;
        let writing = writing_get(snapshot, project, number).await?;
        let document = document_get(snapshot, project, number).await?;
        Ok(Self {
            seen,
            lines: writing.next_line,
            records: writing.next_log_record,
            is_active: document
                .is_some_and(|document| document.props.active && !document.props.pending_delete),
        })
    }

    /// Waits until the run has changed; returns false when a keep-alive is due.
    async fn wait<T>(&self, deps: &Deps, run_key: RunKey, sender: &Sender<T>) -> Result<bool, StreamEnd> {
        sender.wait(deps.announce_reader(run_key.0)).await?;
        let changed = run_change_wait(deps.store.as_ref(), run_key.0, run_key.1, &self.seen);
        match sender.wait(tokio::time::timeout(KEEP_ALIVE, changed)).await? {
            Ok(changed) => {
                changed?;
                // A run may change with each transaction, hundreds of times a second.
                sender.wait(tokio::time::sleep(SETTLE_TIME)).await?;
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }
}

/// Sends records in pieces. With `send_empty`, sends the first message even if there are no
/// records.
pub(super) async fn send_records(
    deps: &Deps,
    run_key: RunKey,
    mut range: Range<u64>,
    count: u64,
    send_empty: bool,
    sender: &Sender<RecordsResponse>,
) -> Result<(), StreamEnd> {
    let mut sends_empty = send_empty;
    while sends_empty || range.start < range.end {
        let records = read_records(deps, run_key, range.start..range.end.max(range.start)).await?;
        range.start = match records.last() {
            Some(last) => u64::try_from(last.step).unwrap_or_default() + 1,
            None => range.end,
        };
        if sends_empty || !records.is_empty() {
            sender.send(RecordsResponse { records, count }).await?;
        }
        sends_empty = false;
    }
    Ok(())
}

/// Sends the records of a range as they are written.
pub(super) async fn records(
    deps: &Deps,
    run_key: RunKey,
    mut range: Range<u64>,
    sender: &Sender<RecordsResponse>,
) -> Result<(), StreamEnd> {
    loop {
        let state = RunState::read(deps, run_key).await?;
        let end = range.end.min(state.records);
        if range.start < end {
            send_records(deps, run_key, range.start..end, state.records, false, sender).await?;
            range.start = end;
        }
        if !state.is_active {
            return Ok(());
        }
        if !state.wait(deps, run_key, sender).await? {
            sender.send(RecordsResponse { records: Vec::new(), count: state.records }).await?;
        }
    }
}
