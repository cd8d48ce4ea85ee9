//! The runs of a table that a query matches.

use std::{collections::HashSet, sync::Arc};

use matyan_model::{
    ids::{Project, RunNumber},
    run::Document,
};
use matyan_ql::Query;
use matyan_store::{Snapshot, Stamp};
use tokio::time::Instant;

use super::{
    RunTable,
    column_reader::names_digest,
    eviction::Room,
    memory::{Reservation, grow, grown_capacity, vec_growth},
    roster::Slot,
    table_work::{SLICE, TableWork},
};
use crate::{
    Deps,
    error::Result,
    search::{CandidateLoader, CompiledQuery, QueryFilter, RunScanner, find_matches},
};

/// Runs read from one snapshot to check them.
const CHECKED: usize = 64;

/// Identifies a match set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct QueryKey {
    /// The query with times as numbers.
    normalized: String,
    timezone_offset_min: i32,
    /// The current time, if the query asks for it.
    now: Option<u64>,
    /// Digest of the names of experiments and tags, if the query uses any: they are changed without
    /// a change of the runs.
    names: Option<u64>,
}

/// A query on a table.
pub(crate) struct TableQuery {
    compiled: Arc<CompiledQuery>,
    key: QueryKey,
}

pub(super) struct MatchSet {
    /// Every change up to here is included.
    pub(super) position: Stamp,
    query: Arc<Query>,
    /// By slot; runs beyond the end do not match.
    matches: Vec<bool>,
    pub(super) always_raised: bool,
    /// Damaged runs, for which the query could not be evaluated.
    pub(super) damaged: Vec<RunNumber>,
    /// When a request last needed the set.
    pub(super) used: Instant,
}

/// The matches as read from the store.
pub(super) struct ReadMatches {
    position: Stamp,
    numbers: Vec<RunNumber>,
    always_raised: bool,
    damaged: Vec<RunNumber>,
    /// The memory of the numbers.
    reserved: Reservation,
}

impl TableQuery {
    /// Returns `None` for the query that matches every run which is not archived: a roster knows
    /// those.
    pub(crate) async fn new(
        deps: &Deps,
        project: Project,
        compiled: Arc<CompiledQuery>,
    ) -> Result<Option<Self>> {
        let query = &compiled.query;
        if query.statement().is_empty() {
            return Ok(None);
        }
        let (needs, options) = (query.needs(), query.options());
        let names = match needs.experiment || needs.tags {
            true => Some(names_digest(deps, project, true).await?),
            false => None,
        };
        let is_of_now = ["now", "today"].iter().any(|word| query.statement().contains(word));
        let key = QueryKey {
            normalized: query.normalized().to_owned(),
            timezone_offset_min: options.offset_minutes,
            now: is_of_now.then_some(options.now.to_bits()),
            names,
        };
        Ok(Some(Self { compiled, key }))
    }

    pub(super) fn key(&self) -> &QueryKey {
        &self.key
    }

    /// Whether it depends on points of metrics.
    pub(super) fn reads_points(&self) -> bool {
        self.compiled.query.needs().summaries
    }
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
        let damaged = scanner.left_out.into_numbers();
        return Ok(ReadMatches { position, numbers, always_raised: false, damaged, reserved: room.reserved });
    }
    let mut scanner = RunScanner::new(deps.clone(), project, compiled).await?;
    let mut numbers = Vec::new();
    while let Some(page) = scanner.next().await? {
        room.reserve(numbers.capacity() * NUMBER + vec_growth(&numbers, page.matched.len())).await?;
        grow(&mut numbers, page.matched.len());
        numbers.extend(page.matched.iter().map(|matched| matched.candidate.number));
    }
    let (always_raised, damaged) = (scanner.always_raised(), scanner.left_out.into_numbers());
    Ok(ReadMatches { position, numbers, always_raised, damaged, reserved: room.reserved })
}

impl MatchSet {
    pub(super) fn contains(&self, slot: Slot) -> bool {
        self.matches.get(slot as usize).copied().unwrap_or(false)
    }

    /// Evaluates a run again.
    pub(super) async fn update(
        &mut self,
        deps: &Deps,
        project: Project,
        snapshot: &dyn Snapshot,
        slot: Option<Slot>,
        number: RunNumber,
        document: Option<&Document>,
    ) -> Result<()> {
        self.damaged.retain(|damaged| *damaged != number);
        let Some(slot) = slot else { return Ok(()) };
        let mut is_match = false;
        if let Some(document) = document {
            let mut loader = CandidateLoader::new(project, self.query.clone(), None);
            let run_id = document.props.run_id.clone();
            match loader.load(snapshot, number, document.clone()).await {
                Ok(candidate) => {
                    let mut filter = QueryFilter::new(self.query.clone(), None);
                    is_match = !filter.matching(&deps.evaluation, vec![candidate]).await?.is_empty();
                    self.always_raised &= filter.always_raised();
                }
                Err(error) => {
                    deps.metrics.leave_out(&run_id, error)?;
                    self.damaged.push(number);
                }
            }
        }
        let index = slot as usize;
        if index >= self.matches.len() {
            let more = index + 1 - self.matches.len();
            grow(&mut self.matches, more);
            self.matches.resize(index + 1, false);
        }
        self.matches[index] = is_match;
        Ok(())
    }

    pub(super) fn bytes(&self) -> usize {
        self.matches.capacity()
    }

    /// Upper bound of the memory that the set takes in addition if there are `runs`.
    pub(super) fn growth(&self, runs: usize) -> usize {
        vec_growth(&self.matches, runs.saturating_sub(self.matches.len()))
    }
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
        let (query, key, used) = (query.compiled.query.clone(), query.key.clone(), Instant::now());
        let found = MatchSet { position, query, matches: Vec::new(), always_raised, damaged, used };
        Self { key, numbers: numbers.into_iter(), found: Some(found), _reserved: reserved }
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
