//! Finds the runs that a query matches, and adds them to a table.

use std::{collections::HashSet, sync::Arc};

use matyan_model::ids::{Project, RunNumber};
use matyan_store::Stamp;

use super::{
    eviction::Room,
    match_set::{MatchSet, QueryKey, TableQuery},
    memory::{Reservation, grow, grown_capacity, vec_growth},
    run_table::RunTable,
    table_work::{SLICE, TableWork},
};
use crate::{
    query::{candidates::RunScanner, plan::find_matches},
    server::{deps::Deps, error::Result},
};

/// Runs read from one snapshot to check them.
const CHECKED: usize = 64;

/// The matches as read from the store.
pub(super) struct ReadMatches {
    position: Stamp,
    numbers: Vec<RunNumber>,
    always_raised: bool,
    damaged: Vec<RunNumber>,
    /// The memory of the numbers.
    reserved: Reservation,
}

/// Finds all matches, as of `position` or later: from indexes if they know them, otherwise as a search does.
pub(super) async fn read(
    deps: &Arc<Deps>,
    project: Project,
    query: &TableQuery,
    position: Stamp,
    mut room: Room<'_>,
) -> Result<ReadMatches> {
    const NUMBER: usize = size_of::<RunNumber>();
    let compiled = &query.compiled;
    if let Some(known) = find_matches(deps, project, &compiled.plan).await? {
        room.reserve((known.matches.len() + known.partial.len()) * 2 * NUMBER).await?;
        let mut numbers = known.matches;
        let partial: HashSet<RunNumber> = known.partial.into_iter().collect();
        numbers.retain(|number| !partial.contains(number));
        let mut scanner = RunScanner::of_known(deps.clone(), project, compiled, 0);
        let mut unread: Vec<RunNumber> = partial.into_iter().collect();
        while !unread.is_empty() {
            let next = unread.split_off(unread.len().min(CHECKED));
            let page = scanner.reread(&unread).await?;
            numbers.extend(page.matched.iter().map(|matched| matched.candidate.number));
            unread = [page.unread, next].concat();
        }
        let damaged = scanner.left_out.numbers();
        return Ok(ReadMatches { position, numbers, always_raised: false, damaged, reserved: room.reserved });
    }
    let mut scanner = RunScanner::new(deps.clone(), project, compiled).await?;
    let mut numbers = Vec::new();
    while let Some(page) = scanner.next().await? {
        room.reserve(numbers.capacity() * NUMBER + vec_growth(&numbers, page.matched.len())).await?;
        grow(&mut numbers, page.matched.len());
        numbers.extend(page.matched.iter().map(|matched| matched.candidate.number));
    }
    let always_raised = scanner.always_raised();
    let damaged = scanner.left_out.numbers();
    Ok(ReadMatches { position, numbers, always_raised, damaged, reserved: room.reserved })
}

/// Adds the matches of a query, on the same condition as `AddColumn`.
pub(super) struct AddMatches {
    key: QueryKey,
    numbers: std::vec::IntoIter<RunNumber>,
    /// `None` once the table has it.
    found: Option<MatchSet>,
    /// The memory of the numbers.
    _reserved: Reservation,
}

impl AddMatches {
    pub(super) fn new(query: &TableQuery, read: ReadMatches) -> Self {
        let ReadMatches { position, numbers, always_raised, damaged, reserved } = read;
        let found = MatchSet::new(query, position, always_raised, damaged);
        Self {
            key: query.key().clone(),
            numbers: numbers.into_iter(),
            found: Some(found),
            _reserved: reserved,
        }
    }
}

impl TableWork for AddMatches {
    fn bytes(&self, table: &RunTable) -> usize {
        grown_capacity(table.roster.len())
    }

    fn step(&mut self, table: &mut RunTable) -> Option<bool> {
        let found = self.found.as_mut()?;
        if found.matches.is_empty() {
            grow(&mut found.matches, table.roster.len());
            found.matches.resize(table.roster.len(), false);
        }
        for number in self.numbers.by_ref().take(SLICE) {
            if let Some(slot) = table.roster.slot(number) {
                found.matches[slot as usize] = true;
            }
        }
        if self.numbers.len() > 0 {
            return Some(false);
        }
        table.matches.insert(self.key.clone(), self.found.take()?);
        Some(true)
    }
}
