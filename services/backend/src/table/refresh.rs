//! Brings the parts of a table up to date with the change feed of the store.

use std::{collections::HashMap, sync::Arc};

use matyan_model::{
    change::{changes_list, changes_trimmed},
    ids::{Project, RunNumber},
    run::{Document, documents_get},
};
use matyan_store::{Error as StoreError, Snapshot, Stamp};

use super::{
    NeededParts, RunTable,
    column::{Column, ReadColumn},
    column_reader::run_term,
    match_set::{MatchSet, ReadMatches, TableQuery},
    roster::Slot,
    run_value::ColumnKey,
};
use crate::{
    Deps,
    error::{Error, Result},
};

/// Changes read from one snapshot.
const CHANGES: usize = 10_000;

/// Changes from which on a table is read again instead: about a second of work.
const MAX_CHANGES: usize = 500_000;

/// Changed runs from which on a table is read again.
const MAX_CHANGED_RUNS: usize = 100_000;

/// Documents read from one snapshot.
const DOCUMENTS: usize = 64;

/// The runs that changed after a position, each with its last change.
struct ChangedRuns {
    runs: HashMap<RunNumber, Stamp>,
    /// Every change up to here is included.
    end: Stamp,
}

impl RunTable {
    /// Brings the roster and the needed parts that exist up to date. Returns false if the table has
    /// to be read again.
    pub(super) async fn refresh(
        &mut self,
        deps: &Arc<Deps>,
        project: Project,
        needed: &NeededParts<'_>,
    ) -> Result<bool> {
        let changed = match changed_runs(deps, project, self.first_position(needed)).await? {
            Some(changed) => changed,
            None => {
                // The roster may be more recent than parts that were not needed for a long time.
                self.drop_older_parts(needed);
                match changed_runs(deps, project, self.roster.position).await? {
                    Some(changed) => changed,
                    None => return Ok(false),
                }
            }
        };
        if changed.runs.len() > MAX_CHANGED_RUNS {
            return Ok(false);
        }
        let runs: Vec<(RunNumber, Stamp)> = changed.runs.into_iter().collect();
        let mut rest = &runs[..];
        while !rest.is_empty() {
            let page = &rest[..DOCUMENTS.min(rest.len())];
            let snapshot = deps.store.snapshot().await?;
            let numbers: Vec<RunNumber> = page.iter().map(|(number, _)| *number).collect();
            let documents = documents_get(snapshot.as_ref(), project, &numbers).await?;
            let mut done = 0;
            for ((number, stamp), document) in page.iter().zip(documents) {
                let run = ChangedRun { number: *number, stamp: *stamp, document };
                match self.update(deps, project, needed, snapshot.as_ref(), run).await {
                    Err(Error::Store(StoreError::SnapshotTooOld)) if done > 0 => break,
                    result => result?,
                }
                done += 1;
            }
            rest = &rest[done..];
        }
        self.roster.position = changed.end;
        for key in &needed.columns {
            if let Some(column) = self.columns.get_mut(key) {
                column.position = changed.end;
            }
        }
        if let Some(matches) = needed.query.and_then(|query| self.matches.get_mut(query.key())) {
            matches.position = changed.end;
        }
        Ok(!self.roster.is_sparse())
    }

    /// The position of the part that is least up to date.
    fn first_position(&self, needed: &NeededParts<'_>) -> Stamp {
        let columns = needed.columns.iter().filter_map(|key| self.columns.get(key)).map(|part| part.position);
        let matches = needed.query.and_then(|query| self.matches.get(query.key())).map(|part| part.position);
        columns.chain(matches).fold(self.roster.position, Stamp::min)
    }

    fn drop_older_parts(&mut self, needed: &NeededParts<'_>) {
        let position = self.roster.position;
        for key in &needed.columns {
            if self.columns.get(key).is_some_and(|column| column.position < position) {
                self.columns.remove(key);
                self.orders.retain(|_, order| !order.uses(key));
            }
        }
        if let Some(query) = needed.query
            && self.matches.get(query.key()).is_some_and(|matches| matches.position < position)
        {
            self.matches.remove(query.key());
        }
    }

    /// Brings the roster up to date.
    pub(super) async fn refresh_roster(&mut self, deps: &Arc<Deps>, project: Project) -> Result<bool> {
        self.refresh(deps, project, &NeededParts { columns: Vec::new(), query: None }).await
    }

    /// Takes over one changed run.
    async fn update(
        &mut self,
        deps: &Deps,
        project: Project,
        needed: &NeededParts<'_>,
        snapshot: &dyn Snapshot,
        run: ChangedRun,
    ) -> Result<()> {
        let ChangedRun { number, stamp, document } = run;
        let document = document.filter(|document| !document.props.pending_delete);
        if let Some(slot) = self.roster.update(number, document.as_ref()) {
            self.orders.values_mut().for_each(|order| order.mark_changed(slot));
        }
        let Some(slot) = self.roster.slot(number) else { return Ok(()) };
        for key in &needed.columns {
            let Some(column) = self.columns.get_mut(key).filter(|column| column.position < stamp) else {
                continue;
            };
            let value = match &document {
                Some(document) => run_term(snapshot, project, number, document, key).await?,
                // A deleted run stays in place until the order is used: its value must not change.
                None => continue,
            };
            if column.set(slot, value) {
                self.mark_changed(key, slot);
            }
        }
        if let Some(matches) = needed.query.and_then(|query| self.matches.get_mut(query.key()))
            && matches.position < stamp
        {
            let run = document.as_ref().map(|document| (number, document));
            matches.update(deps, project, snapshot, slot, run).await?;
        }
        Ok(())
    }

    fn mark_changed(&mut self, key: &ColumnKey, slot: Slot) {
        self.orders.values_mut().filter(|order| order.uses(key)).for_each(|order| order.mark_changed(slot));
    }

    /// Adds a column. The roster must have been brought up to date after the column was read, so
    /// that it has every run of the column.
    pub(super) fn add_column(&mut self, key: ColumnKey, read: ReadColumn) {
        // Not the first to be dropped: a request is waiting for it.
        let mut column = Column::new(&key, &self.roster, read);
        column.used = self.clock + 1;
        self.columns.insert(key, column);
    }

    /// Adds the matches of a query, on the same condition as `add_column`.
    pub(super) fn add_matches(&mut self, query: &TableQuery, read: ReadMatches) {
        let mut matches = MatchSet::new(query, &self.roster, read);
        matches.used = self.clock + 1;
        self.matches.insert(query.key().clone(), matches);
    }
}

struct ChangedRun {
    number: RunNumber,
    stamp: Stamp,
    /// `None` if the run was deleted.
    document: Option<Document>,
}

/// The runs changed after a position; `None` if there are too many changes, or some are gone.
async fn changed_runs(deps: &Deps, project: Project, mut from: Stamp) -> Result<Option<ChangedRuns>> {
    let (mut runs, mut read) = (HashMap::new(), 0);
    loop {
        let snapshot = deps.store.snapshot().await?;
        if changes_trimmed(snapshot.as_ref(), project).await?.is_some_and(|trimmed| trimmed > from) {
            return Ok(None);
        }
        let (changes, more) = changes_list(snapshot.as_ref(), project, Some(from), CHANGES).await?;
        read += changes.len();
        for change in &changes {
            runs.insert(change.number, change.stamp);
        }
        match changes.last() {
            Some(last) if more => from = last.stamp,
            _ => return Ok(Some(ChangedRuns { runs, end: snapshot.version().stamp(u16::MAX) })),
        }
        if read > MAX_CHANGES {
            return Ok(None);
        }
    }
}
