//! Whether records of a run are left to be applied. Writers ask the loop of their worker, which knows
//! how much of each run it has read.

use matyan_model::position::LogPosition;
use tokio::sync::{mpsc, oneshot};

use super::RunKey;

/// Handle through which writers ask. Each waits for its answer, so few questions are queued.
#[derive(Clone)]
pub(crate) struct Backlogs(mpsc::Sender<BacklogQuestion>);

/// Asks whether records of a run before a position are left to be applied.
pub(crate) struct BacklogQuestion {
    pub(crate) run: RunKey,
    pub(crate) before: LogPosition,
    answer: oneshot::Sender<Option<bool>>,
}

impl Backlogs {
    pub(crate) fn new() -> (Self, mpsc::Receiver<BacklogQuestion>) {
        let (sender, questions) = mpsc::channel(1);
        (Self(sender), questions)
    }

    /// `None` if this worker does not read the partition, or no longer.
    pub(super) async fn has_before(&self, run: &RunKey, before: LogPosition) -> Option<bool> {
        let (answer, answered) = oneshot::channel();
        self.0.send(BacklogQuestion { run: run.clone(), before, answer }).await.ok()?;
        answered.await.ok()?
    }
}

impl BacklogQuestion {
    pub(crate) fn answer(self, has_before: Option<bool>) {
        // A writer that was stopped does not wait for it.
        let _ = self.answer.send(has_before);
    }
}
