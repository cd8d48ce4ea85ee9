//! Reclaims the space of deleted rows.
//!
//! The engine drops a deleted row only when a merge takes its tombstone to the last level, which may need far
//! more writes than the deletion itself. So when the store is quiet and many of its rows are tombstones, all of it is
//! merged on a separate thread, next to reads and commits.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::engine::{Engine, EngineSize};
use super::shared;
use crate::Result;

/// Fewer tombstones are not worth a merge.
const LEAST_TOMBSTONES: u64 = 20_000;
/// Entries of tables for each tombstone.
const ENTRIES_PER_TOMBSTONE: u64 = 10;
/// A burst of writes that starts during a merge waits for its end, so larger stores are not merged.
const MOST_BYTES: u64 = 256 << 20;
/// Free space for each byte of the store. The merge writes all remaining rows before it deletes old files.
const FREE_PER_BYTE: u64 = 2;

/// Interval between looks at the store.
pub(super) const INTERVAL: Duration = Duration::from_secs(3);
/// Bytes written in an interval above which the store is not quiet.
const BUSY_BYTES: u64 = 256 << 10;
/// Pause between merges. A merge leaves the tombstones of rows that were deleted during the merge, or all
/// tombstones if it failed.
const PAUSE: Duration = Duration::from_secs(60);

pub(super) struct Reclaimer {
    since: Instant,
    /// Size of the memtable at that time.
    memtable_bytes: u64,
    merge: Option<JoinHandle<Result<()>>>,
    merged_at: Option<Instant>,
    /// Whether files that the last merge has replaced may be left.
    has_replaced_files: bool,
}

impl Default for Reclaimer {
    fn default() -> Self {
        let since = Instant::now();
        Self { since, memtable_bytes: 0, merge: None, merged_at: None, has_replaced_files: false }
    }
}

impl Reclaimer {
    /// Starts a merge at the end of a quiet interval, if it would free much. Returns whether to delete files
    /// that a merge has replaced. Commits wait for this call, so it waits for no flush.
    pub(super) fn look(&mut self, engine: &Engine) -> Result<bool> {
        if self.since.elapsed() < INTERVAL {
            return Ok(false);
        }
        let size = engine.size();
        // A smaller memtable is a new one: the last one has become full.
        let written = size.memtable_bytes.checked_sub(self.memtable_bytes);
        let is_quiet = written.is_some_and(|written| written < BUSY_BYTES);
        self.since = Instant::now();
        self.memtable_bytes = size.memtable_bytes;
        if let Some(merge) = &self.merge {
            let has_ended = merge.is_finished();
            if has_ended {
                self.finish();
                self.merged_at = Some(Instant::now());
                self.has_replaced_files = true;
            }
            return Ok(has_ended);
        }
        // An open snapshot may have needed them the last time.
        self.has_replaced_files &= size.old_versions > 1;
        if self.has_replaced_files || !is_quiet || size.sealed_memtables > 0 || size.bytes > MOST_BYTES {
            return Ok(self.has_replaced_files);
        }
        if size.memtable_entries >= LEAST_TOMBSTONES {
            // They may be tombstones, which only tables count.
            engine.seal_memtable()?;
            self.memtable_bytes = 0;
        } else if self.is_worthwhile(&size, engine) {
            self.start(engine.clone());
        }
        Ok(false)
    }

    fn is_worthwhile(&self, size: &EngineSize, engine: &Engine) -> bool {
        self.merged_at.is_none_or(|at| at.elapsed() >= PAUSE)
            && size.tombstones >= LEAST_TOMBSTONES
            && size.tombstones >= size.entries / ENTRIES_PER_TOMBSTONE
            && engine.free_bytes() / FREE_PER_BYTE >= size.bytes
    }

    fn start(&mut self, engine: Engine) {
        let thread = std::thread::Builder::new().name("store-reclaim".to_owned());
        match thread.spawn(move || engine.merge_all()) {
            Ok(merge) => self.merge = Some(merge),
            Err(error) => tracing::warn!(%error, "failed to start a thread to reclaim space; will retry"),
        }
    }

    /// Waits for the merge, after which the engine can be closed.
    pub(super) fn finish(&mut self) {
        match self.merge.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => {
                let error = shared::error_chain(&error);
                tracing::warn!(error, "failed to reclaim the space of deleted rows; will retry");
            }
            Some(Err(_)) => tracing::error!("the thread that reclaims space panicked"),
        }
    }
}

#[cfg(test)]
mod tests;
