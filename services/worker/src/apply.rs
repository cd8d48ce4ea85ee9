//! Applies records to one run: turns entries of the log, in order, into transactions of the
//! store.
//!
//! A transaction takes items until it is full, from several records or from a part of one, and
//! moves the cursor of the run id past the last of them. It expects the cursor and the head
//! that this writer knows, so everything that a writer keeps in memory (`RunState`) is valid
//! exactly as long as its transactions commit; a conflict discards it. That one check covers
//! redelivery, a worker that has lost its partition, and a crash between two transactions.
//!
//! A `RunWriter` makes one attempt at a transaction after another. An `Attempt` collects its writes in
//! a `RunTransaction`, and updates the parts of the `RunState`: the cursor, the producers with
//! their dictionaries, and the live run with its document, series, and log records. Each part
//! writes its own rows.
//!
//! Errors of the store are retried with a backoff. A deterministic failure (a panic, or a
//! transaction that the store rejects for its size) is narrowed down by halving the number of
//! items, until the single culprit is parked. A transaction that outlasts its snapshot is
//! halved as well.

mod backlogs;
mod branch;
mod decode_queue;
mod outcome;
mod writer;

mod attempt;
mod mode;
mod payloads;

mod event;
mod points;

mod columns;
mod document;
mod logs;
mod object;
mod series;
mod series_edit;

mod cursor;
mod dictionary;
mod live_run;
mod producers;
mod run_state;

mod dead_letters;
mod park;
mod quarantine;
mod replay;

mod payload_store;
mod payload_uploads;
mod transaction;

pub(crate) use backlogs::{Backlog, BacklogQuestion, Backlogs};
pub(crate) use dead_letters::{DeadLetterQueue, DeadLetterTask};
pub(crate) use live_run::WrittenBlocks;
pub(crate) use outcome::ApplyOutcome;
pub(crate) use payload_uploads::PayloadUploads;
pub(crate) use quarantine::quarantine_damaged;
pub(crate) use transaction::TransactionSlots;
pub(crate) use writer::{RunWriter, WriterContext};

use std::sync::Arc;

use matyan_blob::RunFolder;
use matyan_model::{
    ids::{Project, RunId},
    keys::ItemPosition,
    position::LogPosition,
};

/// The run that a writer writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RunKey {
    pub(crate) project: Project,
    /// Part of the keys of the run's blobs.
    pub(crate) project_name: Arc<str>,
    pub(crate) id: RunId,
}

impl RunKey {
    /// The first of all keys.
    pub(crate) fn first() -> Self {
        Self { project: Project(0), project_name: "".into(), id: RunId::new("") }
    }

    fn folder(&self) -> matyan_blob::Result<RunFolder> {
        RunFolder::new(&self.project_name, self.id.as_str())
    }
}

/// Result of an item; `Err` holds the reason for parking it.
type Verdict = Result<(), String>;

fn item_position(LogPosition { log, partition, offset }: LogPosition, item: u32) -> ItemPosition {
    ItemPosition { log, partition, offset, item }
}

/// Reason why a transaction was not committed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyFailure {
    /// Wait, then retry.
    #[error(transparent)]
    Store(matyan_store::Error),
    /// Retry with fewer items: these take longer than a snapshot lasts.
    #[error("the snapshot became too old")]
    Slow,
    /// Reload the stored state and retry: another process wrote the run.
    #[error("the run was written by another process")]
    Conflict,
    /// Retry with fewer items; park the item that fails alone.
    #[error("{0}")]
    Poison(String),
}

impl From<matyan_store::Error> for ApplyFailure {
    fn from(error: matyan_store::Error) -> Self {
        match error {
            matyan_store::Error::TooLarge { .. } | matyan_store::Error::BadKey { .. } => {
                Self::Poison(error.to_string())
            }
            matyan_store::Error::SnapshotTooOld => Self::Slow,
            other => Self::Store(other),
        }
    }
}

/// The run has no valid keys. What the blob store answers is no failure: payloads can wait.
impl From<matyan_blob::Error> for ApplyFailure {
    fn from(error: matyan_blob::Error) -> Self {
        Self::Poison(error.to_string())
    }
}
