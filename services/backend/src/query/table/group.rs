//! Groups of runs with equal values: their sizes, and summaries of numbers over each.

use std::sync::Arc;

use matyan_model::ids::{Project, RunNumber};

use super::{
    group_equal_runs::GroupEqualRuns,
    match_set::TableQuery,
    open_table,
    order::OrderKey,
    page::{RunFilter, SELECTED, SelectRuns, entity_names, needed_columns},
    roster::Slot,
    run_table::{NeededParts, RunTable},
    run_tables::RunTables,
    run_value::{RunValue, TableValue},
    sliced_sort::SlicedSort,
    sort_runs::SortRuns,
    table_work::{TableWork, in_slices, missing_column},
};
use crate::{
    listing::{Term, compare},
    server::{deps::Deps, error::Result},
};

/// The groups that a request asks for.
pub(crate) struct GroupQuery {
    pub(crate) project: Project,
    pub(crate) query: Option<TableQuery>,
    pub(crate) by: Vec<RunValue>,
    pub(crate) summaries: Vec<RunValue>,
    /// `None`: by the values of the groups.
    pub(crate) order: Option<GroupNumber>,
    /// The summary that has this number.
    pub(crate) order_summary: usize,
    pub(crate) descending: bool,
    /// The start of the first value; empty: any value.
    pub(crate) prefix: String,
    pub(crate) limit: usize,
    /// The current time, for the duration of active runs.
    pub(crate) now_us: i64,
    /// Runs with higher numbers are left out. `None` for a first page.
    pub(crate) newest: Option<RunNumber>,
}

/// A number of a group to sort by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupNumber {
    Count,
    /// The mean of a summary.
    Mean,
    Min,
    Max,
}

/// The last group of the previous page: its values, and the number it was sorted by.
#[derive(Clone, Debug)]
pub(crate) struct GroupStart {
    pub(crate) terms: Vec<Term>,
    pub(crate) number: Term,
}

#[derive(Debug, Default)]
pub(crate) struct GroupPage {
    pub(crate) groups: Vec<GroupRow>,
    /// Number of groups on all pages, and of their runs.
    pub(crate) group_count: u64,
    pub(crate) run_count: u64,
    pub(crate) more: bool,
    /// The bound for the pages that follow.
    pub(crate) newest: RunNumber,
    pub(crate) always_raised: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct GroupRow {
    pub(crate) terms: Vec<Term>,
    pub(crate) runs: u64,
    pub(crate) summaries: Vec<NumberSummary>,
    /// The number that groups are sorted by.
    pub(crate) number: Term,
}

/// The finite values of a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct NumberSummary {
    pub(crate) count: u64,
    pub(crate) mean: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl NumberSummary {
    const EMPTY: Self = Self { count: 0, mean: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY };

    fn add(&mut self, value: f64) {
        self.count += 1;
        // A sum could overflow.
        let count = self.count as f64;
        self.mean += value / count - self.mean / count;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }
}

/// The number that a group is sorted by.
fn order_number(of: GroupNumber, runs: u64, summary: Option<&NumberSummary>) -> Term {
    let summary = summary.filter(|summary| summary.count > 0);
    let float = |value: Option<f64>| value.map_or(Term::Absent, Term::Float);
    match of {
        GroupNumber::Count => Term::Integer(i64::try_from(runs).unwrap_or(i64::MAX)),
        GroupNumber::Mean => float(summary.map(|summary| summary.mean)),
        GroupNumber::Min => float(summary.map(|summary| summary.min)),
        GroupNumber::Max => float(summary.map(|summary| summary.max)),
    }
}

/// A query with the inputs of its columns.
struct ResolvedGroups {
    by: OrderKey,
    summaries: Vec<TableValue>,
    order: Option<GroupNumber>,
    order_summary: usize,
    descending: bool,
    prefix: String,
    limit: usize,
}

/// A group in the table: there may be as many as runs, so their values are not copied.
struct TableGroup {
    /// A run of the group.
    slot: Slot,
    runs: u64,
    /// The number that groups are sorted by.
    number: Term,
}

/// Collects groups, and sorts them.
struct GroupRuns {
    query: ResolvedGroups,
    runs: SelectRuns,
    /// The first runs that are done, in the order of slots.
    done: Slot,
    /// All groups of the table, in rising order.
    groups: Vec<TableGroup>,
    /// The summaries of all groups, one after another.
    summaries: Vec<NumberSummary>,
    sort: Option<SlicedSort<Slot>>,
    /// Indexes of groups with runs, in the order of the request.
    order: Vec<Slot>,
}

impl RunTables {
    /// A page of groups, as of a time after the call.
    pub(crate) async fn groups(
        &self,
        deps: &Arc<Deps>,
        request: GroupQuery,
        start: Option<GroupStart>,
    ) -> Result<GroupPage> {
        let GroupQuery { project, query, by, summaries, order, order_summary, .. } = request;
        let GroupQuery { descending, prefix, limit, now_us, newest, .. } = request;
        let names = entity_names(deps, project, by.iter()).await?;
        let value = |value: &RunValue| TableValue::new(value, now_us, names);
        let by: OrderKey = by.iter().map(|by| (value(by), false)).collect();
        let summaries: Vec<TableValue> = summaries.iter().map(value).collect();
        let columns = needed_columns(by.iter().map(|(value, _)| value).chain(&summaries));
        let needed = NeededParts { columns, query: query.as_ref(), order: &by, waits: true };
        let evaluation = &deps.evaluation;
        let open = open_table::open(self, deps, project, &needed).await?;
        let work = SortRuns::new(by.clone());
        let (open, _) = in_slices(self, evaluation, project, &needed, open, work).await?;
        let work = GroupEqualRuns::new(by.clone());
        let (open, _) = in_slices(self, evaluation, project, &needed, open, work).await?;
        let work = SelectRuns::new(RunFilter::new(query.as_ref(), newest));
        let (open, runs) = in_slices(self, evaluation, project, &needed, open, work).await?;
        let by_values = by.clone();
        let resolved =
            ResolvedGroups { by: by_values, summaries, order, order_summary, descending, prefix, limit };
        let work = GroupRuns::new(resolved, runs);
        let (open, groups) = in_slices(self, evaluation, project, &needed, open, work).await?;
        let page = move || match open.as_ref() {
            Some(table) => groups.page(table, start.as_ref()).ok_or_else(missing_column),
            None => Err(missing_column()),
        };
        evaluation.run(page).await?
    }
}

impl GroupRuns {
    fn new(query: ResolvedGroups, runs: SelectRuns) -> Self {
        let groups = Vec::new();
        let summaries = Vec::new();
        let order = Vec::new();
        Self { query, runs, done: 0, groups, summaries, sort: None, order }
    }

    /// The groups of the table, without runs.
    fn start_groups(&mut self, table: &RunTable) -> Option<()> {
        self.groups = table
            .equal_runs(&self.query.by)?
            .examples()
            .iter()
            .map(|slot| TableGroup { slot: *slot, runs: 0, number: Term::Absent })
            .collect();
        self.summaries = vec![NumberSummary::EMPTY; self.groups.len() * self.query.summaries.len()];
        Some(())
    }

    /// Adds some runs to their groups.
    fn collect(&mut self, table: &RunTable) -> Option<()> {
        let Self { query, runs, done, groups, summaries, .. } = self;
        let equal = table.equal_runs(&query.by)?;
        let values = query.summaries.iter().map(|value| table.values(value));
        let values: Vec<_> = values.collect::<Option<_>>()?;
        let slots = (*done..).take(SELECTED.min(runs.selected.len() - *done as usize));
        for slot in slots {
            *done = slot + 1;
            let Some(index) = equal.group(slot).filter(|_| runs.selected[slot as usize]) else { continue };
            let group = &mut groups[index];
            if group.runs == 0 {
                group.slot = slot;
            }
            group.runs += 1;
            let summaries = &mut summaries[index * values.len()..];
            for (summary, values) in summaries.iter_mut().zip(&values) {
                if let Some(value) = values.get(slot).number() {
                    summary.add(value);
                }
            }
        }
        Some(())
    }

    /// Notes the numbers that groups are sorted by, and starts to sort the groups that have runs.
    fn start_sort(&mut self, table: &RunTable) -> Option<SlicedSort<Slot>> {
        let Self { query, groups, summaries, .. } = self;
        if let Some(of) = query.order {
            for (index, group) in groups.iter_mut().enumerate() {
                let summary = summaries.get(index * query.summaries.len() + query.order_summary);
                group.number = order_number(of, group.runs, summary);
            }
        }
        let first = table.values(&query.by.first()?.0)?;
        let is_shown = |group: &TableGroup| {
            group.runs > 0 && (query.prefix.is_empty() || first.get(group.slot).starts_with(&query.prefix))
        };
        let all = (0..).zip(&*groups).filter(|(_, group)| is_shown(group)).map(|(index, _)| index).collect();
        // They are in rising order.
        Some(if query.order.is_some() || query.descending {
            SlicedSort::new(Vec::new(), all)
        } else {
            SlicedSort::new(all, Vec::new())
        })
    }

    /// The order of the values of groups.
    fn values_order(&self) -> OrderKey {
        let descending = self.query.order.is_none() && self.query.descending;
        self.query.by.iter().map(|(value, _)| (value.clone(), descending)).collect()
    }

    /// Returns `None` if a column is missing.
    fn page(&self, table: &RunTable, start: Option<&GroupStart>) -> Option<GroupPage> {
        let Self { query, groups, summaries, order, .. } = self;
        let comparison = table.comparison(&self.values_order())?;
        let width = query.summaries.len();
        let from = start.map_or(0, |start| {
            order.partition_point(|index| {
                let group = &groups[*index as usize];
                let by_number = compare(group.number.borrow(), start.number.borrow(), query.descending);
                by_number.then_with(|| comparison.compare_with_values(group.slot, &start.terms)).is_le()
            })
        });
        let row = |index: &Slot| {
            let index = *index as usize;
            let TableGroup { slot, runs, number } = &groups[index];
            let summaries = summaries[index * width..(index + 1) * width].to_vec();
            GroupRow { terms: comparison.terms(*slot), runs: *runs, summaries, number: number.clone() }
        };
        Some(GroupPage {
            group_count: order.len() as u64,
            run_count: order.iter().map(|index| groups[*index as usize].runs).sum(),
            more: order.len() - from > query.limit,
            newest: self.runs.filter.bound(table),
            always_raised: self.runs.filter.always_raised(table),
            groups: order[from..].iter().take(query.limit).map(row).collect(),
        })
    }
}

impl TableWork for GroupRuns {
    fn bytes(&self, table: &RunTable) -> usize {
        let groups = table.equal_runs(&self.query.by).map_or(0, |equal| equal.examples().len());
        let summaries = self.query.summaries.len() * size_of::<NumberSummary>();
        self.runs.selected.capacity()
            + groups * (size_of::<TableGroup>() + summaries + size_of::<Slot>())
            + SlicedSort::<Slot>::bytes(groups)
    }

    fn step(&mut self, table: &mut RunTable) -> Option<bool> {
        if self.done == 0 {
            self.start_groups(table)?;
        }
        if (self.done as usize) < self.runs.selected.len() {
            self.collect(table)?;
            return Some(false);
        }
        let mut sort = match self.sort.take() {
            Some(sort) => sort,
            None => self.start_sort(table)?,
        };
        let comparison = table.comparison(&self.values_order())?;
        let compare_groups = |a: &Slot, b: &Slot| {
            let a = &self.groups[*a as usize];
            let b = &self.groups[*b as usize];
            let by_number = compare(a.number.borrow(), b.number.borrow(), self.query.descending);
            by_number.then_with(|| comparison.compare_values(a.slot, b.slot))
        };
        match sort.step(compare_groups) {
            Some(order) => self.order = order,
            None => {
                self.sort = Some(sort);
                return Some(false);
            }
        }
        Some(true)
    }
}
