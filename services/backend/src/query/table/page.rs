//! Pages of runs in a sort order: each continues after the place of a run, whether or not that run
//! still exists, and every run that keeps its place is on one page.

use std::{ops::Range, sync::Arc};

use matyan_model::ids::{Project, RunNumber};
use matyan_store::Error as StoreError;

use super::{
    match_set::{MatchSet, QueryKey, TableQuery},
    names_digest::names_digest,
    open_table,
    order::OrderKey,
    roster::{RunState, Slot},
    run_table::{NeededParts, RunTable},
    run_tables::{OpenTable, RunTables},
    run_value::{ColumnKey, RunValue, SortKey, TableValue},
    sort_runs::SortRuns,
    table_work::{SLICE, TableWork, in_slices, missing_column},
};
use crate::{
    listing::Term,
    server::{
        deps::Deps,
        error::{Error, Result},
    },
};

/// The runs of a list, and their order.
pub(crate) struct Selection {
    pub(crate) project: Project,
    pub(crate) sort: Vec<SortKey>,
    /// `None`: every run that is not archived.
    pub(crate) query: Option<TableQuery>,
    /// Only the runs with these values.
    pub(crate) group: Option<(Vec<RunValue>, Vec<Term>)>,
    /// The current time, for the duration of active runs.
    pub(crate) now_us: i64,
    /// Runs with higher numbers are left out. `None` for a first page.
    pub(crate) newest: Option<RunNumber>,
}

/// Where a page starts.
#[derive(Clone, Debug)]
pub(crate) enum PageStart {
    /// After this number of matches.
    Position(u64),
    /// After the place of a run.
    After { terms: Vec<Term>, run_id: String },
    /// After a run that must match.
    AfterRun(RunNumber),
}

#[derive(Debug, Default)]
pub(crate) struct TablePage {
    pub(crate) runs: Vec<(RunNumber, String)>,
    /// Rank of the first run among all matches, starting at 1.
    pub(crate) first_rank: u64,
    /// Number of all matches.
    pub(crate) total: u64,
    /// The place of the last run.
    pub(crate) last_terms: Vec<Term>,
    /// Whether there are more matches after this page.
    pub(crate) more: bool,
    /// The bound for the pages that follow.
    pub(crate) newest: RunNumber,
    /// The query raised an error for every run.
    pub(crate) always_raised: bool,
    /// Damaged runs that may match.
    pub(crate) damaged: Vec<RunNumber>,
}

/// A selection with the inputs of its columns.
struct ResolvedSelection {
    order: OrderKey,
    filter: RunFilter,
    /// Whether the request waits for memory.
    waits: bool,
}

/// The runs of a table that a list has.
#[derive(Clone)]
pub(super) struct RunFilter {
    query: Option<QueryKey>,
    group: Option<(OrderKey, Vec<Term>)>,
    newest: Option<RunNumber>,
}

impl RunFilter {
    pub(super) fn new(query: Option<&TableQuery>, newest: Option<RunNumber>) -> Self {
        Self { query: query.map(|query| query.key().clone()), group: None, newest }
    }

    /// Whether some slots are in a list; `None` if a column is missing.
    fn selected(&self, table: &RunTable, slots: Range<Slot>) -> Option<Vec<bool>> {
        let matches = match &self.query {
            Some(key) => Some(table.matches.get(key)?),
            None => None,
        };
        let group = match &self.group {
            Some((key, terms)) => Some((table.comparison(key)?, terms)),
            None => None,
        };
        let is_selected = |slot: Slot| {
            let state = table.roster.state(slot);
            let is_match = match matches {
                Some(matches) => state != RunState::Hidden && matches.contains(slot),
                None => state == RunState::Shown,
            };
            is_match
                && self.newest.is_none_or(|newest| table.roster.number(slot) <= newest)
                && group
                    .as_ref()
                    .is_none_or(|(values, terms)| values.compare_with_values(slot, terms).is_eq())
        };
        Some(slots.map(is_selected).collect())
    }

    /// The bound for the pages that follow.
    pub(super) fn bound(&self, table: &RunTable) -> RunNumber {
        self.newest.unwrap_or_else(|| table.roster.newest())
    }

    /// Whether the query failed for every run.
    pub(super) fn always_raised(&self, table: &RunTable) -> bool {
        self.matches(table).is_some_and(|matches| matches.always_raised)
    }

    fn matches<'t>(&self, table: &'t RunTable) -> Option<&'t MatchSet> {
        self.query.as_ref().and_then(|key| table.matches.get(key))
    }
}

/// Runs of a slice. Looking at one takes some nanoseconds.
pub(super) const SELECTED: usize = 20 * SLICE;

/// Finds the runs of a table that a list has.
pub(super) struct SelectRuns {
    pub(super) filter: RunFilter,
    /// By slot, as far as the work has come.
    pub(super) selected: Vec<bool>,
}

impl SelectRuns {
    pub(super) fn new(filter: RunFilter) -> Self {
        Self { filter, selected: Vec::new() }
    }
}

impl TableWork for SelectRuns {
    fn bytes(&self, table: &RunTable) -> usize {
        2 * table.roster.len()
    }

    fn step(&mut self, table: &mut RunTable) -> Option<bool> {
        let runs = table.roster.len();
        let end = runs.min(self.selected.len() + SELECTED);
        self.selected.reserve_exact(runs - self.selected.len());
        let slots = self.selected.len() as Slot..end as Slot;
        self.selected.extend(self.filter.selected(table, slots)?);
        Some(end == runs)
    }
}

impl RunTables {
    /// A page of runs, as of a time after the call.
    pub(crate) async fn page(
        &self,
        deps: &Arc<Deps>,
        selection: &Selection,
        start: PageStart,
        limit: usize,
    ) -> Result<TablePage> {
        let resolved = selection.resolve(deps).await?;
        let open = open_table::open(self, deps, selection.project, &resolved.needed(selection)).await?;
        self.page_of(deps, selection, resolved, open, start, limit).await
    }

    /// Like `page`, if the table and its order are up to date or nearly so, no other request works on
    /// it, and there is memory for it.
    pub(crate) async fn page_now(
        &self,
        deps: &Arc<Deps>,
        selection: &Selection,
        start: PageStart,
        limit: usize,
    ) -> Result<Option<TablePage>> {
        let resolved = ResolvedSelection { waits: false, ..selection.resolve(deps).await? };
        let page = async {
            let open =
                open_table::open_now(self, deps, selection.project, &resolved.needed(selection)).await?;
            let Some(open) = open else { return Ok(None) };
            self.page_of(deps, selection, resolved, open, start, limit).await.map(Some)
        };
        match page.await {
            Err(Error::SortTooLarge { .. } | Error::Store(StoreError::SnapshotTooOld)) => Ok(None),
            page => page,
        }
    }

    async fn page_of(
        &self,
        deps: &Deps,
        selection: &Selection,
        resolved: ResolvedSelection,
        open: OpenTable,
        start: PageStart,
        limit: usize,
    ) -> Result<TablePage> {
        let needed = resolved.needed(selection);
        let evaluation = &deps.evaluation;
        let project = selection.project;
        let work = SortRuns::new(resolved.order.clone());
        let (open, _) = in_slices(self, evaluation, project, &needed, open, work).await?;
        let work = SelectRuns::new(resolved.filter.clone());
        let (open, runs) = in_slices(self, evaluation, project, &needed, open, work).await?;
        let order = resolved.order;
        let page = move || match open.as_ref() {
            Some(table) => table_page(table, &order, &runs, &start, limit).ok_or_else(missing_column),
            None => Err(missing_column()),
        };
        evaluation.run(page).await?
    }
}

impl Selection {
    async fn resolve(&self, deps: &Deps) -> Result<ResolvedSelection> {
        let grouped = self.group.iter().flat_map(|(values, _)| values);
        let values = self.sort.iter().map(|key| &key.value).chain(grouped);
        let names = entity_names(deps, self.project, values).await?;
        let value = |value: &RunValue| TableValue::new(value, self.now_us, names);
        let group = self.group.as_ref().map(|(values, terms)| {
            (values.iter().map(|grouped| (value(grouped), false)).collect::<OrderKey>(), terms.clone())
        });
        Ok(ResolvedSelection {
            order: self.sort.iter().map(|key| (value(&key.value), key.descending)).collect(),
            filter: RunFilter { group, ..RunFilter::new(self.query.as_ref(), self.newest) },
            waits: true,
        })
    }
}

impl ResolvedSelection {
    fn needed<'s>(&'s self, selection: &'s Selection) -> NeededParts<'s> {
        let grouped = self.filter.group.iter().flat_map(|(values, _)| values);
        let columns = needed_columns(self.order.iter().chain(grouped).map(|(value, _)| value));
        NeededParts { columns, query: selection.query.as_ref(), order: &self.order, waits: self.waits }
    }
}

/// The digest of the names of experiments and tags, if a value depends on them.
pub(super) async fn entity_names(
    deps: &Deps,
    project: Project,
    values: impl Iterator<Item = &RunValue>,
) -> Result<u64> {
    let mut experiment = false;
    let mut tags = false;
    for value in values {
        experiment |= *value == RunValue::Experiment;
        tags |= *value == RunValue::Tags;
    }
    if experiment || tags { names_digest(deps, project, tags).await } else { Ok(0) }
}

pub(super) fn needed_columns<'v>(values: impl Iterator<Item = &'v TableValue>) -> Vec<ColumnKey> {
    let mut columns = Vec::new();
    for key in values.flat_map(TableValue::columns) {
        if !columns.contains(&key) {
            columns.push(key);
        }
    }
    columns
}

/// Returns `None` if a column is missing.
fn table_page(
    table: &RunTable,
    order: &OrderKey,
    runs: &SelectRuns,
    start: &PageStart,
    limit: usize,
) -> Option<TablePage> {
    let SelectRuns { filter, selected } = runs;
    let is_selected = |slot: &&Slot| selected[**slot as usize];
    let comparison = table.comparison(order)?;
    let sorted = table.sorted(order);
    let mut page = TablePage {
        total: selected.iter().filter(|selected| **selected).count() as u64,
        newest: filter.bound(table),
        always_raised: filter.always_raised(table),
        damaged: filter.matches(table).map(|matches| matches.damaged.clone()).unwrap_or_default(),
        ..TablePage::default()
    };
    let place_after = |terms: &[Term], run_id: &str| {
        sorted.partition_point(|slot| comparison.compare_with(*slot, terms, run_id).is_le())
    };
    let (from, skipped) = match start {
        PageStart::Position(position) => (0, usize::try_from(*position).unwrap_or(usize::MAX)),
        PageStart::After { terms, run_id } => (place_after(terms, run_id), 0),
        PageStart::AfterRun(number) => match table.roster.slot(*number) {
            Some(slot) if selected[slot as usize] => {
                (place_after(&comparison.terms(slot), &table.roster.run_id_text(slot)), 0)
            }
            _ => return Some(page),
        },
    };
    let before = sorted[..from].iter().filter(is_selected).count() + skipped;
    page.first_rank = (before as u64).saturating_add(1);
    let mut rest = sorted[from..].iter().filter(is_selected).skip(skipped);
    let slots: Vec<Slot> = rest.by_ref().take(limit).copied().collect();
    page.more = rest.next().is_some();
    page.last_terms = slots.last().map(|slot| comparison.terms(*slot)).unwrap_or_default();
    page.runs =
        slots.into_iter().map(|slot| (table.roster.number(slot), table.roster.run_id_text(slot))).collect();
    Some(page)
}
