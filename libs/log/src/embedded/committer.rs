//! The writer thread: it takes the queued appends, writes them, syncs once, makes them
//! readable, and then replies.
//!
//! There is no artificial delay to collect larger groups: while one group syncs, the next one
//! queues.
//!
//! If a group cannot be written, the engine is closed and reopened, and the group is written
//! again. Its callers wait in the meantime, each until its own timeout. Records that were
//! written but whose callers have given up are removed before anyone can read them. So an error
//! means that nothing of the append is in the log, unless the process ended before the removal.

use std::{error::Error, fs::File, sync::Arc, time::Duration};

use super::{
    Shared,
    engine::{self, Engine, Extent},
    queue::{Group, PendingTrim},
    record,
};
use crate::{Error as LogError, NewRecord, Position, Record, Result, Topic};

/// Time that the engine stays closed after a failure: initially, and at most.
const REOPEN_AFTER: Duration = Duration::from_millis(50);
const REOPEN_AFTER_AT_MOST: Duration = Duration::from_secs(2);

/// Interval between checks whether fjall has flushed, for which it offers no notification.
const FLUSH_POLL: Duration = Duration::from_millis(2);

pub(super) struct Committer {
    shared: Arc<Shared>,
    /// Held until the engine is permanently closed.
    lock: File,
}

/// A group that is on disk, but not yet readable.
struct WrittenGroup {
    appends: Vec<WrittenAppend>,
    trims: Vec<AppliedTrim>,
    appended_us: i64,
}

struct WrittenAppend {
    positions: Vec<Position>,
    is_removed: bool,
}

struct AppliedTrim {
    slot: usize,
    first: u64,
    bytes_before: u64,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, lock: File) -> Self {
        Self { shared, lock }
    }

    /// Runs until the queue is closed and everything that fits is written.
    pub(super) fn run(self) {
        while let Some(group) = self.shared.queue.take(|topic| self.shared.has_room(topic)) {
            if !self.write_until_done(group) {
                break;
            }
            self.retain_dead_letters();
        }
        self.shared.queue.refuse_rest();
        self.shared.close_engine();
        // Closing the file is not enough: a child process that is just being spawned may
        // still share it.
        if let Err(failure) = self.lock.unlock() {
            tracing::warn!(error = &failure as &dyn Error, "failed to unlock the log directory");
        }
        self.shared.notify_all_topics();
    }

    /// Writes a group, retrying as long as necessary. Returns false if the queue was closed
    /// before it could be written.
    fn write_until_done(&self, mut group: Group) -> bool {
        let mut wait = REOPEN_AFTER;
        loop {
            group.appends.retain(|append| !append.is_abandoned());
            let failure = match self.write(&group) {
                Ok(written) => {
                    self.publish(group, written);
                    return true;
                }
                Err(failure) => failure,
            };
            tracing::error!(error = &failure as &dyn Error, "failed to write to the log; reopening it");
            self.shared.close_engine();
            while self.shared.engine().is_none() {
                if self.shared.queue.pause(wait) {
                    return false;
                }
                wait = (wait * 2).min(REOPEN_AFTER_AT_MOST);
                if let Err(failure) = self.reopen() {
                    tracing::warn!(error = &failure as &dyn Error, "failed to reopen the log; will retry");
                }
            }
        }
    }

    fn write(&self, group: &Group) -> Result<WrittenGroup> {
        let engine = self.shared.engine();
        let engine = engine.as_ref().ok_or_else(|| LogError::unavailable("its engine is closed"))?;
        self.wait_for_flush(engine)?;
        let appended_us = (self.shared.deps.clock)();
        let mut writes = engine.writes();
        let mut ends = self.extents();
        let mut appends = Vec::with_capacity(group.appends.len());
        for append in &group.appends {
            let slots = self.shared.layout.slots(append.topic);
            let place = |(partition, record): &(u32, NewRecord)| {
                let slot = slots.start + *partition as usize;
                let stored = record::encode(record, appended_us, ends[slot].bytes_before_end);
                let offset = ends[slot].advance(stored.len());
                engine.insert(&mut writes, slot, offset, stored);
                Position { partition: *partition, offset }
            };
            let positions = append.records.iter().map(place).collect();
            appends.push(WrittenAppend { positions, is_removed: false });
        }
        let trims = self.resolve_trims(engine, &group.trims)?;
        for trim in &trims {
            engine.set_first(&mut writes, trim.slot, trim.first, trim.bytes_before);
        }
        engine.commit(writes).and_then(|()| engine.sync()).map_err(engine::engine_error)?;
        self.remove_abandoned(engine, group, &mut appends)?;
        engine.rotate().map_err(engine::engine_error)?;
        Ok(WrittenGroup { appends, trims, appended_us })
    }

    /// Blocks while fjall flushes on its own thread. Fails if flushing has failed.
    fn wait_for_flush(&self, engine: &Engine) -> Result<()> {
        while !engine.can_commit() {
            engine.check().map_err(engine::engine_error)?;
            std::thread::park_timeout(FLUSH_POLL);
        }
        Ok(())
    }

    /// Resolves requested trims: offsets are clamped to the end, and trims that would move
    /// backward are dropped.
    fn resolve_trims(&self, engine: &Engine, requested: &[PendingTrim]) -> Result<Vec<AppliedTrim>> {
        let mut trims: Vec<AppliedTrim> = Vec::new();
        for PendingTrim { slot, offset, .. } in requested {
            let extent = self.shared.partitions[*slot].lock().extent();
            let first = (*offset).min(extent.end);
            let reached = trims.iter().filter(|trim| trim.slot == *slot).map(|trim| trim.first).max();
            if first > reached.unwrap_or(extent.first) {
                let bytes_before =
                    engine.bytes_before(*slot, first, extent.end)?.unwrap_or(extent.bytes_before_end);
                trims.push(AppliedTrim { slot: *slot, first, bytes_before });
            }
        }
        Ok(trims)
    }

    /// Removes records whose callers have given up. This is synced, because only the last
    /// batch of a journal may be torn.
    fn remove_abandoned(&self, engine: &Engine, group: &Group, written: &mut [WrittenAppend]) -> Result<()> {
        let mut writes = engine.writes();
        let abandoned = group.appends.iter().zip(written).filter(|(append, _)| append.is_abandoned());
        for (append, written) in abandoned {
            written.is_removed = true;
            let slots = self.shared.layout.slots(append.topic);
            for position in &written.positions {
                engine.remove(&mut writes, slots.start + position.partition as usize, position.offset);
            }
        }
        if writes.is_empty() {
            return Ok(());
        }
        engine.commit(writes).and_then(|()| engine.sync()).map_err(engine::engine_error)
    }

    /// Makes a group readable, and completes its appends.
    fn publish(&self, group: Group, written: WrittenGroup) {
        let mut news: Vec<Vec<Record>> = self.shared.partitions.iter().map(|_| Vec::new()).collect();
        let mut ends = self.extents();
        // `reached` advances past all records, `ends` only past the last one that was
        // not removed.
        let mut reached = ends.clone();
        let mut replies = Vec::with_capacity(group.appends.len());
        for (append, WrittenAppend { positions, is_removed }) in
            group.appends.into_iter().zip(written.appends)
        {
            let slots = self.shared.layout.slots(append.topic);
            for (partition, record) in append.records {
                let slot = slots.start + partition as usize;
                let offset = reached[slot].advance(record::size(&record));
                if !is_removed {
                    ends[slot] = reached[slot];
                    let NewRecord { key, value, headers } = record;
                    news[slot].push(Record { offset, key, value, headers, appended_us: written.appended_us });
                }
            }
            replies.push((append.reply, positions));
        }
        for (partition, (records, end)) in self.shared.partitions.iter().zip(news.into_iter().zip(ends)) {
            if !records.is_empty() {
                partition.lock().publish(records, end, self.shared.settings.hand_off_bytes);
            }
        }
        for trim in written.trims {
            self.shared.partitions[trim.slot].lock().trim(trim.first, trim.bytes_before);
        }
        self.shared.notify_all_topics();
        // A send fails if the caller stopped waiting, which is fine.
        for (reply, positions) in replies {
            drop(reply.send(Ok(positions)));
        }
        for reply in group.trims.into_iter().filter_map(|trim| trim.reply) {
            drop(reply.send(Ok(())));
        }
    }

    /// Reopens the engine, and removes records of a group that never became readable.
    fn reopen(&self) -> Result<()> {
        let engine = Engine::reopen(&self.shared.engine_path, self.shared.layout)?;
        let mut writes = engine.writes();
        for (slot, readable) in self.extents().into_iter().enumerate() {
            let found = engine.extent(slot)?;
            if found.end < readable.end {
                return Err(LogError::corrupt(format!(
                    "it ended at offset {}, but after reopening it ends at {}",
                    readable.end, found.end
                )));
            }
            for offset in readable.end..found.end {
                engine.remove(&mut writes, slot, offset);
            }
        }
        engine.commit(writes).and_then(|()| engine.sync()).map_err(engine::engine_error)?;
        *self.shared.engine_mut() = Some(engine);
        tracing::info!("log recovered");
        Ok(())
    }

    /// Deletes the oldest dead letters once they exceed their limit. They are only copies.
    fn retain_dead_letters(&self) {
        let slot = self.shared.layout.slots(Topic::DeadLetters).start;
        let extent = self.shared.partitions[slot].lock().extent();
        if extent.bytes() <= self.shared.settings.dead_letter_bytes {
            return;
        }
        let offset = match self.shared.engine().as_ref().map(|engine| middle(engine, slot, extent)) {
            Some(Ok(offset)) => offset,
            Some(Err(error)) => {
                tracing::warn!(error = &error as &dyn Error, "failed to find old dead letters; will retry");
                return;
            }
            None => return,
        };
        let trims = vec![PendingTrim { slot, offset, reply: None }];
        if self.write_until_done(Group { trims, ..Group::default() }) {
            self.shared.drop_trimmed_tables(slot);
        }
    }

    fn extents(&self) -> Vec<Extent> {
        self.shared.partitions.iter().map(|partition| partition.lock().extent()).collect()
    }
}

/// The offset that splits the bytes of the extent in half.
fn middle(engine: &Engine, slot: usize, extent: Extent) -> Result<u64> {
    let wanted = extent.bytes_before_first + extent.bytes() / 2;
    let (mut low, mut high) = (extent.first, extent.end);
    while low < high {
        let offset = low + (high - low) / 2;
        match engine.bytes_before(slot, offset, extent.end)? {
            Some(bytes) if bytes < wanted => low = offset + 1,
            _ => high = offset,
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests;
