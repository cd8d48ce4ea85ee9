//! The runs that are, or recently were, being written: each with its queue and its writer. The
//! least recently used idle ones are evicted when they take too much memory.

use std::collections::{HashMap, VecDeque};

use crate::{
    apply::{RunKey, RunWriter},
    record::Entry,
};

/// Maximum bytes applied in one turn of a writer, so that progress is reported often.
const TURN_BYTES: usize = 4 << 20;

pub(super) struct ActiveRuns {
    runs: HashMap<RunKey, ActiveRun>,
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
    bytes: usize,
    /// Time of last use as a sequence number; the lowest are evicted first.
    used: u64,
}

impl ActiveRun {
    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.writer.is_some()
    }
}

/// A writer and the entries that it applies next.
pub(super) struct Turn {
    pub(super) writer: RunWriter,
    pub(super) entries: Vec<Entry>,
    pub(super) bytes: usize,
}

impl ActiveRuns {
    pub(super) fn new(max_idle_bytes: usize) -> Self {
        Self { runs: HashMap::new(), idle_bytes: 0, max_idle_bytes, uses: 0 }
    }

    /// Queues an entry of a run, with a new writer if the run has none. Returns whether the run
    /// was idle.
    pub(super) fn push(&mut self, key: &RunKey, entry: Entry, writer: impl FnOnce() -> RunWriter) -> bool {
        self.uses += 1;
        if !self.runs.contains_key(key) {
            let run = ActiveRun { queue: VecDeque::new(), writer: Some(writer()), bytes: 0, used: 0 };
            self.runs.insert(key.clone(), run);
        }
        let run = self.runs.get_mut(key).expect("the run was inserted above");
        run.used = self.uses;
        let was_idle = run.is_idle();
        run.queue.push_back(entry);
        was_idle
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
        Some(Turn { writer, entries, bytes })
    }

    /// Puts back the writer of a turn.
    pub(super) fn put_back(&mut self, key: &RunKey, writer: RunWriter) {
        if let Some(run) = self.runs.get_mut(key) {
            run.bytes = writer.bytes();
            self.idle_bytes += run.bytes;
            run.writer = Some(writer);
        }
    }

    /// Drops the queued entries of a partition, and returns their bytes.
    pub(super) fn drop_partition(&mut self, number: u32) -> usize {
        let mut dropped = 0;
        for run in self.runs.values_mut() {
            run.queue.retain(|entry| {
                let is_kept = entry.position.partition != number;
                dropped += if is_kept { 0 } else { entry.bytes };
                is_kept
            });
        }
        dropped
    }

    /// Evicts the less recently written half of the idle runs if they take too much memory.
    pub(super) fn trim(&mut self) {
        if self.idle_bytes <= self.max_idle_bytes {
            return;
        }
        let mut uses: Vec<u64> = self.runs.values().filter(|run| run.is_idle()).map(|run| run.used).collect();
        if uses.is_empty() {
            return;
        }
        uses.sort_unstable();
        let middle = uses[uses.len() / 2];
        self.runs.retain(|_, run| {
            let is_kept = !run.is_idle() || run.used > middle;
            if !is_kept {
                self.idle_bytes -= run.bytes;
            }
            is_kept
        });
    }
}
