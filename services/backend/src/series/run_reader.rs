//! Reads one run: from a single snapshot as long as it lives and no slow client has to be
//! waited for, then from a newer one.

use std::sync::Arc;

use matyan_model::series::{Points, RunRef, RunSeries};
use matyan_store::{Error as StoreError, Snapshot};

use super::point_pieces::PointPieces;
use crate::{
    server::{
        call::Call,
        deps::Deps,
        error::{Error, Result},
        stream::{Sender, StreamEnd},
    },
    view::run_lookup::FoundRun,
};

/// Maximum number of points or buckets read before they are sent: a few MB.
pub(crate) const MAX_POINTS: usize = 60_000;
/// Maximum number of series read before they are sent, however short they are.
const MAX_SERIES: usize = 1_000;

/// The number of series to read at a time, each with the given number of points.
pub(crate) fn batch_size(points: usize) -> usize {
    (MAX_POINTS / points.max(1)).clamp(1, MAX_SERIES)
}

pub(super) struct RunReader<'c> {
    deps: &'c Deps,
    pub(super) run_ref: RunRef,
    open: Option<OpenSnapshot>,
}

/// A run as of a snapshot, for work on another thread.
pub(super) struct OpenRun {
    pub(super) snapshot: Arc<dyn Snapshot>,
    pub(super) run: Arc<RunSeries>,
}

struct OpenSnapshot {
    snapshot: Arc<dyn Snapshot>,
    run: Option<Arc<RunSeries>>,
    /// Data was read from this snapshot, so it may be old.
    was_used: bool,
}

impl<'c> RunReader<'c> {
    /// Reads from a snapshot taken at the first read.
    pub(super) fn for_run(deps: &'c Deps, run_ref: RunRef) -> Self {
        Self { deps, run_ref, open: None }
    }

    /// Reads from the snapshot in which the run was found.
    pub(super) fn new(deps: &'c Deps, call: &Call, found: FoundRun) -> Self {
        let run_ref = RunRef { project: call.project, number: found.number };
        // The snapshot was used to find the run, so it may already be old.
        let open = OpenSnapshot { snapshot: found.snapshot.into(), run: None, was_used: true };
        Self { deps, run_ref, open: Some(open) }
    }

    async fn open(&mut self) -> Result<&mut OpenSnapshot> {
        if self.open.is_none() {
            let snapshot = self.deps.store.snapshot().await?.into();
            self.open = Some(OpenSnapshot { snapshot, run: None, was_used: false });
        }
        Ok(self.open.as_mut().expect("the snapshot was opened above"))
    }

    pub(super) async fn snapshot(&mut self) -> Result<&dyn Snapshot> {
        Ok(self.open().await?.snapshot.as_ref())
    }

    /// The snapshot, and the run's series as of it.
    pub(super) async fn run(&mut self) -> Result<(&dyn Snapshot, &RunSeries)> {
        let (snapshot, run) = self.opened().await?;
        Ok((snapshot.as_ref(), run.as_ref()))
    }

    /// The same, for work on another thread.
    pub(super) async fn open_run(&mut self) -> Result<OpenRun> {
        loop {
            let opened = self.opened().await;
            let opened =
                opened.map(|(snapshot, run)| OpenRun { snapshot: snapshot.clone(), run: run.clone() });
            match opened {
                Err(error) => self.renew(error)?,
                opened => return opened,
            }
        }
    }

    async fn opened(&mut self) -> Result<(&Arc<dyn Snapshot>, &Arc<RunSeries>)> {
        let run_ref = self.run_ref;
        let open = self.open().await?;
        if open.run.is_none() {
            open.run = Some(Arc::new(RunSeries::open(open.snapshot.as_ref(), run_ref).await?));
        }
        Ok((&open.snapshot, open.run.as_ref().expect("the run was opened above")))
    }

    /// The next piece of a series, and whether more follow.
    pub(super) async fn next(&mut self, pieces: &mut PointPieces) -> Result<Option<(Points, bool)>> {
        loop {
            match pieces.next(self.snapshot().await?).await {
                Err(error) => self.renew(error)?,
                piece => {
                    self.mark_used();
                    return piece;
                }
            }
        }
    }

    /// Notes that data was read from the snapshot: if it expires now, a retry from a newer
    /// one makes progress.
    pub(super) fn mark_used(&mut self) {
        if let Some(open) = &mut self.open {
            open.was_used = true;
        }
    }

    /// Drops the snapshot, which has expired elsewhere.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Handles a failed read: drops a snapshot that has expired, so that the caller can
    /// retry, or returns the error.
    pub(super) fn renew(&mut self, error: Error) -> Result<()> {
        match (error, self.open.take()) {
            (Error::Store(StoreError::SnapshotTooOld), Some(open)) if open.was_used => Ok(()),
            (error, _) => Err(error),
        }
    }

    /// Sends a message, and drops the snapshot while waiting for a slow client. Others have their turn before
    /// more is read.
    pub(super) async fn send<T>(&mut self, sender: &Sender<T>, message: T) -> Result<(), StreamEnd> {
        self.mark_used();
        tokio::task::yield_now().await;
        match sender.send_soon(message).await {
            Ok(()) => Ok(()),
            Err(message) => {
                self.open = None;
                sender.send(message).await
            }
        }
    }
}
