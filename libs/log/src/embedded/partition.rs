//! A topic's only partition as readers see it: its extent, and its newest records, handed over in
//! memory.
//!
//! Only durable records get here. The committer never waits for a reader: if a reader is slow,
//! the oldest records are dropped from memory and read from the segments instead.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
};

use crate::{Error, Record, Result};

/// Size of one delivery: large enough to amortize the thread hop, small enough to be applied in
/// one step.
pub(super) const PAGE_BYTES: usize = 1 << 20;

/// Number of the only partition of each topic.
pub(super) const PARTITION: u32 = 0;

/// First offset and end offset, each with the bytes before it since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) first: u64,
    pub(super) bytes_before_first: u64,
    pub(super) end: u64,
    pub(super) bytes_before_end: u64,
}

impl Extent {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes_before_end - self.bytes_before_first
    }
}

#[derive(Default)]
pub(super) struct Partition(Mutex<PartitionState>);

#[derive(Default)]
pub(super) struct PartitionState {
    extent: Extent,
    /// Id of the subscription that reads this partition.
    owner: Option<u64>,
    /// All records from `tail_from` to the end.
    tail: VecDeque<Record>,
    tail_from: u64,
    tail_bytes: usize,
}

/// The result of looking for records at a reader's position.
pub(super) enum Lookup {
    UpToDate,
    InMemory(Vec<Record>),
    /// Read from the segments, up to and excluding `end`.
    OnDisk {
        end: u64,
    },
}

impl Partition {
    pub(super) fn new(extent: Extent) -> Self {
        Self(Mutex::new(PartitionState { extent, tail_from: extent.end, ..PartitionState::default() }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, PartitionState> {
        self.0.lock().expect("no thread panics while holding a partition")
    }
}

impl PartitionState {
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

    pub(super) fn release(&mut self, subscription: u64) {
        if self.owner == Some(subscription) {
            self.owner = None;
            self.forget_tail();
        }
    }

    /// Makes records readable, up to the end of the log.
    pub(super) fn publish(
        &mut self,
        records: Vec<Record>,
        end: u64,
        bytes_before_end: u64,
        tail_limit: usize,
    ) {
        self.extent.end = end;
        self.extent.bytes_before_end = bytes_before_end;
        // Without a reader, nothing is kept in memory.
        if self.owner.is_none() {
            self.tail_from = end;
            return;
        }
        for record in records {
            self.tail_bytes += memory_bytes(&record);
            self.tail.push_back(record);
        }
        while self.tail_bytes > tail_limit {
            self.pop();
            self.tail_from = self.tail.front().map_or(end, |record| record.offset);
        }
    }

    pub(super) fn trim(&mut self, first: u64, bytes_before_first: u64) {
        self.extent.first = first;
        self.extent.bytes_before_first = bytes_before_first;
    }

    /// Rejects an offset that cannot be read from.
    pub(super) fn check_offset(&self, requested: u64) -> Result<()> {
        let Extent { first, end, .. } = self.extent;
        if requested < first {
            return Err(Error::Trimmed { partition: PARTITION, requested, first });
        }
        if requested > end {
            return Err(Error::Replaced { partition: PARTITION, requested, end });
        }
        Ok(())
    }

    pub(super) fn look_up(&mut self, from: u64) -> Lookup {
        if from >= self.extent.end {
            return Lookup::UpToDate;
        }
        if from < self.tail_from {
            return Lookup::OnDisk { end: self.tail_from };
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
            bytes += memory_bytes(&record);
            page.push(record);
        }
        self.tail_from = page.last().map_or(self.extent.end, |record| record.offset + 1);
        if page.is_empty() { Lookup::UpToDate } else { Lookup::InMemory(page) }
    }

    fn pop(&mut self) -> Option<Record> {
        let record = self.tail.pop_front()?;
        self.tail_bytes -= memory_bytes(&record);
        Some(record)
    }

    fn forget_tail(&mut self) {
        self.tail.clear();
        self.tail_bytes = 0;
        self.tail_from = self.extent.end;
    }
}

fn memory_bytes(record: &Record) -> usize {
    size_of::<Record>() + record.key.len() + record.value.len()
}
