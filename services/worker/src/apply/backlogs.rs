//! Which records of a run are left to be applied. Writers ask the loop of their worker, which knows
//! how much of each run it has read.

use matyan_model::position::LogPosition;
use tokio::sync::{mpsc, oneshot};

use super::run_key::RunKey;

/// Handle through which writers ask. Each writer waits for its answer, so few questions are queued.
#[derive(Clone)]
pub(crate) struct Backlogs(mpsc::Sender<BacklogQuestion>);

/// Asks for the first record of a run before a position that is left to be applied.
pub(crate) struct BacklogQuestion {
    pub(crate) run: RunKey,
    pub(crate) before: LogPosition,
    answer: oneshot::Sender<Backlog>,
}

/// The records of a run that are left to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backlog {
    None,
    /// From this offset on.
    From(u64),
    /// This worker does not read the partition, or does not read it any more.
    Unknown,
}

impl Backlogs {
    pub(crate) fn new() -> (Self, mpsc::Receiver<BacklogQuestion>) {
        let (sender, questions) = mpsc::channel(1);
        (Self(sender), questions)
    }

    /// The records of a run before a position.
    pub(crate) async fn before(&self, run: &RunKey, before: LogPosition) -> Backlog {
        let (answer, answered) = oneshot::channel();
        match self.0.send(BacklogQuestion { run: run.clone(), before, answer }).await {
            Ok(()) => answered.await.unwrap_or(Backlog::Unknown),
            Err(_) => Backlog::Unknown,
        }
    }
}

impl BacklogQuestion {
    pub(crate) fn answer(self, backlog: Backlog) {
        // A writer that was stopped does not wait for the answer.
        let _ = self.answer.send(backlog);
    }
}
