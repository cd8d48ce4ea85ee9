//! Notices of written blocks, and how far writers may be ahead of the fold thread.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use crate::apply::{RunKey, WrittenBlocks};

/// Sizes of unhandled blocks, of one run and of all runs, above which a writer waits. Blocks of a run without
/// unhandled blocks are always accepted.
pub(super) const RUN_BYTES: usize = 8 << 20;
pub(super) const ALL_BYTES: usize = 32 << 20;
/// Size of a run's blocks up to which a higher limit of all blocks applies to the run. Runs that write much
/// do not use the room between the two limits.
pub(super) const LIGHT_RUN_BYTES: usize = 64 << 10;
const ALL_BYTES_OF_LIGHT_RUNS: usize = 2 * ALL_BYTES;
/// Least size that a notice counts as, so that the channel holds all of them.
pub(super) const MIN_NOTICE_BYTES: usize = 4 << 10;
/// Capacity for notices. If it does not suffice, the list in the store is read.
pub(super) const NOTICES: usize = ALL_BYTES_OF_LIGHT_RUNS / MIN_NOTICE_BYTES;

pub(super) struct FoldNotice {
    pub(super) run: RunKey,
    pub(super) blocks: Vec<WrittenBlocks>,
    /// Counted until the run is folded, or need not be folded yet.
    pub(super) counted: CountedBlocks,
}

/// Size of a run's blocks that the fold thread has yet to look at, or to fold.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnhandledBlocks(pub(super) Arc<AtomicUsize>);

/// Blocks that count as unhandled until this is dropped.
pub(super) struct CountedBlocks {
    bytes: usize,
    run: UnhandledBlocks,
    all: UnhandledBlocks,
    handled: Arc<Notify>,
}

impl Drop for CountedBlocks {
    fn drop(&mut self) {
        self.run.0.fetch_sub(self.bytes, Ordering::Relaxed);
        self.all.0.fetch_sub(self.bytes, Ordering::Relaxed);
        self.handled.notify_waiters();
    }
}

/// Handle through which writers announce their blocks.
#[derive(Clone)]
pub struct FoldNotices {
    sender: mpsc::Sender<FoldNotice>,
    unhandled: UnhandledBlocks,
    handled: Arc<Notify>,
    missed: Arc<AtomicBool>,
}

impl FoldNotices {
    pub(super) fn new(sender: mpsc::Sender<FoldNotice>, missed: Arc<AtomicBool>) -> Self {
        Self { sender, unhandled: UnhandledBlocks::default(), handled: Arc::new(Notify::new()), missed }
    }

    /// Waits until the run may write more blocks.
    pub(crate) async fn wait_for_room(&self, run: &UnhandledBlocks) {
        loop {
            let mut handled = pin!(self.handled.notified());
            // Registers before looking, so that no notification is missed.
            handled.as_mut().enable();
            let own = run.0.load(Ordering::Relaxed);
            let all = if own < LIGHT_RUN_BYTES { ALL_BYTES_OF_LIGHT_RUNS } else { ALL_BYTES };
            if own == 0 || (own < RUN_BYTES && self.unhandled.0.load(Ordering::Relaxed) < all) {
                return;
            }
            // Without a fold thread, nothing is handled any more.
            tokio::select! {
                () = handled => {}
                () = self.sender.closed() => return,
            }
        }
    }

    pub(crate) fn send(&self, key: &RunKey, blocks: Vec<WrittenBlocks>, run: &UnhandledBlocks) {
        if blocks.is_empty() {
            return;
        }
        let bytes: usize = blocks.iter().flat_map(|blocks| &blocks.blocks).map(Bytes::len).sum();
        let bytes = bytes.max(MIN_NOTICE_BYTES);
        run.0.fetch_add(bytes, Ordering::Relaxed);
        self.unhandled.0.fetch_add(bytes, Ordering::Relaxed);
        let counted = CountedBlocks {
            bytes,
            run: run.clone(),
            all: self.unhandled.clone(),
            handled: self.handled.clone(),
        };
        if self.sender.try_send(FoldNotice { run: key.clone(), blocks, counted }).is_err() {
            self.missed.store(true, Ordering::Relaxed);
        }
    }
}
