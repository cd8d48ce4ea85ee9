//! Brings the sort orders of a table up to date: changed runs join an order at their new places.

use std::borrow::Cow;

use super::{
    order::{Order, OrderKey},
    roster::{RunState, Slot},
    run_table::RunTable,
    run_value::{ColumnKey, TableValue},
    sliced_sort::SlicedSort,
    table_work::TableWork,
};
use crate::listing::TermRef;

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
        // The new order, the runs that have changed, and a flag for each run.
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
        let Some(KnownOrder { order, changed }) = self.known_order(key) else {
            let listed = self.roster.all_slots().filter(|slot| self.is_listed(*slot));
            return Some(SlicedSort::new(Vec::new(), listed.collect()));
        };
        if changed.is_empty() && self.orders.contains_key(key) {
            return None;
        }
        let mut is_changed = vec![false; self.roster.len()];
        for slot in changed.iter() {
            is_changed[*slot as usize] = true;
        }
        drop(changed);
        let mut unchanged = Vec::with_capacity(order.sorted.len());
        unchanged.extend(order.sorted.iter().copied().filter(|slot| !is_changed[*slot as usize]));
        let changed =
            self.roster.all_slots().filter(|slot| is_changed[*slot as usize] && self.is_listed(*slot));
        Some(SlicedSort::new(unchanged, changed.collect()))
    }

    /// Whether a slice is enough to bring an order up to date.
    pub(super) fn is_soon_sorted(&self, key: &OrderKey) -> bool {
        let changed = self.known_order(key).map_or(self.roster.len(), |known| known.changed.len());
        SlicedSort::<Slot>::is_short(changed)
    }

    /// The order itself, or one by the durations at another time, unless too many runs have changed.
    fn known_order(&self, key: &OrderKey) -> Option<KnownOrder<'_>> {
        match self.orders.get(key).filter(|order| !order.is_outdated()) {
            Some(order) => Some(KnownOrder { order, changed: Cow::Borrowed(&order.changed) }),
            None => self.order_of_another_time(key),
        }
    }

    /// The newest order by the same values, except that its durations are those at another time. Only active runs may
    /// have other places in it.
    fn order_of_another_time(&self, key: &OrderKey) -> Option<KnownOrder<'_>> {
        if !key.iter().any(|(value, _)| matches!(value, TableValue::Duration { .. })) {
            return None;
        }
        let others = self
            .orders
            .values()
            .filter(|order| differ_only_in_time(order.key(), key) && !order.is_outdated());
        let order = others.max_by_key(|order| order.used)?;
        let active = self.columns.get(&ColumnKey::Active)?;
        let is_active = |slot| matches!(active.get(slot), TermRef::Bool(true)) && self.is_listed(slot);
        let moved = self.roster.all_slots().filter(|slot| is_active(*slot));
        let most = order.most_changed();
        let changed: Vec<Slot> = order.changed.iter().copied().chain(moved).take(most + 1).collect();
        (changed.len() <= most).then_some(KnownOrder { order, changed: Cow::Owned(changed) })
    }
}

/// An order that is up to date, except for a few runs.
struct KnownOrder<'t> {
    order: &'t Order,
    changed: Cow<'t, [Slot]>,
}

fn differ_only_in_time(one: &OrderKey, other: &OrderKey) -> bool {
    let mut pairs = one.iter().zip(other);
    one.len() == other.len()
        && pairs.all(|((a, a_descends), (b, b_descends))| {
            a_descends == b_descends && is_same_apart_from_time(a, b)
        })
}

fn is_same_apart_from_time(one: &TableValue, other: &TableValue) -> bool {
    match (one, other) {
        (TableValue::Duration { .. }, TableValue::Duration { .. }) => true,
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use std::{ops::Range, sync::Arc};

    use matyan_model::{
        ids::RunNumber,
        run::{Document, Params, Props},
    };
    use prometheus::IntGauge;

    use super::*;
    use crate::{
        listing::Term,
        query::table::{column::Column, memory::TableMemory, roster::Roster},
    };

    fn table_of(numbers: Range<u64>) -> RunTable {
        let memory = Arc::new(TableMemory::new(1 << 30, IntGauge::new("used", "used").unwrap()));
        let mut reserved = memory.reservation();
        assert!(reserved.resize(1 << 30));
        let mut roster = Roster::new(matyan_store::Version(1).stamp(0));
        add(&mut roster, numbers);
        RunTable::new(roster, reserved)
    }

    fn add(roster: &mut Roster, numbers: Range<u64>) {
        for number in numbers {
            let document = Document { props: Props::new(&number.to_string(), 1), params: Params::Pieces };
            roster.update(RunNumber(number), Some(&document));
        }
    }

    #[test]
    fn a_sort_of_many_runs_is_not_soon_done() {
        let mut table = table_of(0..100);
        let key: OrderKey = vec![(TableValue::RunId, false)];
        assert!(table.is_soon_sorted(&key), "there are few runs");
        add(&mut table.roster, 100..100_000);
        assert!(!table.is_soon_sorted(&key), "there is no order");
        let mut work = SortRuns::new(key.clone());
        while work.step(&mut table) == Some(false) {}
        assert!(table.is_soon_sorted(&key));
        let changed = |table: &mut RunTable, slots: Range<Slot>| {
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

    /// Runs of many lengths, which started one after another. Some of the last ones are active.
    fn runs_of_many_lengths(count: u32, active: u32) -> RunTable {
        let mut table = table_of(0..u64::from(count));
        for key in [ColumnKey::Created, ColumnKey::Ended, ColumnKey::Active] {
            let mut column = Column::new(&key, count as usize, matyan_store::Version(1).stamp(0));
            for slot in 0..count {
                let is_active = slot + active >= count;
                let value = match key {
                    ColumnKey::Created => Term::Integer(i64::from(slot)),
                    ColumnKey::Active => Term::Bool(is_active),
                    _ if is_active => Term::Absent,
                    _ => Term::Integer(i64::from(slot + slot.wrapping_mul(2_654_435_761) % 1_000)),
                };
                column.set(slot, value);
            }
            table.columns.insert(key, column);
        }
        table
    }

    fn durations(now_us: i64) -> OrderKey {
        vec![(TableValue::Duration { now_us }, true)]
    }

    /// Sorts by the durations at this time. Returns the number of slices.
    fn sort_by_duration(table: &mut RunTable, now_us: i64) -> usize {
        let key = durations(now_us);
        let mut work = SortRuns::new(key.clone());
        let mut slices = 1;
        while work.step(table) == Some(false) {
            slices += 1;
        }
        let comparison = table.comparison(&key).unwrap();
        let sorted = table.sorted(&key);
        assert_eq!(sorted.len(), table.roster.len());
        assert!(sorted.is_sorted_by(|a, b| comparison.compare(*a, *b).is_lt()), "at {now_us}");
        slices
    }

    #[test]
    fn only_active_runs_are_sorted_again_by_later_durations() {
        let mut table = runs_of_many_lengths(50_000, 100);
        assert!(sort_by_duration(&mut table, 50_000) > 6);
        assert!(table.is_soon_sorted(&durations(50_400)));
        assert!(sort_by_duration(&mut table, 50_400) <= 3);
        // A run ends.
        table.columns.get_mut(&ColumnKey::Active).unwrap().set(49_990, Term::Bool(false));
        table.columns.get_mut(&ColumnKey::Ended).unwrap().set(49_990, Term::Integer(49_991));
        for order in table.orders.values_mut() {
            order.mark_changed(49_990);
        }
        assert!(sort_by_duration(&mut table, 51_000) <= 3);
        assert!(sort_by_duration(&mut table, 50_000) <= 3, "an earlier order is brought up to date");
    }

    #[test]
    fn many_active_runs_are_all_sorted_again() {
        let mut table = runs_of_many_lengths(50_000, 10_000);
        let first = sort_by_duration(&mut table, 50_000);
        assert!(!table.is_soon_sorted(&durations(50_400)));
        assert_eq!(sort_by_duration(&mut table, 50_400), first);
    }
}
