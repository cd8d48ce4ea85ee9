//! A writer's cache of its run between transactions. It holds only what no other process
//! writes, and only as long as the cursor is unchanged.

pub(crate) mod cursor;
pub(crate) mod live_run;

pub(crate) mod document;
pub(crate) mod goals;
pub(crate) mod logs;
pub(crate) mod object;
pub(crate) mod series;

pub(crate) mod dictionary;
pub(crate) mod producers;

use matyan_model::{
    ids::RunNumber,
    keys,
    position::Cursor,
    run::{Deletion, Head, Tombstone, run_create, run_delete, writing_get},
};
use matyan_store::{Snapshot, Value};

use super::{apply_failure::ApplyFailure, run_key::RunKey, transaction::RunTransaction};
use crate::deps::Deps;
use cursor::RunCursor;
use live_run::{Activity, LiveRun, WrittenBlocks};
use producers::Producers;

#[derive(Default)]
pub(crate) struct RunState {
    pub(crate) cursor: RunCursor,
    live: Option<LiveRun>,
    /// Set if the run was deleted.
    tombstone: Option<Tombstone>,
    /// The stored head, which the next transaction expects.
    head_row: Option<Value>,
    pub(crate) producers: Producers,
}

impl RunState {
    /// Reads the state of a run. If the run is in quarantine, only the cursor is read, unless the parked
    /// records of the run are being applied.
    pub(crate) async fn load(
        snapshot: &dyn Snapshot,
        run: &RunKey,
        is_replaying: bool,
    ) -> Result<Self, ApplyFailure> {
        let cursor_key = keys::cursor(run.project, &run.id);
        let head_key = keys::head(run.project, &run.id);
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

    /// Starts a transaction that commits only if this state is still current.
    pub(crate) async fn start_transaction<'a>(
        &self,
        deps: &'a Deps,
        run: &'a RunKey,
        max_items: u32,
    ) -> Result<RunTransaction<'a>, ApplyFailure> {
        RunTransaction::start(deps, run, self.cursor.row().clone(), self.head_row.clone(), max_items).await
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    pub(crate) fn live_number(&self) -> Option<RunNumber> {
        self.live.as_ref().map(|live| live.number)
    }

    /// Drops the cached series, after a series was edited.
    pub(crate) fn forget_series(&mut self) {
        if let Some(live) = &mut self.live {
            live.forget_series();
        }
        self.producers.unresolve();
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.tombstone.is_some()
    }

    /// Returns the live run, creating it if the id is free.
    pub(crate) async fn live(
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
    pub(crate) async fn delete(
        &mut self,
        transaction: &mut RunTransaction<'_>,
        deletion: Deletion<'_>,
    ) -> Result<(), ApplyFailure> {
        let run = transaction.run();
        let head = self.head();
        let head = run_delete(transaction.checked(), run.project, &run.id, head.as_ref(), deletion).await?;
        if let Head::Tombstone(tombstone) = head {
            self.live = None;
            self.tombstone = Some(tombstone);
            self.producers.unresolve();
        }
        Ok(())
    }

    fn head(&self) -> Option<Head> {
        match &self.live {
            Some(live) => Some(Head::Live(live.number)),
            None => self.tombstone.map(Head::Tombstone),
        }
    }

    /// Completes a transaction, assuming that it will commit.
    pub(crate) fn finish(
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
    pub(crate) fn heap_bytes(&self) -> usize {
        self.live.as_ref().map_or(0, LiveRun::bytes) + self.producers.bytes()
    }
}
