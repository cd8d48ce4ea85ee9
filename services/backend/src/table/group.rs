//! Groups of runs with equal values: their sizes, and summaries of numbers over each.

use std::sync::Arc;

use matyan_model::ids::Project;

use super::{
    NeededParts, RunTable, RunTables,
    match_set::TableQuery,
    order::OrderKey,
    page::{RunFilter, experiment_names, missing_column, needed_columns},
    roster::Slot,
    run_value::{RunValue, TableValue},
    term::{Term, compare},
};
use crate::{Deps, error::Result};

/// The groups that a request asks for.
pub(crate) struct GroupQuery {
    pub(crate) project: Project,
    pub(crate) query: Option<TableQuery>,
    pub(crate) by: Vec<RunValue>,
    pub(crate) summaries: Vec<RunValue>,
    /// `None`: by the values of the groups.
    pub(crate) order: Option<GroupNumber>,
    pub(crate) descending: bool,
    /// The beginning of the first value; empty: any value.
    pub(crate) prefix: String,
    pub(crate) limit: usize,
    /// The current time, for the duration of active runs.
    pub(crate) now_us: i64,
}

/// A number of a group to sort by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupNumber {
    Count,
    /// The mean of the first summary.
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
fn order_number(of: GroupNumber, runs: u64, first: Option<&NumberSummary>) -> Term {
    let summary = first.filter(|summary| summary.count > 0);
    let float = |value: Option<f64>| value.map_or(Term::Absent, Term::Float);
    match of {
        GroupNumber::Count => Term::Integer(i64::try_from(runs).unwrap_or(i64::MAX)),
        GroupNumber::Mean => float(summary.map(|summary| summary.mean)),
        GroupNumber::Min => float(summary.map(|summary| summary.min)),
        GroupNumber::Max => float(summary.map(|summary| summary.max)),
    }
}

/// A query with what its columns depend on.
struct ResolvedGroups {
    by: OrderKey,
    summaries: Vec<TableValue>,
    filter: RunFilter,
    order: Option<GroupNumber>,
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

/// All groups, and their summaries one after another.
struct TableGroups {
    groups: Vec<TableGroup>,
    summaries: Vec<NumberSummary>,
}

impl RunTables {
    /// A page of groups, as of a time after the call.
    pub(crate) async fn groups(
        &self,
        deps: &Arc<Deps>,
        query: GroupQuery,
        start: Option<GroupStart>,
    ) -> Result<GroupPage> {
        let GroupQuery { project, query, by, summaries, order, descending, prefix, limit, now_us } = query;
        let names = experiment_names(deps, project, by.iter()).await?;
        let value = |value: &RunValue| TableValue::new(value, now_us, names);
        let resolved = ResolvedGroups {
            by: by.iter().map(|by| (value(by), false)).collect(),
            summaries: summaries.iter().map(value).collect(),
            filter: RunFilter::new(query.as_ref()),
            order,
            descending,
            prefix,
            limit,
        };
        let columns = needed_columns(resolved.by.iter().map(|(value, _)| value).chain(&resolved.summaries));
        let mut open = self.open(deps, project, &NeededParts { columns, query: query.as_ref() }).await?;
        let groups = move || match open.as_mut() {
            Some(table) => table_groups(table, &resolved, start.as_ref()).ok_or_else(missing_column),
            None => Err(missing_column()),
        };
        deps.evaluation.run(groups).await?
    }
}

/// Returns `None` if a column is missing.
fn table_groups(
    table: &mut RunTable,
    query: &ResolvedGroups,
    start: Option<&GroupStart>,
) -> Option<GroupPage> {
    table.sort(&query.by)?;
    let selected = query.filter.selected(table)?;
    let TableGroups { groups, summaries } = all_groups(table, query, &selected)?;
    let by: OrderKey = match query.order {
        None => query.by.iter().map(|(value, _)| (value.clone(), query.descending)).collect(),
        Some(_) => query.by.clone(),
    };
    let comparison = table.comparison(&by)?;
    let width = query.summaries.len();
    let mut order: Vec<usize> = (0..groups.len()).collect();
    if query.order.is_some() || query.descending {
        let compare_groups = |a: &TableGroup, b: &TableGroup| {
            let by_number = compare(a.number.borrow(), b.number.borrow(), query.descending);
            by_number.then_with(|| comparison.compare_values(a.slot, b.slot))
        };
        order.sort_unstable_by(|a, b| compare_groups(&groups[*a], &groups[*b]));
    }
    let from = start.map_or(0, |start| {
        order.partition_point(|index| {
            let group = &groups[*index];
            let by_number = compare(group.number.borrow(), start.number.borrow(), query.descending);
            by_number.then_with(|| comparison.compare_with_values(group.slot, &start.terms)).is_le()
        })
    });
    let row = |index: &usize| {
        let TableGroup { slot, runs, number } = &groups[*index];
        let summaries = summaries[index * width..(index + 1) * width].to_vec();
        GroupRow { terms: comparison.terms(*slot), runs: *runs, summaries, number: number.clone() }
    };
    Some(GroupPage {
        group_count: groups.len() as u64,
        run_count: groups.iter().map(|group| group.runs).sum(),
        more: order.len() - from > query.limit,
        always_raised: query.filter.always_raised(table),
        groups: order[from..].iter().take(query.limit).map(row).collect(),
    })
}

/// All groups, by their values.
fn all_groups(table: &RunTable, query: &ResolvedGroups, selected: &[bool]) -> Option<TableGroups> {
    let comparison = table.comparison(&query.by)?;
    let values = query.summaries.iter().map(|value| table.values(value));
    let values: Vec<_> = values.collect::<Option<_>>()?;
    let first = table.values(&query.by.first()?.0)?;
    let mut all = TableGroups { groups: Vec::new(), summaries: Vec::new() };
    for slot in table.sorted(&query.by).iter().copied().filter(|slot| selected[*slot as usize]) {
        if !query.prefix.is_empty() && !first.get(slot).starts_with(&query.prefix) {
            continue;
        }
        let is_first =
            all.groups.last().is_none_or(|group| comparison.compare_values(group.slot, slot).is_ne());
        if is_first {
            all.groups.push(TableGroup { slot, runs: 0, number: Term::Absent });
            all.summaries.resize(all.summaries.len() + values.len(), NumberSummary::EMPTY);
        }
        let Some(group) = all.groups.last_mut() else { continue };
        group.runs += 1;
        let begin = all.summaries.len() - values.len();
        for (summary, values) in all.summaries[begin..].iter_mut().zip(&values) {
            if let Some(value) = values.get(slot).number() {
                summary.add(value);
            }
        }
    }
    if let Some(of) = query.order {
        for (index, group) in all.groups.iter_mut().enumerate() {
            group.number = order_number(of, group.runs, all.summaries.get(index * values.len()));
        }
    }
    Some(all)
}
