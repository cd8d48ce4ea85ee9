//! A writer's cache of its run between transactions. It holds only what no other process
//! writes, and only as long as the cursor is unchanged.

use matyan_model::{
    ids::RunNumber,
    keys,
    position::Cursor,
    run::{Deletion, Head, Tombstone, run_create, run_delete, writing_get},
};
use matyan_store::{Snapshot, Value};

use super::{
    ApplyFailure, RunKey,
    cursor::RunCursor,
    live_run::{Activity, LiveRun, WrittenBlocks},
    producers::Producers,
    transaction::RunTransaction,
};
use crate::deps::Deps;

#[derive(Default)]
pub(super) struct RunState {
    pub(super) cursor: RunCursor,
    live: Option<LiveRun>,
    /// Set if the run was deleted.
    tombstone: Option<Tombstone>,
    /// The stored head, which the next transaction expects.
    head_row: Option<Value>,
    pub(super) producers: Producers,
}

impl RunState {
    /// Reads the state of a run. Of a run in quarantine, only the cursor is read, unless its parked
    /// records are being applied.
    pub(super) async fn load(
        snapshot: &dyn Snapshot,
        run: &RunKey,
        is_replaying: bool,
    ) -> Result<Self, ApplyFailure> {
        let (cursor_key, head_key) = (keys::cursor(run.project, &run.id), keys::head(run.project, &run.id));
        let mut values = snapshot.get_many(&[cursor_key.clone(), head_key.clone()]).await?;
        let head_row = values.pop().flatten();
        let cursor_row = values.pop().flatten();
        let cursor = cursor_row.as_ref().map(|value| Cursor::decode(&cursor_key, value)).transpose()?;
        if !is_replaying && cursor.is_some_and(|cursor| cursor.is_quarantined) {
            let cursor = RunCursor::stored(cursor, cursor_row);
            return Ok(Self { cursor, head_row, ..Self::default() });
        }
        let head = head_row.as_ref().map(|value| Head::decode(&head_key, value)).transpose()?;
        let mut state = Self { cursor: RunCursor::stored(cursor, cursor_row), head_row, ..Self::default() };
        match head {
            Some(Head::Live(number)) => {
                let writing = writing_get(snapshot, run.project, number).await?;
                state.live = Some(LiveRun::stored(number, writing));
            }
            Some(Head::Tombstone(tombstone)) => state.tombstone = Some(tombstone),
            None => {}
        }
        Ok(state)
    }

    /// Begins a transaction that commits only if this state is still current.
    pub(super) async fn begin<'a>(
        &self,
        deps: &'a Deps,
        run: &'a RunKey,
        max_items: u32,
    ) -> Result<RunTransaction<'a>, ApplyFailure> {
        RunTransaction::begin(deps, run, self.cursor.row().clone(), self.head_row.clone(), max_items).await
    }

    pub(super) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    pub(super) fn live_number(&self) -> Option<RunNumber> {
        self.live.as_ref().map(|live| live.number)
    }

    /// Drops what is known about series, after one of them was edited.
    pub(super) fn forget_series(&mut self) {
        if let Some(live) = &mut self.live {
            live.forget_series();
        }
        self.producers.unresolve();
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.tombstone.is_some()
    }

    /// Returns the live run, creating it if the id is free.
    pub(super) async fn live(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        received_us: i64,
    ) -> Result<&mut LiveRun, ApplyFailure> {
        match &mut self.live {
            Some(live) => Ok(live),
            empty => {
                let run = transaction.run();
                let edit = run_create(transaction.checked(), run.project, &run.id, received_us).await?;
                self.producers.unresolve();
                Ok(empty.insert(LiveRun::created(edit)))
            }
        }
    }

    /// Deletes the run, and leaves a tombstone even if there is no run.
    pub(super) async fn delete(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        deletion: Deletion<'_>,
    ) -> Result<(), ApplyFailure> {
        let (run, head) = (transaction.run(), self.head());
        let head = run_delete(transaction.checked(), run.project, &run.id, head.as_ref(), deletion).await?;
        if let Head::Tombstone(tombstone) = head {
            (self.live, self.tombstone) = (None, Some(tombstone));
            self.producers.unresolve();
        }
        Ok(())
    }

    fn head(&self) -> Option<Head> {
        let live = self.live.as_ref().map(|live| Head::Live(live.number));
        live.or(self.tombstone.map(Head::Tombstone))
    }

    /// Completes a transaction, assuming that it will commit.
    pub(super) fn finish(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        activity: &Activity,
    ) -> Option<WrittenBlocks> {
        let blocks = self.live.as_mut().and_then(|live| live.finish(transaction, activity));
        self.cursor.write(transaction);
        self.producers.write_marks(transaction);
        self.head_row = self.head().as_ref().map(Head::encode);
        self.producers.trim();
        blocks
    }

    /// Approximate memory use on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.live.as_ref().map_or(0, LiveRun::bytes) + self.producers.bytes()
    }
}
