//! Opens the table of a project for a request, with the parts that the request needs.

use std::sync::Arc;

use matyan_model::ids::Project;

use super::{
    add_column::AddColumn,
    column_reader,
    eviction::Room,
    match_reader::{self, AddMatches},
    refresh::{refresh_now, refreshed},
    roster_reader,
    run_table::{NeededParts, RunTable},
    run_tables::{OpenTable, RunTables, SharedTable},
    table_work::in_slices,
};
use crate::{
    changes::end_position,
    server::{deps::Deps, error::Result},
};

/// The table of a project with these parts, which include every change up to the call.
pub(super) async fn open(
    tables: &RunTables,
    deps: &Arc<Deps>,
    project: Project,
    needed: &NeededParts<'_>,
) -> Result<OpenTable> {
    let shared = tables.shared(project);
    let position = end_position(deps.store.as_ref()).await?;
    let mut reading = None;
    loop {
        if let Some(mut open) = refreshed(tables, deps, project, &shared, needed, position).await?
            && let Some(table) = open.as_mut()
            && table.has(needed)
        {
            table.mark_used(needed);
            return Ok(open);
        }
        if reading.is_none() {
            reading = Some((shared.reading.lock().await, tables.memory.wake_on_drop()));
        }
        read_missing(tables, deps, project, &shared, needed).await?;
    }
}

/// Like `open`, if the table has these parts, no other request works on it, and little is left to
/// be done.
pub(super) async fn open_now(
    tables: &RunTables,
    deps: &Arc<Deps>,
    project: Project,
    needed: &NeededParts<'_>,
) -> Result<Option<OpenTable>> {
    let Some(shared) = tables.lock().get(&project).cloned() else { return Ok(None) };
    let Some(mut open) = shared.try_open() else { return Ok(None) };
    let Some(table) = open.as_mut().filter(|table| table.has(needed)) else { return Ok(None) };
    if !refresh_now(tables, deps, project, table, needed).await? || !table.is_soon_sorted(needed.order) {
        return Ok(None);
    }
    table.mark_used(needed);
    shared.mark_used();
    Ok(Some(open))
}

/// Reads the parts that a table lacks, without its lock. They are as of a time after the call, but
/// changes that are made while they are read are left to later requests: there may be no end of them.
async fn read_missing(
    tables: &RunTables,
    deps: &Arc<Deps>,
    project: Project,
    shared: &SharedTable,
    needed: &NeededParts<'_>,
) -> Result<()> {
    let position = end_position(deps.store.as_ref()).await?;
    let room = || Room { tables, project, shared, needed, reserved: tables.memory.reservation() };
    if refreshed(tables, deps, project, shared, needed, position).await?.is_none() {
        let mut room = room();
        let roster = roster_reader::read(deps, project, position, &mut room).await?;
        *shared.open().await = Some(RunTable::new(roster, room.reserved));
    }
    for key in &needed.columns {
        if shared.open().await.as_ref().is_none_or(|table| table.columns.contains_key(key)) {
            continue;
        }
        let read = column_reader::read(deps, project, key, position, room()).await?;
        if let Some(open) = refreshed(tables, deps, project, shared, needed, position).await? {
            let work = AddColumn::new(key.clone(), read);
            in_slices(tables, &deps.evaluation, project, needed, open, work).await?;
        }
    }
    let Some(query) = needed.query else { return Ok(()) };
    if shared.open().await.as_ref().is_some_and(|table| !table.matches.contains_key(query.key())) {
        let read = match_reader::read(deps, project, query, position, room()).await?;
        if let Some(open) = refreshed(tables, deps, project, shared, needed, position).await? {
            let work = AddMatches::new(query, read);
            in_slices(tables, &deps.evaluation, project, needed, open, work).await?;
        }
    }
    Ok(())
}
