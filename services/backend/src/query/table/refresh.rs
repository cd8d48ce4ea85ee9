//! Brings the parts of a table up to date with the change feed of the store: commit by commit, so that
//! the work of a request that is given up is kept for the next one. The lock of the table is released
//! in between. If points of a run have changed, the branches that share them have changed, too.

use std::{collections::HashMap, ops::Range, sync::Arc};

use matyan_model::{
    branch::{has_branches, sharers_page},
    change::{Change, changes_list, changes_trimmed},
    ids::{Project, RunNumber},
    keys,
    run::{Document, RunPage, runs_get},
};
use matyan_proto::limits;
use matyan_store::{Error as StoreError, Snapshot, Stamp};

use super::{
    column_reader::run_term,
    eviction,
    match_set::TableQuery,
    roster::Slot,
    run_table::{NeededParts, RunTable},
    run_tables::{OpenTable, RunTables, SharedTable},
    run_value::ColumnKey,
};
use crate::{
    changes::end_position,
    server::{
        deps::Deps,
        error::{Error, Result},
    },
};

/// Changes read from one snapshot.
const CHANGES: usize = 10_000;

/// Changes above which a table is read again instead: about a second of work.
const MAX_CHANGES: usize = 500_000;

/// Changed runs above which a table is read again.
const MAX_CHANGED_RUNS: usize = 100_000;

/// Documents read from one snapshot.
const DOCUMENTS: usize = 64;

/// Most changes that are read for a request that can do without the table.
const MAX_CHANGES_NOW: usize = 256;

/// Changed runs, each with its last change, in the order of the changes.
type ChangedRuns = Vec<(Stamp, RunNumber)>;

/// The lock of a table whose roster and needed parts, as far as it has them, include every change up to
/// a position. `None` if the table has to be read: some changes are gone, or there are too many.
pub(super) async fn refreshed(
    tables: &RunTables,
    deps: &Arc<Deps>,
    project: Project,
    shared: &SharedTable,
    needed: &NeededParts<'_>,
    until: Stamp,
) -> Result<Option<OpenTable>> {
    'changes: loop {
        let mut open = shared.open().await;
        let Some(table) = open.as_mut() else { return Ok(None) };
        let mut from = table.first_position(needed);
        drop(open);
        let changed = changed_runs(deps, project, needed, from..until, MAX_CHANGES).await?;
        let Some(changed) = changed.filter(|changed| changed.len() <= MAX_CHANGED_RUNS) else {
            let mut open = shared.open().await;
            // The roster may be more recent than parts that were not needed for a long time.
            let is_unchanged = |table: &&mut RunTable| table.first_position(needed) == from;
            if open.as_mut().filter(is_unchanged).is_some_and(|table| !table.drop_older_parts(needed)) {
                *open = None;
            }
            continue;
        };
        let mut rest = &changed[..];
        loop {
            tokio::task::yield_now().await;
            let mut open = shared.open().await;
            let Some(table) = open.as_mut() else { return Ok(None) };
            if table.first_position(needed) < from {
                // Another request has added a part that lacks some of the changes.
                continue 'changes;
            }
            from = table.first_position(needed);
            rest = &rest[rest.partition_point(|(stamp, _)| *stamp <= from)..];
            if rest.is_empty() {
                table.advance(needed, until);
                if table.roster.is_sparse() {
                    *open = None;
                    return Ok(None);
                }
                return Ok(Some(open));
            }
            from = follow(tables, deps, project, table, needed, rest).await?;
        }
    }
}

/// Brings the needed parts of a table whose lock is held up to date, if that is soon done. Returns
/// whether it is.
pub(super) async fn refresh_now(
    tables: &RunTables,
    deps: &Arc<Deps>,
    project: Project,
    table: &mut RunTable,
    needed: &NeededParts<'_>,
) -> Result<bool> {
    let from = table.first_position(needed);
    let until = end_position(deps.store.as_ref()).await?;
    let changed = changed_runs(deps, project, needed, from..until, MAX_CHANGES_NOW).await?;
    let Some(changed) = changed else {
        return Ok(false);
    };
    let mut rest = &changed[..];
    while !rest.is_empty() {
        let reached = follow(tables, deps, project, table, needed, rest).await?;
        rest = &rest[rest.partition_point(|(stamp, _)| *stamp <= reached)..];
    }
    table.advance(needed, until);
    Ok(!table.roster.is_sparse())
}

/// Takes over the changes of about a page of runs. Returns the position up to which all are.
async fn follow(
    tables: &RunTables,
    deps: &Deps,
    project: Project,
    table: &mut RunTable,
    needed: &NeededParts<'_>,
    runs: &[(Stamp, RunNumber)],
) -> Result<Stamp> {
    let (reached, _) = runs[DOCUMENTS.min(runs.len()) - 1];
    let mut page = &runs[..runs.partition_point(|(stamp, _)| *stamp <= reached)];
    while !page.is_empty() {
        let numbers: Vec<RunNumber> = page.iter().map(|(_, number)| *number).take(DOCUMENTS).collect();
        eviction::reserve(tables, project, table, needed, table.growth(needed, &numbers)).await?;
        let snapshot = deps.store.snapshot().await?;
        let RunPage { runs, damaged, .. } = runs_get(snapshot.as_ref(), project, &numbers).await?;
        let mut documents = HashMap::<_, _>::from_iter(runs);
        let mut done = 0;
        for (stamp, number) in page.iter().take(numbers.len()) {
            if damaged.contains(number) {
                // It stays where it is, and is left out where it is read.
                done += 1;
                continue;
            }
            let run = ChangedRun { number: *number, stamp: *stamp, document: documents.remove(number) };
            match table.update(deps, project, needed, snapshot.as_ref(), run).await {
                Err(Error::Store(StoreError::SnapshotTooOld)) if done > 0 => break,
                result => result?,
            }
            done += 1;
        }
        page = &page[done..];
    }
    table.advance(needed, reached);
    Ok(reached)
}

impl RunTable {
    /// The position of the part that is least up to date.
    fn first_position(&self, needed: &NeededParts<'_>) -> Stamp {
        let columns = needed.columns.iter().filter_map(|key| self.columns.get(key)).map(|part| part.position);
        let matches = needed.query.and_then(|query| self.matches.get(query.key())).map(|part| part.position);
        columns.chain(matches).fold(self.roster.position, Stamp::min)
    }

    /// Notes that every change up to a position is included.
    fn advance(&mut self, needed: &NeededParts<'_>, reached: Stamp) {
        let advance = |position: &mut Stamp| *position = (*position).max(reached);
        advance(&mut self.roster.position);
        for key in &needed.columns {
            if let Some(column) = self.columns.get_mut(key) {
                advance(&mut column.position);
            }
        }
        if let Some(matches) = needed.query.and_then(|query| self.matches.get_mut(query.key())) {
            advance(&mut matches.position);
        }
    }

    /// Returns whether there were parts older than the roster.
    fn drop_older_parts(&mut self, needed: &NeededParts<'_>) -> bool {
        let position = self.roster.position;
        let before = self.columns.len() + self.matches.len();
        for key in &needed.columns {
            if self.columns.get(key).is_some_and(|column| column.position < position) {
                self.drop_column(key);
            }
        }
        if let Some(query) = needed.query
            && self.matches.get(query.key()).is_some_and(|matches| matches.position < position)
        {
            self.drop_matches(query.key());
        }
        self.columns.len() + self.matches.len() < before
    }

    /// Upper bound of the memory that changes of some runs take.
    fn growth(&self, needed: &NeededParts<'_>, changed: &[RunNumber]) -> usize {
        let new = changed.iter().filter(|number| self.roster.slot(**number).is_none()).count();
        let runs = self.roster.len() + new;
        let columns = needed.columns.iter().filter_map(|key| self.columns.get(key));
        let matches = needed.query.and_then(|query| self.matches.get(query.key()));
        let orders = self.orders.values().map(|order| order.growth(changed.len())).sum::<usize>();
        self.roster.growth(new, limits::RUN_ID_BYTES)
            + columns.map(|column| column.growth(runs, changed.len())).sum::<usize>()
            + matches.map_or(0, |matches| matches.growth(runs))
            + orders
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
            for order in self.orders.values_mut() {
                order.mark_changed(slot);
            }
        }
        let slot = self.roster.slot(number);
        for key in slot.iter().flat_map(|_| &needed.columns) {
            let Some(column) = self.columns.get_mut(key).filter(|column| column.position < stamp) else {
                continue;
            };
            let value = match &document {
                Some(document) => run_term(snapshot, project, number, document, key).await?,
                // A deleted run stays in place until the order is used: its value must not change.
                None => continue,
            };
            if let Some(slot) = slot
                && column.set(slot, value)
            {
                self.mark_changed(key, slot);
            }
        }
        if let Some(matches) = needed.query.and_then(|query| self.matches.get_mut(query.key()))
            && matches.position < stamp
        {
            matches.update(deps, project, snapshot, slot, number, document.as_ref()).await?;
        }
        Ok(())
    }

    fn mark_changed(&mut self, key: &ColumnKey, slot: Slot) {
        for order in self.orders.values_mut().filter(|order| order.uses(key)) {
            order.mark_changed(slot);
        }
    }
}

struct ChangedRun {
    number: RunNumber,
    stamp: Stamp,
    /// `None` if the run was deleted.
    document: Option<Document>,
}

/// The last change of a run, and the lowest step of the points that all of its changes are about.
struct RunChanges {
    stamp: Stamp,
    first_step: i64,
}

impl NeededParts<'_> {
    /// Whether a change of points changes one of them.
    fn reads_points(&self) -> bool {
        let of_query = self.query.is_some_and(TableQuery::reads_points);
        of_query || self.columns.iter().any(|key| matches!(key, ColumnKey::Metric(_)))
    }
}

/// The runs changed after the first position and up to the second; `None` if there are more than about
/// `most` changes, or some are gone.
async fn changed_runs(
    deps: &Deps,
    project: Project,
    needed: &NeededParts<'_>,
    positions: Range<Stamp>,
    most: usize,
) -> Result<Option<ChangedRuns>> {
    let Range { start: mut from, end: until } = positions;
    let mut runs = HashMap::new();
    let mut read = 0;
    while from < until {
        if read > most {
            return Ok(None);
        }
        tokio::task::yield_now().await;
        let snapshot = deps.store.snapshot().await?;
        if changes_trimmed(snapshot.as_ref(), project).await?.is_some_and(|trimmed| trimmed > from) {
            return Ok(None);
        }
        let rows = CHANGES.min(most + 1);
        let (changes, more) = changes_list(snapshot.as_ref(), project, Some(from), rows).await?;
        read += changes.len();
        for Change { number, stamp, first_step, .. } in changes.iter().filter(|change| change.stamp <= until)
        {
            let new = RunChanges { stamp: *stamp, first_step: *first_step };
            let known = runs.entry(*number).or_insert(new);
            known.stamp = *stamp;
            known.first_step = known.first_step.min(*first_step);
        }
        from = changes.last().filter(|_| more).map_or(until, |last| last.stamp);
    }
    let mut changed: HashMap<_, _> = runs.iter().map(|(number, changes)| (*number, changes.stamp)).collect();
    if needed.reads_points() && !add_branches(deps, project, &runs, &mut changed, most).await? {
        return Ok(None);
    }
    let mut changed: Vec<_> = changed.into_iter().map(|(number, stamp)| (stamp, number)).collect();
    changed.sort_unstable();
    Ok(Some(changed))
}

/// Adds the branches that share points which have changed. Returns false if there are more than about
/// `most`.
async fn add_branches(
    deps: &Deps,
    project: Project,
    runs: &HashMap<RunNumber, RunChanges>,
    changed: &mut HashMap<RunNumber, Stamp>,
    most: usize,
) -> Result<bool> {
    if !has_branches(deps.store.snapshot().await?.as_ref(), project).await? {
        return Ok(true);
    }
    let mut found = 0;
    for (number, changes) in runs.iter().filter(|(_, changes)| changes.first_step < i64::MAX) {
        let mut rest = Some(keys::sharers_from(project, *number, changes.first_step));
        while let Some(range) = rest {
            if found > most {
                return Ok(false);
            }
            // The snapshot is later than the change, so it may show more branches. A branch that is
            // already gone needs no refresh.
            let snapshot = deps.store.snapshot().await?;
            let (branches, next) = sharers_page(snapshot.as_ref(), &range, CHANGES.min(most + 1)).await?;
            found += branches.len();
            for branch in branches {
                let stamp = changed.entry(branch).or_insert(changes.stamp);
                *stamp = changes.stamp.max(*stamp);
            }
            rest = next;
        }
    }
    Ok(true)
}
