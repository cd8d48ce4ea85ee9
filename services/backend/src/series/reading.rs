//! Reads one run: from a single snapshot as long as it lives and no slow client has to be
//! waited for, then from a newer one.

use matyan_model::series::{Points, RunPlace, RunSeries};
use matyan_store::{Error as StoreError, Snapshot};

use super::whole::Whole;
use crate::{
    Context,
    call::Call,
    context::Found,
    error::{Error, Result},
    stream::{Left, Sender},
};

/// Maximum number of points or buckets read before they are sent: a few MB.
const POINTS: usize = 60_000;
/// Maximum number of series read before they are sent, however short they are.
const SERIES: usize = 1_000;

/// The number of series to read at a time, each with the given number of points.
pub(crate) fn at_once(points: usize) -> usize {
    (POINTS / points.max(1)).clamp(1, SERIES)
}

pub(super) struct Reading<'c> {
    context: &'c Context,
    pub(super) place: RunPlace,
    open: Option<Open>,
}

struct Open {
    snapshot: Box<dyn Snapshot>,
    run: Option<RunSeries>,
    /// Data was read from this snapshot, so it may be old.
    has_served: bool,
}

impl<'c> Reading<'c> {
    /// Reads from a snapshot taken at the first read.
    pub(super) fn of(context: &'c Context, place: RunPlace) -> Self {
        Self { context, place, open: None }
    }

    /// Reads from the snapshot in which the run was found.
    pub(super) fn new(context: &'c Context, call: &Call, found: Found) -> Self {
        let place = RunPlace { project: call.project, number: found.number };
        // The snapshot was used to find the run, so it may already be old.
        let open = Open { snapshot: found.snapshot, run: None, has_served: true };
        Self { context, place, open: Some(open) }
    }

    async fn open(&mut self) -> Result<&mut Open> {
        if self.open.is_none() {
            let snapshot = self.context.store.snapshot().await?;
            self.open = Some(Open { snapshot, run: None, has_served: false });
        }
        Ok(self.open.as_mut().expect("the snapshot was opened above"))
    }

    pub(super) async fn snapshot(&mut self) -> Result<&dyn Snapshot> {
        Ok(self.open().await?.snapshot.as_ref())
    }

    /// The snapshot, and the run's series as of it.
    pub(super) async fn run(&mut self) -> Result<(&dyn Snapshot, &RunSeries)> {
        let place = self.place;
        let open = self.open().await?;
        if open.run.is_none() {
            open.run = Some(RunSeries::open(open.snapshot.as_ref(), place).await?);
        }
        Ok((open.snapshot.as_ref(), open.run.as_ref().expect("the run was opened above")))
    }

    /// The next piece of a series, and whether more follow.
    pub(super) async fn next(&mut self, whole: &mut Whole) -> Result<Option<(Points, bool)>> {
        loop {
            match whole.next(self.snapshot().await?).await {
                Err(error) => self.renew(error)?,
                piece => {
                    self.has_served();
                    return piece;
                }
            }
        }
    }

    /// Notes that data was read from the snapshot: if it expires now, a retry from a newer
    /// one makes progress.
    pub(super) fn has_served(&mut self) {
        if let Some(open) = &mut self.open {
            open.has_served = true;
        }
    }

    /// Handles a failed read: drops a snapshot that has expired, so that the caller can
    /// retry, or returns the error.
    pub(super) fn renew(&mut self, error: Error) -> Result<()> {
        match (error, self.open.take()) {
            (Error::Store(StoreError::SnapshotTooOld), Some(open)) if open.has_served => Ok(()),
            (error, _) => Err(error),
        }
    }

    /// Sends a message, and drops the snapshot while waiting for a slow client.
    pub(super) async fn send<T>(&mut self, sender: &Sender<T>, message: T) -> Result<(), Left> {
        self.has_served();
        match sender.send_soon(message).await {
            Ok(()) => Ok(()),
            Err(message) => {
                self.open = None;
                sender.send(message).await
            }
        }
    }
}
