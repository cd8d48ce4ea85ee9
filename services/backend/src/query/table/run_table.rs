//! The table of a project: its parts, and which of them a request needs.

use std::collections::HashMap;

use tokio::time::Instant;

use super::{
    column::Column,
    equal_runs::EqualRuns,
    match_set::{MatchSet, QueryKey, TableQuery},
    memory::Reservation,
    order::{Comparison, Order, OrderKey, Values},
    roster::{Roster, Slot},
    run_value::{ColumnKey, TableValue},
};

/// Orders kept for a table, and match sets.
const MAX_ORDERS: usize = 16;

/// The runs of a project, with the values that requests have asked for.
pub(super) struct RunTable {
    pub(super) roster: Roster,
    pub(super) columns: HashMap<ColumnKey, Column>,
    pub(super) matches: HashMap<QueryKey, MatchSet>,
    pub(super) orders: HashMap<OrderKey, Order>,
    /// At least the size of all parts.
    pub(super) reserved: Reservation,
}

/// A part of a table other than its roster.
pub(super) enum Part {
    Order(OrderKey),
    Column(ColumnKey),
    Matches(QueryKey),
}

/// The parts that a request needs.
pub(super) struct NeededParts<'r> {
    pub(super) columns: Vec<ColumnKey>,
    /// `None`: every run that is not archived.
    pub(super) query: Option<&'r TableQuery>,
    pub(super) order: &'r OrderKey,
    /// Whether the request waits for memory that others use.
    pub(super) waits: bool,
}

impl RunTable {
    pub(super) fn new(roster: Roster, reserved: Reservation) -> Self {
        let mut table = Self {
            roster,
            columns: HashMap::new(),
            matches: HashMap::new(),
            orders: HashMap::new(),
            reserved,
        };
        table.settle();
        table
    }

    pub(super) fn has(&self, needed: &NeededParts<'_>) -> bool {
        needed.columns.iter().all(|key| self.columns.contains_key(key))
            && needed.query.is_none_or(|query| self.matches.contains_key(query.key()))
    }

    pub(super) fn mark_used(&mut self, needed: &NeededParts<'_>) {
        let now = Instant::now();
        for key in &needed.columns {
            if let Some(column) = self.columns.get_mut(key) {
                column.used = now;
            }
        }
        if let Some(matches) = needed.query.and_then(|query| self.matches.get_mut(query.key())) {
            matches.used = now;
        }
        if let Some(order) = self.orders.get_mut(needed.order) {
            order.used = now;
        }
    }

    /// Returns the memory that was reserved for work on the table.
    pub(super) fn settle(&mut self) {
        let bytes = self.bytes();
        debug_assert!(bytes <= self.reserved.bytes(), "{bytes} bytes were not all reserved");
        self.reserved.shrink(bytes);
    }

    pub(super) fn bytes(&self) -> usize {
        self.roster.bytes()
            + self.columns.values().map(Column::bytes).sum::<usize>()
            + self.matches.values().map(MatchSet::bytes).sum::<usize>()
            + self.orders.values().map(Order::bytes).sum::<usize>()
    }

    /// The order that was needed longest ago, except the order of a request.
    pub(super) fn oldest_order(&self, needed: Option<&NeededParts<'_>>) -> Option<(Instant, OrderKey)> {
        let needed = needed.map(|needed| needed.order);
        let unneeded = self.orders.iter().filter(|(key, _)| Some(*key) != needed);
        unneeded.min_by_key(|(_, order)| order.used).map(|(key, order)| (order.used, key.clone()))
    }

    pub(super) fn oldest_column(&self, needed: Option<&NeededParts<'_>>) -> Option<(Instant, ColumnKey)> {
        let is_needed = |key| needed.is_some_and(|needed| needed.columns.contains(key));
        let unneeded = self.columns.iter().filter(|(key, _)| !is_needed(key));
        unneeded.min_by_key(|(_, column)| column.used).map(|(key, column)| (column.used, key.clone()))
    }

    pub(super) fn oldest_matches(&self, needed: Option<&NeededParts<'_>>) -> Option<(Instant, QueryKey)> {
        let query = needed.and_then(|needed| needed.query).map(TableQuery::key);
        let unneeded = self.matches.iter().filter(|(key, _)| Some(*key) != query);
        unneeded.min_by_key(|(_, found)| found.used).map(|(key, found)| (found.used, key.clone()))
    }

    /// Drops orders and matches of queries while there are too many.
    pub(super) fn drop_surplus(&mut self, needed: &NeededParts<'_>) {
        while self.orders.len() > MAX_ORDERS
            && let Some((_, key)) = self.oldest_order(Some(needed))
        {
            self.drop_order(&key);
        }
        while self.matches.len() > MAX_ORDERS
            && let Some((_, key)) = self.oldest_matches(Some(needed))
        {
            self.drop_matches(&key);
        }
    }

    pub(super) fn drop_order(&mut self, key: &OrderKey) {
        let freed = self.orders.remove(key).map_or(0, |order| order.bytes());
        self.reserved.shrink(self.reserved.bytes().saturating_sub(freed));
    }

    pub(super) fn drop_part(&mut self, part: &Part) {
        match part {
            Part::Order(key) => self.drop_order(key),
            Part::Column(key) => self.drop_column(key),
            Part::Matches(key) => self.drop_matches(key),
        }
    }

    /// Drops a column, and the orders that would not learn of its changes.
    pub(super) fn drop_column(&mut self, key: &ColumnKey) {
        let users = self.orders.keys().filter(|order| order.iter().any(|(value, _)| value.uses(key)));
        for order in users.cloned().collect::<Vec<_>>() {
            self.drop_order(&order);
        }
        let freed = self.columns.remove(key).map_or(0, |column| column.bytes());
        self.reserved.shrink(self.reserved.bytes().saturating_sub(freed));
    }

    pub(super) fn drop_matches(&mut self, key: &QueryKey) {
        let freed = self.matches.remove(key).map_or(0, |found| found.bytes());
        self.reserved.shrink(self.reserved.bytes().saturating_sub(freed));
    }

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
        Some(Comparison::new(&self.roster, values.collect::<Option<_>>()?))
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
