//! The runs that are, or recently were, being written: each with its queue and its writer. The
//! least recently used idle runs are evicted when they take too much memory.
//!
//! A run's share of the window is bounded, so that a run that is slow, or writes more than can be
//! applied, does not keep records of other runs from being read. Records that do not fit stay in the
//! log: the worker reads on, and returns to them (`Partition::seek`) when the run has room.

use std::collections::{HashMap, VecDeque};

use matyan_model::position::LogPosition;
use tokio::time::Instant;

use super::{
    deferred_runs::{Deferral, DeferredRuns, Readiness},
    read_point::{ReadPoint, ReadRecord},
};
use crate::{
    apply::{RunKey, RunWriter},
    fold::UnhandledBlocks,
    record::Entry,
};

/// Maximum bytes applied in one turn of a writer, so that progress is reported often.
const TURN_BYTES: usize = 4 << 20;
/// Part of the window that one run may use.
const RUN_SHARE: usize = 4;
/// Part of the window that a run may have used when the worker returns to its records, so that the worker
/// takes many at once. While less than three quarters of the window are used, every run has that much.
const RETURN_SHARE: usize = 8;
/// Number of runs with records to apply at which reading stops: each run takes memory for its documents and
/// its transaction, however small its records are.
const BUSY_RUNS: usize = 2_048;
/// Number of runs with records left in the log at which reading of new records stops: each run takes memory,
/// however few its records are.
const DEFERRED_RUNS: usize = 8_192;
/// Part of the free window that one run may use. However many runs are stuck, some of the window is left for
/// the others, and any number of busy runs share nearly all of it.
const FREE_SHARE: usize = 2;
/// Bytes of entries with which a run does not rest.
pub(super) const REST_BYTES: usize = 256 << 10;
/// Parts of the window, and of the busy runs, above which no run rests.
const REST_SHARE: usize = 4;

pub(super) struct ActiveRuns {
    runs: HashMap<RunKey, ActiveRun>,
    /// Runs with records that were left in the log.
    deferred: DeferredRuns,
    /// Bytes of entries that are taken and not yet applied.
    window: usize,
    max_window: usize,
    /// Number of runs with entries that are taken and not yet applied.
    busy: usize,
    /// Memory of the runs that are currently not being written.
    idle_bytes: usize,
    max_idle_bytes: usize,
    /// Number of uses so far.
    uses: u64,
}

struct ActiveRun {
    queue: VecDeque<Entry>,
    /// `None` while the writer is in use.
    writer: Option<Box<RunWriter>>,
    /// The first record of the writer's current turn.
    applying: Option<LogPosition>,
    /// Bytes of its entries that are taken and not yet applied.
    window: usize,
    /// Memory of its writer while it is idle.
    bytes: usize,
    /// Time of last use as a sequence number; the lowest are evicted first.
    used: u64,
    /// Whether it needs a turn even without entries.
    is_woken: bool,
    /// When its last turn began.
    turn_began: Option<Instant>,
    /// Its blocks that the fold thread has yet to look at.
    blocks: UnhandledBlocks,
}

/// Outcome of offering a record that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// The record is queued. The flag says whether its run needs a `dispatch`: it was idle, or has too much to
    /// rest any longer.
    Queued { needs_turn: bool },
    /// The record is left in the log, because its run has no room.
    Deferred,
    /// The record was taken before.
    Repeated,
}

impl ActiveRun {
    fn new(writer: RunWriter) -> Self {
        Self {
            queue: VecDeque::new(),
            writer: Some(Box::new(writer)),
            applying: None,
            window: 0,
            bytes: 0,
            used: 0,
            is_woken: false,
            turn_began: None,
            blocks: UnhandledBlocks::default(),
        }
    }

    /// Subtracts entries that are applied or dropped. Returns 1 if the run has none left, and 0 otherwise.
    fn release(&mut self, bytes: usize) -> usize {
        self.window -= bytes;
        usize::from(bytes > 0 && self.window == 0)
    }

    /// The first record that is taken and not yet applied.
    fn first(&self) -> Option<LogPosition> {
        self.applying.or_else(|| self.queue.front().map(|entry| entry.position))
    }

    /// Whether there is something to do in a turn.
    fn has_work(&self) -> bool {
        !self.queue.is_empty() || self.is_woken
    }

    fn is_idle(&self) -> bool {
        !self.has_work() && self.writer.is_some()
    }

    fn can_begin_turn(&self) -> bool {
        self.has_work() && self.writer.is_some()
    }
}

/// A writer and the entries that it applies next.
pub(super) struct Turn {
    pub(super) writer: Box<RunWriter>,
    pub(super) entries: Vec<Entry>,
    pub(super) bytes: usize,
    pub(super) blocks: UnhandledBlocks,
}

impl ActiveRuns {
    pub(super) fn new(max_window: usize, max_idle_bytes: usize) -> Self {
        Self {
            runs: HashMap::new(),
            deferred: DeferredRuns::default(),
            window: 0,
            max_window,
            busy: 0,
            idle_bytes: 0,
            max_idle_bytes,
            uses: 0,
        }
    }

    /// Bytes of entries that are taken and not yet applied.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    /// Whether any more records may be read. Runs without records may exceed the window a little.
    pub(super) fn has_room(&self) -> bool {
        self.window < 2 * self.max_window && self.busy < BUSY_RUNS
    }

    /// Whether any more new records may be read: their runs may have no room. Records that were left in the
    /// log are always reread, because otherwise the runs that they belong to would never become fewer.
    pub(super) fn may_defer(&self) -> bool {
        self.deferred.len() < DEFERRED_RUNS
    }

    pub(super) fn has(&self, key: &RunKey) -> bool {
        self.runs.contains_key(key)
    }

    pub(super) fn insert(&mut self, key: RunKey, writer: RunWriter) {
        self.runs.insert(key, ActiveRun::new(writer));
    }

    /// Queues an entry of a run if the run has room.
    pub(super) fn offer(&mut self, key: &RunKey, mut entry: Entry, read: &ReadRecord) -> Admission {
        let LogPosition { partition, offset, .. } = entry.position;
        let run = self.runs.get_mut(key).expect("the run was inserted before");
        let deferral = if self.deferred.is_empty() { None } else { self.deferred.get(key) };
        match deferral {
            None if !read.is_new => return Admission::Repeated,
            Some(deferral) if offset < deferral.from.offset => return Admission::Repeated,
            Some(Deferral { is_passed: true, .. }) => return Admission::Deferred,
            _ => {}
        }
        let total = self.window + entry.bytes;
        let fits = match run.window {
            // One record of each run has a second window, so that busy runs cannot exclude it.
            0 => self.window == 0 || total <= 2 * self.max_window,
            taken => {
                let share = self.max_window.saturating_sub(self.window) / FREE_SHARE;
                taken + entry.bytes <= share.min(self.max_window / RUN_SHARE)
            }
        };
        if !fits {
            let deferral = Deferral { partition, from: read.at, bytes: entry.bytes, is_passed: true };
            self.deferred.set(key, deferral, readiness(run.window, self.max_window, &deferral));
            return Admission::Deferred;
        }
        self.uses += 1;
        run.used = self.uses;
        self.busy += usize::from(run.window == 0);
        run.window += entry.bytes;
        self.window += entry.bytes;
        if let Some(deferral) = deferral {
            let deferral = Deferral { from: read.end, ..deferral };
            self.deferred.set(key, deferral, Readiness::Full);
        }
        let had_little = run.window - entry.bytes < REST_BYTES;
        let ends_rest = had_little && run.window >= REST_BYTES;
        let needs_turn = run.is_idle() || (run.writer.is_some() && ends_rest);
        entry.detach();
        run.queue.push_back(entry);
        Admission::Queued { needs_turn }
    }

    /// The first record of a run before a position that is not applied.
    pub(super) fn first_before(&self, key: &RunKey, position: LogPosition) -> Option<u64> {
        let LogPosition { log, partition, offset } = position;
        let mut first = None;
        if let Some(taken) = self.runs.get(key).and_then(ActiveRun::first)
            && taken.partition == partition
            && (taken.log, taken.offset) < (log, offset)
        {
            first = Some(taken.offset);
        }
        if let Some(deferral) = self.deferred.get(key)
            && deferral.partition == partition
            && deferral.from.offset < offset
        {
            let left = deferral.from.offset;
            first = Some(first.map_or(left, |taken| left.min(taken)));
        }
        first
    }

    /// The first point of a partition from which records are left in the log.
    pub(super) fn first_left(&self, partition: u32) -> Option<ReadPoint> {
        if self.deferred.is_empty() { None } else { self.deferred.first(partition) }
    }

    /// The first point of a partition with a record that was left in the log, and whose run now has
    /// room.
    pub(super) fn first_deferred(&self, partition: u32) -> Option<ReadPoint> {
        if self.deferred.is_empty() {
            return None;
        }
        let mut idle = None;
        if self.window < self.max_window / 2 * 3 {
            idle = self.deferred.first_ready(partition, Readiness::Idle, |deferral| {
                self.window == 0 || self.window + deferral.bytes <= 2 * self.max_window
            });
        }
        let mut busy = None;
        if self.window < self.max_window / 4 * 3 {
            busy = self.deferred.first_ready(partition, Readiness::Busy, |_| true);
        }
        idle.into_iter().chain(busy).min_by_key(|point| point.offset)
    }

    /// Whether records that were left in the log are being taken now.
    pub(super) fn is_returning(&self, partition: u32) -> bool {
        self.deferred.is_returning(partition)
    }

    /// Notes that a partition is reread from this offset. The worker does not return to runs without room.
    pub(super) fn rewind(&mut self, partition: u32, offset: u64) {
        let ready: Vec<(RunKey, Readiness)> =
            self.deferred.ready(partition, offset).map(|(key, readiness)| (key.clone(), readiness)).collect();
        for (key, readiness) in ready {
            if let Some(deferral) = self.deferred.get(&key) {
                self.deferred.set(&key, Deferral { is_passed: false, ..deferral }, readiness);
            }
        }
    }

    /// Notes that reading of a partition skips from one point to another: runs with records left in
    /// the log may have some in between.
    pub(super) fn skip(&mut self, partition: u32, from: ReadPoint) {
        for key in self.deferred.returning(partition) {
            let Some(deferral) = self.deferred.get(&key) else { continue };
            let from = if from.offset > deferral.from.offset { from } else { deferral.from };
            let deferral = Deferral { from, is_passed: true, ..deferral };
            let taken = self.runs.get(&key).map_or(0, |run| run.window);
            self.deferred.set(&key, deferral, readiness(taken, self.max_window, &deferral));
        }
    }

    /// Notes that everything in a partition has been read since the last `rewind`, so all records are taken
    /// that were not left in the log once more.
    pub(super) fn caught_up(&mut self, partition: u32) {
        for key in self.deferred.returning(partition) {
            self.deferred.remove(&key);
        }
    }

    /// Notes that a partition is about to be read from a new start.
    pub(super) fn restart(&mut self, partition: u32) {
        for key in self.deferred.of_partition(partition) {
            self.deferred.remove(&key);
        }
    }

    /// Whether a run has something to apply, and its writer is not in use.
    pub(super) fn can_begin_turn(&self, key: &RunKey) -> bool {
        self.runs.get(key).is_some_and(ActiveRun::can_begin_turn)
    }

    /// Takes out a run's writer and its first entries; `None` if it has none, or if its writer
    /// is in use.
    pub(super) fn take_turn(&mut self, key: &RunKey) -> Option<Turn> {
        let run = self.runs.get_mut(key).filter(|run| run.can_begin_turn())?;
        let writer = run.writer.take()?;
        run.is_woken = false;
        run.turn_began = Some(Instant::now());
        let mut entries = Vec::new();
        let mut bytes = 0;
        while let Some(entry) = run.queue.front()
            && (entries.is_empty() || bytes + entry.bytes <= TURN_BYTES)
        {
            bytes += entry.bytes;
            entries.extend(run.queue.pop_front());
        }
        if run.queue.is_empty() {
            // Thousands of idle runs would keep what their queues have allocated.
            run.queue = VecDeque::new();
        }
        run.applying = entries.first().map(|entry| entry.position);
        self.idle_bytes -= std::mem::take(&mut run.bytes);
        Some(Turn { writer, entries, bytes, blocks: run.blocks.clone() })
    }

    /// When the last turn of a run began, if the run may rest before its next one: it has little to apply, and so
    /// have all runs together.
    pub(super) fn may_rest(&self, key: &RunKey) -> Option<Instant> {
        let run = self.runs.get(key)?;
        let has_little = run.window < REST_BYTES
            && self.window < self.max_window / REST_SHARE
            && self.busy < BUSY_RUNS / REST_SHARE;
        if has_little && !run.is_woken { run.turn_began } else { None }
    }

    /// Makes the run's next turn possible even without entries.
    pub(super) fn wake(&mut self, key: &RunKey) {
        if let Some(run) = self.runs.get_mut(key) {
            run.is_woken = true;
        }
    }

    /// Puts back the writer of a turn that has applied entries of this size, and the entries that it left.
    pub(super) fn put_back(
        &mut self,
        key: &RunKey,
        writer: Box<RunWriter>,
        applied: usize,
        left: Vec<Entry>,
    ) {
        self.window -= applied;
        if let Some(run) = self.runs.get_mut(key) {
            run.applying = None;
            for entry in left.into_iter().rev() {
                run.queue.push_front(entry);
            }
            self.busy -= run.release(applied);
            self.deferred.set_readiness(key, |deferral| readiness(run.window, self.max_window, deferral));
            let is_last = !run.has_work() && self.deferred.get(key).is_none();
            if is_last && writer.has_deleted_run() {
                // Hardly anything follows, and thousands of runs may be deleted at a time.
                self.runs.remove(key);
                return;
            }
            run.bytes = writer.bytes();
            self.idle_bytes += run.bytes;
            run.writer = Some(writer);
        }
    }

    /// Drops the queued entries of a partition.
    pub(super) fn drop_partition(&mut self, number: u32) {
        for (key, run) in &mut self.runs {
            let mut dropped = 0;
            run.queue.retain(|entry| {
                let is_kept = entry.position.partition != number;
                dropped += if is_kept { 0 } else { entry.bytes };
                is_kept
            });
            self.busy -= run.release(dropped);
            self.window -= dropped;
            if dropped > 0 {
                self.deferred.set_readiness(key, |deferral| readiness(run.window, self.max_window, deferral));
            }
        }
        self.restart(number);
    }

    /// Evicts the least recently written idle runs if they take too much memory, until they take half of it.
    pub(super) fn trim(&mut self) {
        if self.idle_bytes <= self.max_idle_bytes {
            return;
        }
        // A run whose records were left in the log is remembered nowhere else.
        let deferred = &self.deferred;
        let is_evictable = |key: &RunKey, run: &ActiveRun| run.is_idle() && deferred.get(key).is_none();
        let evictable = self.runs.iter().filter(|(key, run)| is_evictable(key, run));
        let mut uses: Vec<(u64, usize)> = evictable.map(|(_, run)| (run.used, run.bytes)).collect();
        let mut bytes: usize = uses.iter().map(|(_, bytes)| bytes).sum();
        if bytes <= self.max_idle_bytes {
            return;
        }
        uses.sort_unstable();
        let mut last_evicted = 0;
        for (used, bytes_of_run) in uses {
            if bytes <= self.max_idle_bytes / 2 {
                break;
            }
            bytes -= bytes_of_run;
            last_evicted = used;
        }
        self.runs.retain(|key, run| {
            let is_kept = !is_evictable(key, run) || run.used > last_evicted;
            if !is_kept {
                self.idle_bytes -= run.bytes;
            }
            is_kept
        });
    }
}

/// Whether the worker should return to a record that was left in the log, given how much of the run is
/// taken.
fn readiness(taken: usize, max_window: usize, deferral: &Deferral) -> Readiness {
    match taken {
        0 => Readiness::Idle,
        taken if taken + deferral.bytes <= max_window / RETURN_SHARE => Readiness::Busy,
        _ => Readiness::Full,
    }
}

#[cfg(test)]
mod tests;
