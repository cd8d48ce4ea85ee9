//! The space that uploads leave free on the disk of a directory. What an upload has announced counts from its
//! beginning, so that uploads that begin at the same time do not all take the same space. Each frontier counts only its
//! own uploads.
//!
//! An open upload in parts takes space only for the parts that are being sent: it stays open for a week, and would
//! keep everybody else out without sending anything.

use std::sync::Arc;

use parking_lot::Mutex;

use super::LimitReached;
use crate::{
    Result,
    fs::{DiskSpace, FsBlobs},
};

/// Number of bytes after which the disk is checked again: other uploads fill it, too.
const CHECKED_BYTES: u64 = 64 << 20;

/// The disk that uploads are written to. The log has one line when refusals start, and one when they
/// end.
pub(super) struct Disk {
    directory: Arc<FsBlobs>,
    min_free_bytes: u64,
    /// Bytes that uploads in progress have announced, and that have not arrived yet.
    announced: Mutex<u64>,
    refusals: Refusals,
}

impl Disk {
    pub(super) fn new(directory: Arc<FsBlobs>, min_free_bytes: u64) -> Self {
        Self { directory, min_free_bytes, announced: Mutex::default(), refusals: Refusals::default() }
    }

    /// Takes space for an upload. Fails unless enough remains free after it and all other uploads in progress.
    /// Without an announced size, the space is taken as the content arrives.
    pub(super) async fn reserve(self: &Arc<Self>, announced: Option<u64>) -> Result<DiskRoom> {
        let space = self.directory.disk_space().await?;
        let bytes_left = announced.unwrap_or_default();
        let mut all = self.announced.lock();
        self.refusals.check(without(space, *all), self.min_free_bytes, bytes_left)?;
        *all += bytes_left;
        drop(all);
        Ok(DiskRoom { disk: self.clone(), bytes_left, is_announced: announced.is_some(), unchecked: 0 })
    }

    /// Checks that enough remains free, because others fill the disk, too.
    async fn check(&self, announced: u64) -> Result<()> {
        let space = self.directory.disk_space().await?;
        Ok(self.refusals.check(without(space, announced), self.min_free_bytes, 0)?)
    }

    /// Returns why no upload is accepted, for readiness.
    pub(super) async fn problem(&self) -> Option<String> {
        match self.directory.disk_space().await {
            Ok(space) => check_space(space, self.min_free_bytes, 1).err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }
}

/// The space of one upload. What has not arrived is given back when it is dropped.
pub(super) struct DiskRoom {
    disk: Arc<Disk>,
    /// Announced bytes that have not arrived.
    bytes_left: u64,
    is_announced: bool,
    /// Bytes that have arrived since the last check of the disk.
    unchecked: u64,
}

impl DiskRoom {
    /// Counts bytes that have arrived, and are in the disk's own count from now on.
    pub(super) async fn count(&mut self, bytes: u64) -> Result<()> {
        self.give_back(bytes.min(self.bytes_left));
        self.unchecked += bytes;
        if self.unchecked < CHECKED_BYTES {
            return Ok(());
        }
        self.unchecked = 0;
        // An upload without a size must leave what others have announced.
        let announced = if self.is_announced { 0 } else { *self.disk.announced.lock() };
        self.disk.check(announced).await
    }

    fn give_back(&mut self, bytes: u64) {
        self.bytes_left -= bytes;
        *self.disk.announced.lock() -= bytes;
    }
}

impl Drop for DiskRoom {
    fn drop(&mut self) {
        self.give_back(self.bytes_left);
    }
}

/// The space that is left when these bytes have arrived.
fn without(space: DiskSpace, announced: u64) -> DiskSpace {
    DiskSpace { free: space.free.saturating_sub(announced), ..space }
}

/// While uploads are refused: the free space at which all refused uploads would be accepted.
#[derive(Default)]
struct Refusals(Mutex<Option<u64>>);

impl Refusals {
    /// Checks that enough remains free after more bytes, and logs a change.
    fn check(&self, space: DiskSpace, min_bytes: u64, more: u64) -> Result<(), LimitReached> {
        let outcome = check_space(space, min_bytes, more);
        let own = reserve(space, min_bytes).saturating_add(more);
        let mut needed = self.0.lock();
        match (&outcome, *needed) {
            (Err(error), None) => {
                tracing::warn!(%error, "refusing uploads: the disk is nearly full; free some space");
                *needed = Some(own);
            }
            (Err(_), Some(known)) => *needed = Some(known.max(own)),
            // A smaller upload may fit while the refused upload does not.
            (Ok(()), Some(known)) if space.free >= known => {
                tracing::info!(free = space.free, "accepting uploads again: the disk has enough space");
                *needed = None;
            }
            (Ok(()), _) => {}
        }
        outcome
    }
}

/// Checks that `min_bytes` remain free after more bytes.
fn check_space(space: DiskSpace, min_bytes: u64, more: u64) -> Result<(), LimitReached> {
    let wanted = reserve(space, min_bytes);
    if space.free < wanted.saturating_add(more) {
        return Err(LimitReached::FreeSpace { free: space.free, wanted });
    }
    Ok(())
}

/// The space that remains free. On a small disk, the default would leave no room for anything.
fn reserve(space: DiskSpace, min_bytes: u64) -> u64 {
    min_bytes.min(space.total / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_are_refused_until_the_one_that_was_refused_fits() {
        let refusals = Refusals::default();
        let with = |free| DiskSpace { free, total: 10_000 };
        let is_refusing = || refusals.0.lock().is_some();
        let check = |free, more, is_accepted, is_refusing_after| {
            assert_eq!(refusals.check(with(free), 100, more).is_ok(), is_accepted, "{free} {more}");
            assert_eq!(is_refusing(), is_refusing_after, "{free} {more}");
        };
        check(200, 100, true, false);
        check(150, 100, false, true);
        check(150, 10, true, true);
        check(200, 10, true, false);
        assert!(check_space(with(100), 100, 1).is_err());
        assert!(check_space(with(101), 100, 1).is_ok());
    }
}
