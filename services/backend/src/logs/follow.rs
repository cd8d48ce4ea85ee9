//! Following a log: sends new lines or records until the run is no longer active.
//!
//! Lines may be rewritten at their step, and out of order, so steps do not show what is new.
//! Therefore the run numbers its writes of lines and keeps the line of each write. A line read
//! when there had been n writes reflects all writes below n; only a later write sends it again.
//! So nothing is missed between the backlog and the new lines, and nothing is sent twice.

use std::{collections::HashMap, ops::Range, time::Duration};

use matyan_model::{
    ids::{Project, RunNumber},
    logs::{LogScan, lines_written_list, terminal_lines_list},
    run::{RunSeen, document_get, run_changed, run_seen, writing_get},
    series::StepRange,
};
use matyan_proto::logs::v1::{LinesResponse, RecordsResponse};
use matyan_store::Snapshot;

use super::{line, read_records};
use crate::{
    Context,
    error::Result,
    stream::{End, MESSAGE_BYTES, Sender},
};

/// Interval of keep-alive messages to followers.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// Maximum number of writes covered by one message.
const WRITES: usize = 1_000;

pub(super) type Place = (Project, RunNumber);

/// A range of steps, with the number of writes when it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) writes: u64,
}

pub(super) struct Follower {
    place: Place,
    wanted: StepRange,
    /// The first write not processed yet.
    next: u64,
    last_step: Option<i64>,
    backlog: Vec<Read>,
    /// Lines already sent, with the number of writes when they were read, until all those
    /// writes are processed.
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
        let (backlog, sent) = (Vec::new(), HashMap::new());
        Self { place: (project, number), wanted, next, last_step, backlog, sent }
    }

    /// Records a range that was sent before following.
    pub(super) fn has_read(&mut self, read: Read) {
        self.backlog.push(read);
    }

    fn is_sent(&self, line: i64, write: u64) -> bool {
        let in_backlog = |read: &Read| (read.first..=read.last).contains(&line) && write < read.writes;
        self.sent.get(&line).is_some_and(|writes| write < *writes) || self.backlog.iter().any(in_backlog)
    }

    pub(super) async fn lines(
        mut self,
        context: &Context,
        sender: &Sender<LinesResponse>,
    ) -> Result<(), End> {
        loop {
            // Activity and number of lines are from one snapshot, so an inactive run
            // has no later lines.
            let state = State::read(context, self.place).await?;
            while self.next < state.lines {
                let lines = self.new_lines(context).await?;
                if !lines.is_empty() {
                    sender.send(LinesResponse { lines, last_step: self.last_step }).await?;
                }
            }
            if !state.is_active {
                return Ok(());
            }
            if !state.wait(context, self.place, sender).await? {
                sender.send(LinesResponse { lines: Vec::new(), last_step: self.last_step }).await?;
            }
        }
    }

    /// The lines of the next writes; advances past those writes.
    async fn new_lines(&mut self, context: &Context) -> Result<Vec<matyan_proto::logs::v1::Line>> {
        let (project, number) = self.place;
        let snapshot = context.store.snapshot().await?;
        let snapshot = snapshot.as_ref();
        let writes = writing_get(snapshot, project, number).await?.next_line;
        let listed = lines_written_list(snapshot, project, number, self.next..writes, WRITES).await?;
        let (mut lines, mut bytes) = (Vec::new(), 0);
        // No write is listed if the run was deleted; skip them all.
        let mut behind = if listed.is_empty() { writes.max(self.next + 1) } else { self.next };
        for (write, step) in listed {
            if bytes >= MESSAGE_BYTES {
                break;
            }
            behind = write + 1;
            self.last_step = self.last_step.max(Some(step));
            if self.is_sent(step, write) || !(self.wanted.first..=self.wanted.last).contains(&step) {
                continue;
            }
            self.sent.insert(step, writes);
            lines
                .extend(one_line(snapshot, self.place, step).await?.inspect(|line| bytes += line.text.len()));
        }
        self.next = behind;
        if behind >= writes {
            // Every write that the sent lines may reflect has been processed.
            self.sent.clear();
        }
        let oldest = self.backlog.iter().map(|read| read.writes).max();
        if oldest.is_some_and(|writes| writes <= behind) {
            self.backlog.clear();
        }
        lines.sort_by_key(|line| line.step);
        Ok(lines)
    }
}

async fn one_line(
    snapshot: &dyn Snapshot,
    (project, number): Place,
    step: i64,
) -> Result<Option<matyan_proto::logs::v1::Line>> {
    let one = LogScan { count: 1, bytes: 1, last: false };
    let mut lines = terminal_lines_list(snapshot, project, number, (step, step), one).await?;
    Ok(lines.pop().map(line))
}

/// The state of a run as seen by its follower.
struct State {
    seen: RunSeen,
    lines: u64,
    records: u64,
    is_active: bool,
}

impl State {
    async fn read(context: &Context, (project, number): Place) -> Result<Self> {
        let snapshot = context.store.snapshot().await?;
        let snapshot = snapshot.as_ref();
        let seen = run_seen(snapshot, project, number).await?;
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
    async fn wait<T>(&self, context: &Context, place: Place, sender: &Sender<T>) -> Result<bool, End> {
        let changed = run_changed(context.store.as_ref(), place.0, place.1, &self.seen);
        match sender.wait(tokio::time::timeout(SIGN_OF_LIFE, changed)).await? {
            Ok(changed) => {
                changed?;
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }
}

/// Sends records in pieces. With `at_once`, sends the first message even if there are no
/// records.
pub(super) async fn send_records(
    context: &Context,
    place: Place,
    mut range: Range<u64>,
    count: u64,
    at_once: bool,
    sender: &Sender<RecordsResponse>,
) -> Result<(), End> {
    let mut is_due = at_once;
    while is_due || range.start < range.end {
        let records = read_records(context, place, range.start..range.end.max(range.start)).await?;
        range.start = match records.last() {
            Some(last) => u64::try_from(last.step).unwrap_or_default() + 1,
            None => range.end,
        };
        if is_due || !records.is_empty() {
            sender.send(RecordsResponse { records, count }).await?;
        }
        is_due = false;
    }
    Ok(())
}

/// Sends the records of a range as they are written.
pub(super) async fn records(
    context: &Context,
    place: Place,
    mut range: Range<u64>,
    sender: &Sender<RecordsResponse>,
) -> Result<(), End> {
    loop {
        let state = State::read(context, place).await?;
        let end = range.end.min(state.records);
        if range.start < end {
            send_records(context, place, range.start..end, state.records, false, sender).await?;
            range.start = end;
        }
        if !state.is_active {
            return Ok(());
        }
        if !state.wait(context, place, sender).await? {
            sender.send(RecordsResponse { records: Vec::new(), count: state.records }).await?;
        }
    }
}
