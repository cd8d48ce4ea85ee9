//! Brings the sort orders of a table up to date: changed runs join an order at their new places.

use super::{
    order::{Order, OrderKey},
    roster::{RunState, Slot},
    run_table::RunTable,
    sliced_sort::SlicedSort,
    table_work::TableWork,
};

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
            None => match table.start_sort(&self.key) {
                Some(sort) => self.sort.insert(sort),
                None => return Some(true),
            },
        };
        let comparison = table.comparison(&self.key)?;
        let Some(mut sorted) = sort.step(|a, b| comparison.compare(*a, *b)) else { return Some(false) };
        sorted.shrink_to_fit();
        table.orders.insert(self.key.clone(), Order::new(self.key.clone(), sorted));
        Some(true)
    }
}

impl RunTable {
    fn is_listed(&self, slot: Slot) -> bool {
        self.roster.state(slot) != RunState::Hidden
    }

    /// The sort that brings an order up to date, unless it is.
    fn start_sort(&self, key: &OrderKey) -> Option<SlicedSort<Slot>> {
        let Some(order) = self.orders.get(key).filter(|order| !order.is_outdated()) else {
            let listed = self.roster.all_slots().filter(|slot| self.is_listed(*slot));
            return Some(SlicedSort::new(Vec::new(), listed.collect()));
        };
        if order.changed.is_empty() {
            return None;
        }
        let mut is_changed = vec![false; self.roster.len()];
        for slot in &order.changed {
            is_changed[*slot as usize] = true;
        }
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
    use crate::query::table::{memory::TableMemory, roster::Roster, run_value::TableValue};

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
            for slot in slots {
                order.mark_changed(slot);
            }
            table.is_soon_sorted(&key)
        };
        assert!(changed(&mut table, 0..8_000));
        assert!(!changed(&mut table, 8_000..8_001), "as many runs have changed");
        assert!(!changed(&mut table, 8_001..100_000), "the order is outdated");
    }
}
