//! Applying records to one run: from entries of the log, in order, to transactions of the store.
//!
//! A transaction takes items until it is full, from several records or from a part of one, and moves the cursor of the run
//! id behind the last of them. It expects the cursor and the head that this writer knows; so whatever a writer keeps in
//! memory (`State`) is good exactly as long as its transactions commit, and a conflict throws it away. Redelivery, a worker
//! that was cut off, and a crash between two transactions all come down to that one check.
//!
//! Errors of the store are waited for. A deterministic failure (a panic, a transaction that the store refuses for its size)
//! is narrowed down by halving the number of items; the one that is left is parked. A transaction that takes longer than its
//! snapshot lasts is halved as well.

mod dead_letters;
mod decoded;
mod dictionary;
mod event;
mod object;
mod park;
mod payloads;
mod points;
mod state;
mod step;
mod writer;

pub(crate) use dead_letters::{Copier, DeadLetters};
pub(crate) use step::Blocks;
pub(crate) use writer::{Applied, RunWriter};

use std::sync::Arc;

use matyan_blob::RunFolder;
use matyan_model::ids::{Project, RunId};

/// The run that a writer writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RunKey {
    pub(crate) project: Project,
    /// By which its blobs lie.
    pub(crate) project_name: Arc<str>,
    pub(crate) id: RunId,
}

impl RunKey {
    fn folder(&self) -> matyan_blob::Result<RunFolder> {
        RunFolder::new(&self.project_name, self.id.as_str())
    }
}

/// Why a transaction was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Wait, and begin anew.
    #[error(transparent)]
    Store(matyan_store::Error),
    /// Wait, and begin anew.
    #[error(transparent)]
    Blob(matyan_blob::Error),
    /// Take fewer items: these take longer than a snapshot lasts.
    #[error("the snapshot became too old")]
    Slow,
    /// Somebody else wrote the run: begin anew from what is stored.
    #[error("the run was written by somebody else")]
    Conflict,
    /// Take fewer items; park the one that fails alone.
    #[error("{0}")]
    Poison(String),
}

impl From<matyan_store::Error> for Failure {
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

impl From<matyan_blob::Error> for Failure {
    fn from(error: matyan_blob::Error) -> Self {
        match error {
            matyan_blob::Error::BadKey { .. } | matyan_blob::Error::BadContentType { .. } => {
                Self::Poison(error.to_string())
            }
            other => Self::Blob(other),
        }
    }
}
