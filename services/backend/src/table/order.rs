//! The runs of a table in a sort order, which changed runs join again at their new places.

use std::cmp::Ordering;

use tokio::time::Instant;

use super::{
    RunTable,
    column::Column,
    equal_runs::EqualRuns,
    memory::{grow, vec_growth},
    roster::{Roster, RunState, Slot},
    run_value::{ColumnKey, TableValue},
    sliced_sort::SlicedSort,
    table_work::TableWork,
    term::{Term, TermRef, compare},
};

/// Fraction of the runs from which on sorting all of them is faster than moving the changed ones.
const SORT_FROM: usize = 8;

/// Values with their directions, the most significant first.
pub(super) type OrderKey = Vec<(TableValue, bool)>;

pub(super) struct Order {
    key: OrderKey,
    /// Every run but deleted ones, and the changed ones at their old places.
    sorted: Vec<Slot>,
    changed: Vec<Slot>,
    /// The groups of runs with equal values, once a request has needed them. The next order has its own.
    equal: Option<EqualRuns>,
    /// When a request last needed the order.
    pub(super) used: Instant,
}

impl Order {
    pub(super) fn uses(&self, column: &ColumnKey) -> bool {
        self.key.iter().any(|(value, _)| value.uses(column))
    }

    pub(super) fn mark_changed(&mut self, slot: Slot) {
        if !self.is_outdated() {
            grow(&mut self.changed, 1);
            self.changed.push(slot);
        }
    }

    /// Whether too many runs have changed to move each of them.
    fn is_outdated(&self) -> bool {
        self.changed.len() > self.sorted.len() / SORT_FROM
    }

    pub(super) fn bytes(&self) -> usize {
        let equal = self.equal.as_ref().map_or(0, EqualRuns::bytes);
        (self.sorted.capacity() + self.changed.capacity()) * size_of::<Slot>() + equal
    }

    /// Upper bound of the memory that this number of changed runs takes.
    pub(super) fn growth(&self, runs: usize) -> usize {
        vec_growth(&self.changed, runs)
    }
}

/// A value of all runs of a table.
pub(super) enum Values<'t> {
    RunIds(&'t Roster),
    Numbers(&'t Roster),
    Durations { created: &'t Column, ended: &'t Column, active: &'t Column, now_us: i64 },
    Column(&'t Column),
}

impl<'t> Values<'t> {
    pub(super) fn get(&self, slot: Slot) -> TermRef<'t> {
        match self {
            Self::RunIds(roster) => TermRef::Text(roster.run_id(slot)),
            Self::Numbers(roster) => TermRef::Integer(roster.number(slot).0.cast_signed()),
            Self::Column(column) => column.get(slot),
            Self::Durations { created, ended, active, now_us } => {
                let ended = match (active.get(slot), ended.get(slot)) {
                    (TermRef::Bool(true), _) => *now_us,
                    (_, TermRef::Integer(ended_us)) => ended_us,
                    _ => return TermRef::Absent,
                };
                match created.get(slot) {
                    TermRef::Integer(created_us) => TermRef::Integer(ended.saturating_sub(created_us)),
                    _ => TermRef::Absent,
                }
            }
        }
    }
}

/// The values of a sort order, to compare runs by them and then by id.
pub(super) struct Comparison<'t> {
    table: &'t RunTable,
    values: Vec<(Values<'t>, bool)>,
}

impl Comparison<'_> {
    fn compare(&self, a: Slot, b: Slot) -> Ordering {
        let roster = &self.table.roster;
        self.compare_values(a, b).then_with(|| roster.run_id(a).cmp(roster.run_id(b)))
    }

    /// Compares the values of two runs.
    pub(super) fn compare_values(&self, a: Slot, b: Slot) -> Ordering {
        for (values, descending) in &self.values {
            let ordering = compare(values.get(a), values.get(b), *descending);
            if ordering.is_ne() {
                return ordering;
            }
        }
        Ordering::Equal
    }

    /// Compares a run with the place of another one.
    pub(super) fn compare_with(&self, slot: Slot, terms: &[Term], run_id: &str) -> Ordering {
        self.compare_with_values(slot, terms).then_with(|| self.table.roster.run_id(slot).cmp(run_id))
    }

    /// Compares the values of a run with others.
    pub(super) fn compare_with_values(&self, slot: Slot, terms: &[Term]) -> Ordering {
        for ((values, descending), term) in self.values.iter().zip(terms) {
            let ordering = compare(values.get(slot), term.borrow(), *descending);
            if ordering.is_ne() {
                return ordering;
            }
        }
        Ordering::Equal
    }

    pub(super) fn terms(&self, slot: Slot) -> Vec<Term> {
        self.values.iter().map(|(values, _)| values.get(slot).to_term()).collect()
    }
}

impl RunTable {
    /// `None` if a column is missing.
    pub(super) fn values(&self, value: &TableValue) -> Option<Values<'_>> {
        Some(match value {
            TableValue::RunId => Values::RunIds(&self.roster),
            TableValue::Number => Values::Numbers(&self.roster),
            TableValue::Column(key) => Values::Column(self.columns.get(key)?),
            TableValue::Duration { now_us } => Values::Durations {
                created: self.columns.get(&ColumnKey::Created)?,
                ended: self.columns.get(&ColumnKey::Ended)?,
                active: self.columns.get(&ColumnKey::Active)?,
                now_us: *now_us,
            },
        })
    }

    pub(super) fn comparison(&self, key: &OrderKey) -> Option<Comparison<'_>> {
        let values = key.iter().map(|(value, descending)| Some((self.values(value)?, *descending)));
        Some(Comparison { table: self, values: values.collect::<Option<_>>()? })
    }

    fn is_listed(&self, slot: Slot) -> bool {
        self.roster.state(slot) != RunState::Hidden
    }

    /// The sort that brings an order up to date, unless it is.
    fn begin_sort(&self, key: &OrderKey) -> Option<SlicedSort<Slot>> {
        let Some(order) = self.orders.get(key).filter(|order| !order.is_outdated()) else {
            let listed = self.roster.all_slots().filter(|slot| self.is_listed(*slot));
            return Some(SlicedSort::new(Vec::new(), listed.collect()));
        };
        if order.changed.is_empty() {
            return None;
        }
        let mut is_changed = vec![false; self.roster.len()];
        order.changed.iter().for_each(|slot| is_changed[*slot as usize] = true);
        let unchanged = order.sorted.iter().copied().filter(|slot| !is_changed[*slot as usize]);
        let changed =
            self.roster.all_slots().filter(|slot| is_changed[*slot as usize] && self.is_listed(*slot));
        Some(SlicedSort::new(unchanged.collect(), changed.collect()))
    }

    /// Whether a slice is enough to bring an order up to date.
    pub(super) fn is_soon_sorted(&self, key: &OrderKey) -> bool {
        let order = self.orders.get(key).filter(|order| !order.is_outdated());
        SlicedSort::<Slot>::is_short(order.map_or(self.roster.len(), |order| order.changed.len()))
    }

    /// The runs in an order that was just brought up to date.
    pub(super) fn sorted(&self, key: &OrderKey) -> &[Slot] {
        self.orders.get(key).map_or(&[], |order| &order.sorted)
    }

    /// The groups of the runs in an order that was just brought up to date; `None` if they are not known.
    pub(super) fn equal_runs(&self, key: &OrderKey) -> Option<&EqualRuns> {
        self.orders.get(key)?.equal.as_ref()
    }

    pub(super) fn set_equal_runs(&mut self, key: &OrderKey, equal: EqualRuns) {
        if let Some(order) = self.orders.get_mut(key) {
            order.equal = Some(equal);
        }
    }
}

/// Brings an order up to date. Until then, the table keeps the previous one, so nothing is lost if the
/// work is given up.
pub(super) struct SortRuns {
    key: OrderKey,
    sort: Option<SlicedSort<Slot>>,
}

impl SortRuns {
    pub(super) fn new(key: OrderKey) -> Self {
        Self { key, sort: None }
    }
}

impl TableWork for SortRuns {
    fn bytes(&self, table: &RunTable) -> usize {
        // The new order, and a flag for each run.
        let runs = table.roster.len();
        SlicedSort::<Slot>::bytes(runs) + runs * size_of::<Slot>() + runs
    }

    fn step(&mut self, table: &mut RunTable) -> Option<bool> {
        let sort = match &mut self.sort {
            Some(sort) => sort,
            None => match table.begin_sort(&self.key) {
                Some(sort) => self.sort.insert(sort),
                None => return Some(true),
            },
        };
        let comparison = table.comparison(&self.key)?;
        let Some(mut sorted) = sort.step(|a, b| comparison.compare(*a, *b)) else { return Some(false) };
        sorted.shrink_to_fit();
        let order =
            Order { key: self.key.clone(), sorted, changed: Vec::new(), equal: None, used: Instant::now() };
        table.orders.insert(self.key.clone(), order);
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use matyan_model::{
        ids::RunNumber,
        run::{Document, Params, Props},
    };
    use prometheus::IntGauge;

    use super::*;
    use crate::table::memory::TableMemory;

    #[test]
    fn a_sort_of_many_runs_is_not_soon_done() {
        let memory = Arc::new(TableMemory::new(1 << 30, IntGauge::new("used", "used").unwrap()));
        let mut reserved = memory.reservation();
        assert!(reserved.resize(1 << 30));
        let mut roster = Roster::new(matyan_store::Version(1).stamp(0));
        let add = |roster: &mut Roster, numbers: std::ops::Range<u64>| {
            for number in numbers {
                let document = Document { props: Props::new(&number.to_string(), 1), params: Params::Pieces };
                roster.update(RunNumber(number), Some(&document));
            }
        };
        add(&mut roster, 0..100);
        let mut table = RunTable::new(roster, reserved);
        let key: OrderKey = vec![(TableValue::RunId, false)];
        assert!(table.is_soon_sorted(&key), "there are few runs");
        add(&mut table.roster, 100..100_000);
        assert!(!table.is_soon_sorted(&key), "there is no order");
        let mut work = SortRuns::new(key.clone());
        while work.step(&mut table) == Some(false) {}
        assert!(table.is_soon_sorted(&key));
        let changed = |table: &mut RunTable, slots: std::ops::Range<Slot>| {
            let order = table.orders.get_mut(&key).unwrap();
            slots.for_each(|slot| order.mark_changed(slot));
            table.is_soon_sorted(&key)
        };
        assert!(changed(&mut table, 0..8_000));
        assert!(!changed(&mut table, 8_000..8_001), "as many runs have changed");
        assert!(!changed(&mut table, 8_001..100_000), "the order is outdated");
    }
}
