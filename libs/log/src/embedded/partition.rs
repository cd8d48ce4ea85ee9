//! A slot as readers see it: its extent, and its newest records, handed over in memory.
//!
//! Only durable records get here. The committer never waits for a reader: if a reader is slow,
//! the oldest records are dropped from memory and read from the engine instead.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
};

use super::engine::Extent;
use crate::{Error, Record, Result};

/// Size of one delivery: large enough to amortize the thread hop, small enough to be applied in
/// one step.
const PAGE_BYTES: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Partition(Mutex<State>);

#[derive(Default)]
pub(super) struct State {
    extent: Extent,
    /// Id of the subscription that reads this partition.
    owner: Option<u64>,
    /// All records from `tail_from` to the end.
    tail: VecDeque<Record>,
    tail_from: u64,
    tail_bytes: usize,
}

/// The result of looking for records at a reader's position.
pub(super) enum Found {
    Nothing,
    Records(Vec<Record>),
    /// Read from the engine, up to and excluding `end`.
    Stored {
        end: u64,
    },
}

impl Partition {
    pub(super) fn new(extent: Extent) -> Self {
        Self(Mutex::new(State { extent, tail_from: extent.end, ..State::default() }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no thread panics while holding a partition")
    }
}

impl State {
    pub(super) fn extent(&self) -> Extent {
        self.extent
    }

    pub(super) fn claim(&mut self, subscription: u64) -> bool {
        let is_free = self.owner.is_none();
        if is_free {
            self.owner = Some(subscription);
        }
        is_free
    }

    pub(super) fn give_up(&mut self, subscription: u64) {
        if self.owner == Some(subscription) {
            self.owner = None;
            self.forget_tail();
        }
    }

    /// Makes records readable, up to the end of `extent`.
    pub(super) fn publish(&mut self, records: Vec<Record>, extent: Extent, tail_limit: usize) {
        self.extent = extent;
        // Without a reader, nothing is kept in memory.
        if self.owner.is_none() {
            self.tail_from = extent.end;
            return;
        }
        for record in records {
            self.tail_bytes += memory(&record);
            self.tail.push_back(record);
        }
        while self.tail_bytes > tail_limit {
            self.pop();
            self.tail_from = self.tail.front().map_or(extent.end, |record| record.offset);
        }
    }

    pub(super) fn trim(&mut self, first: u64, bytes_before_first: u64) {
        self.extent.first = first;
        self.extent.bytes_before_first = bytes_before_first;
    }

    /// Rejects an offset that cannot be read from.
    pub(super) fn check(&self, partition: u32, asked: u64) -> Result<()> {
        let Extent { first, end, .. } = self.extent;
        if asked < first {
            return Err(Error::Trimmed { partition, asked, first });
        }
        if asked > end {
            return Err(Error::Replaced { partition, asked, end });
        }
        Ok(())
    }

    pub(super) fn find(&mut self, from: u64) -> Found {
        if from >= self.extent.end {
            return Found::Nothing;
        }
        if from < self.tail_from {
            return Found::Stored { end: self.tail_from };
        }
        // Skips records before the offset at which the reader was started.
        while self.tail.front().is_some_and(|record| record.offset < from) {
            self.pop();
        }
        let mut bytes = 0;
        let mut page = Vec::new();
        while bytes < PAGE_BYTES
            && let Some(record) = self.pop()
        {
            bytes += memory(&record);
            page.push(record);
        }
        self.tail_from = page.last().map_or(self.extent.end, |record| record.offset + 1);
        if page.is_empty() { Found::Nothing } else { Found::Records(page) }
    }

    fn pop(&mut self) -> Option<Record> {
        let record = self.tail.pop_front()?;
        self.tail_bytes -= memory(&record);
        Some(record)
    }

    fn forget_tail(&mut self) {
        self.tail.clear();
        self.tail_bytes = 0;
        self.tail_from = self.extent.end;
    }
}

fn memory(record: &Record) -> usize {
    size_of::<Record>() + record.key.len() + record.value.len()
}
