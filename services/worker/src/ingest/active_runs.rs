//! The runs that are, or recently were, being written: each with its queue and its writer. The
//! least recently used idle ones are evicted when they take too much memory.
//!
//! A run's share of the window is bounded, so that one that is slow, or writes more than can be
//! applied, does not keep records of other runs from being read. What does not fit stays in the
//! log: the worker reads on, and returns to it (`Partition::seek`) when the run has room again.

use std::collections::{HashMap, HashSet, VecDeque};

use matyan_model::position::LogPosition;

use crate::{
    apply::{RunKey, RunWriter},
    fold::UnhandledBlocks,
    record::Entry,
};

/// Maximum bytes applied in one turn of a writer, so that progress is reported often.
const TURN_BYTES: usize = 4 << 20;
/// Part of the window that one run may use.
const RUN_SHARE: usize = 4;

pub(super) struct ActiveRuns {
    runs: HashMap<RunKey, ActiveRun>,
    /// Runs with records that were left in the log.
    deferred: HashSet<RunKey>,
    /// Bytes of entries that are taken and not yet applied.
    window: usize,
    max_window: usize,
    /// Memory of the runs that are currently not being written.
    idle_bytes: usize,
    max_idle_bytes: usize,
    /// Number of uses so far.
    uses: u64,
}

struct ActiveRun {
    queue: VecDeque<Entry>,
    /// `None` while the writer is in use.
    writer: Option<RunWriter>,
    /// Bytes of its entries that are taken and not yet applied.
    window: usize,
    /// Memory of its writer while it is idle.
    bytes: usize,
    /// Time of last use as a sequence number; the lowest are evicted first.
    used: u64,
    reading: ReadState,
    /// Its blocks that the fold thread has yet to look at.
    blocks: UnhandledBlocks,
}

/// Progress of taking the records of a run from its partition.
#[derive(Clone, Copy, Debug, Default)]
struct ReadState {
    partition: u32,
    /// Records of the run before this offset are taken.
    from: u64,
    /// Whether the worker has read past a record of the run without taking it.
    is_passed: bool,
}

/// Outcome of offering a record that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is queued. The flag says whether its run was idle, and thus needs a `dispatch`.
    Queued { was_idle: bool },
    /// It is left in the log, because its run has no room.
    Deferred,
    /// It was taken before.
    Repeated,
}

impl ActiveRun {
    fn new(writer: RunWriter, partition: u32) -> Self {
        let reading = ReadState { partition, ..ReadState::default() };
        let (queue, blocks) = Default::default();
        Self { queue, writer: Some(writer), window: 0, bytes: 0, used: 0, reading, blocks }
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.writer.is_some()
    }
}

/// A writer and the entries that it applies next.
pub(super) struct Turn {
    pub(super) writer: RunWriter,
    pub(super) entries: Vec<Entry>,
    pub(super) bytes: usize,
    pub(super) blocks: UnhandledBlocks,
}

impl ActiveRuns {
    pub(super) fn new(max_window: usize, max_idle_bytes: usize) -> Self {
        let (runs, deferred) = Default::default();
        Self { runs, deferred, window: 0, max_window, idle_bytes: 0, max_idle_bytes, uses: 0 }
    }

    /// Bytes of entries that are taken and not yet applied.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    /// Whether any more records may be read. Runs without records may exceed the window a little.
    pub(super) fn has_room(&self) -> bool {
        self.window < 2 * self.max_window
    }

    /// Queues an entry of a run if the run has room, with a new writer if it has none. `is_new` says
    /// that the record was not read before.
    pub(super) fn offer(
        &mut self,
        key: &RunKey,
        entry: Entry,
        is_new: bool,
        writer: impl FnOnce() -> RunWriter,
    ) -> Admission {
        let LogPosition { partition, offset, .. } = entry.position;
        if !self.runs.contains_key(key) {
            if !is_new {
                return Admission::Repeated;
            }
            self.runs.insert(key.clone(), ActiveRun::new(writer(), partition));
        }
        let run = self.runs.get_mut(key).expect("the run was inserted above");
        if offset < run.reading.from {
            return Admission::Repeated;
        }
        let total = self.window + entry.bytes;
        let fits = match run.window {
            // One record of each run has a second window, so that busy runs cannot exclude it.
            0 => self.window == 0 || total <= 2 * self.max_window,
            taken => taken + entry.bytes <= self.max_window / RUN_SHARE && total <= self.max_window,
        };
        if run.reading.is_passed || !fits {
            if !run.reading.is_passed {
                run.reading = ReadState { partition, from: offset, is_passed: true };
                self.deferred.insert(key.clone());
            }
            return Admission::Deferred;
        }
        self.uses += 1;
        run.used = self.uses;
        run.reading = ReadState { partition, from: offset + 1, is_passed: false };
        run.window += entry.bytes;
        self.window += entry.bytes;
        let was_idle = run.is_idle();
        run.queue.push_back(entry);
        Admission::Queued { was_idle }
    }

    /// The first offset of a partition with a record that was left in the log, and whose run now has
    /// room.
    pub(super) fn first_deferred(&self, partition: u32) -> Option<u64> {
        let has_room = |run: &&ActiveRun| match run.window {
            0 => self.window < self.max_window / 2 * 3,
            taken => taken <= self.max_window / RUN_SHARE / 2 && self.window < self.max_window / 4 * 3,
        };
        let runs = self.deferred.iter().filter_map(|key| self.runs.get(key));
        let ready = runs.filter(|run| run.reading.is_passed && run.reading.partition == partition);
        let ready = ready.filter(has_room);
        ready.map(|run| run.reading.from).min()
    }

    /// Whether records that were left in the log are being taken now.
    pub(super) fn is_returning(&self, partition: u32) -> bool {
        let mut runs = self.deferred.iter().filter_map(|key| self.runs.get(key));
        runs.any(|run| run.reading.partition == partition && !run.reading.is_passed)
    }

    /// Notes that a partition is read from this offset again.
    pub(super) fn rewind(&mut self, partition: u32, offset: u64) {
        for key in &self.deferred {
            if let Some(run) = self.runs.get_mut(key)
                && run.reading.partition == partition
                && run.reading.from >= offset
            {
                run.reading.is_passed = false;
            }
        }
    }

    /// Notes that reading of a partition skips from one offset to another: runs with records left in
    /// the log may have some in between.
    pub(super) fn skip(&mut self, partition: u32, from: u64) {
        for key in &self.deferred {
            if let Some(run) = self.runs.get_mut(key)
                && run.reading.partition == partition
                && !run.reading.is_passed
            {
                run.reading.from = run.reading.from.max(from);
                run.reading.is_passed = true;
            }
        }
    }

    /// Notes that everything in a partition has been read since the last `rewind`, so what was not
    /// left in the log again is taken.
    pub(super) fn caught_up(&mut self, partition: u32) {
        if self.deferred.is_empty() {
            return;
        }
        let runs = &self.runs;
        self.deferred.retain(|key| {
            runs.get(key).is_some_and(|run| run.reading.partition != partition || run.reading.is_passed)
        });
    }

    /// Notes that a partition is about to be read from a new start.
    pub(super) fn restart(&mut self, partition: u32) {
        for run in self.runs.values_mut().filter(|run| run.reading.partition == partition) {
            run.reading = ReadState { partition, ..ReadState::default() };
        }
        self.caught_up(partition);
    }

    /// Takes out a run's writer and its first entries; `None` if it has none, or if its writer
    /// is in use.
    pub(super) fn take_turn(&mut self, key: &RunKey) -> Option<Turn> {
        let run = self.runs.get_mut(key).filter(|run| !run.queue.is_empty())?;
        let writer = run.writer.take()?;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while let Some(entry) = run.queue.front()
            && (entries.is_empty() || bytes + entry.bytes <= TURN_BYTES)
        {
            bytes += entry.bytes;
            entries.extend(run.queue.pop_front());
        }
        self.idle_bytes -= std::mem::take(&mut run.bytes);
        Some(Turn { writer, entries, bytes, blocks: run.blocks.clone() })
    }

    /// Puts back the writer of a turn with entries of this size.
    pub(super) fn put_back(&mut self, key: &RunKey, writer: RunWriter, applied: usize) {
        self.window -= applied;
        if let Some(run) = self.runs.get_mut(key) {
            run.window -= applied;
            run.bytes = writer.bytes();
            self.idle_bytes += run.bytes;
            run.writer = Some(writer);
        }
    }

    /// Drops the queued entries of a partition.
    pub(super) fn drop_partition(&mut self, number: u32) {
        for run in self.runs.values_mut() {
            let mut dropped = 0;
            run.queue.retain(|entry| {
                let is_kept = entry.position.partition != number;
                dropped += if is_kept { 0 } else { entry.bytes };
                is_kept
            });
            run.window -= dropped;
            self.window -= dropped;
        }
        self.restart(number);
    }

    /// Evicts the less recently written half of the idle runs if they take too much memory.
    pub(super) fn trim(&mut self) {
        if self.idle_bytes <= self.max_idle_bytes {
            return;
        }
        // A run whose records were left in the log is remembered nowhere else.
        let deferred = &self.deferred;
        let is_evictable = |key: &RunKey, run: &ActiveRun| run.is_idle() && !deferred.contains(key);
        let evictable = self.runs.iter().filter(|(key, run)| is_evictable(key, run));
        let mut uses: Vec<u64> = evictable.map(|(_, run)| run.used).collect();
        if uses.is_empty() {
            return;
        }
        uses.sort_unstable();
        let middle = uses[uses.len() / 2];
        self.runs.retain(|key, run| {
            let is_kept = !is_evictable(key, run) || run.used > middle;
            if !is_kept {
                self.idle_bytes -= run.bytes;
            }
            is_kept
        });
    }
}
