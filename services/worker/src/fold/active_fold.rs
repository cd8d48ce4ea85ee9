//! A fold that has begun, between two of its turns.

use matyan_model::{
    ids::RunId,
    keys,
    run::Head,
    series::{Fold, FoldStatus, LiveRow, RunRef},
};
use matyan_store::{Result, Store};
use tokio::time::Instant;

use super::FoldKey;

pub(super) struct ActiveFold {
    pub(super) key: FoldKey,
    /// Whether the run had ended when the fold began.
    pub(super) is_ended: bool,
    pub(super) started: Instant,
    live: LiveRow,
    /// The fold, with its blocks; `None` before the first turn.
    fold: Option<Fold>,
}

impl ActiveFold {
    pub(super) fn new(key: FoldKey, id: &RunId, is_ended: bool) -> Self {
        let (project, number) = key;
        let live = LiveRow { key: keys::head(project, id), value: Head::Live(number).encode() };
        Self { key, is_ended, started: Instant::now(), live, fold: None }
    }

    /// Reads the blocks in the first turn, and does a transaction in each later one.
    pub(super) async fn turn(&mut self, store: &dyn Store, now_us: i64) -> Result<FoldStatus> {
        if let Some(fold) = &mut self.fold {
            return fold.step(store, &self.live, now_us).await;
        }
        let (project, number) = self.key;
        let snapshot = store.snapshot().await?;
        self.fold = Fold::begin(&*snapshot, RunRef { project, number }, self.is_ended).await?;
        Ok(if self.fold.is_some() { FoldStatus::InProgress } else { FoldStatus::Done })
    }
}
