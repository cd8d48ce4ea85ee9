//! The runs of a project. Each has a slot, by which the other parts of a table find its values. A
//! slot is never reused: a run that was deleted keeps it until the table is read again.

use std::collections::HashMap;

use matyan_model::{ids::RunNumber, run::Document};
use matyan_store::{Scan, Stamp};

use super::memory::{grow, grown_capacity, vec_growth};
use crate::listing::{HexText, TermRef, hex_text};

/// The position of a run in the parts of a table.
pub(super) type Slot = u32;

/// Rows read from one snapshot: less than a millisecond of work.
pub(super) const PAGE: Scan = Scan { rows: 4_000, bytes: 1 << 20, ..Scan::DEFAULT };

/// Deleted runs that a roster may hold, even if they outnumber the other runs.
const HIDDEN: usize = 10_000;

/// Memory of a map from numbers to slots, whose tables are a power of two, and at most seven eighths
/// full.
fn slots_bytes(capacity: usize) -> usize {
    if capacity == 0 {
        return 0;
    }
    (capacity * 8).div_ceil(7).next_power_of_two().max(4) * (size_of::<(RunNumber, Slot)>() + 1)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunState {
    /// Deleted, or about to be.
    Hidden,
    Shown,
    Archived,
}

pub(super) struct Roster {
    /// Every change up to here is included.
    pub(super) position: Stamp,
    numbers: Vec<RunNumber>,
    states: Vec<RunState>,
    /// The ids of all runs, one after another, and where each of them ends. Ids of 32 hexadecimal digits are stored
    /// as numbers, and have the flag `IS_HEX` in their ends.
    ids: Vec<u8>,
    id_ends: Vec<u32>,
    /// Number of the first runs whose numbers ascend.
    ascending: usize,
    /// The slots of all runs from the first one out of order on. A table that was just read has none: only runs that are
    /// created later may come in another order.
    slots: HashMap<RunNumber, Slot>,
    hidden: usize,
}

const IS_HEX: u32 = 1 << 31;

/// The largest memory of all tables, so that the ends of ids have room for a flag.
pub const MAX_TABLE_BYTES: usize = 1 << 31;

/// Bytes that a roster stores of an id.
pub(super) fn id_bytes(run_id: &str) -> usize {
    if hex_text(run_id).is_some() { size_of::<HexText>() } else { run_id.len() }
}

impl Roster {
    pub(super) fn new(position: Stamp) -> Self {
        Self {
            position,
            numbers: Vec::new(),
            states: Vec::new(),
            ids: Vec::new(),
            id_ends: Vec::new(),
            ascending: 0,
            slots: HashMap::new(),
            hidden: 0,
        }
    }

    pub(super) fn push(&mut self, number: RunNumber, run_id: &str, state: RunState) -> Slot {
        let slot = Slot::try_from(self.numbers.len()).expect("the memory of a table is limited");
        let hex = hex_text(run_id);
        self.grow(1, hex.map_or(run_id.len(), |number| number.len()));
        if self.ascending == self.numbers.len() && self.numbers.last().is_none_or(|last| *last < number) {
            self.ascending += 1;
        } else {
            self.slots.insert(number, slot);
        }
        self.numbers.push(number);
        self.states.push(state);
        self.ids.extend_from_slice(hex.as_ref().map_or(run_id.as_bytes(), |number| number.as_slice()));
        let end = u32::try_from(self.ids.len()).expect("the memory of a table is limited");
        self.id_ends.push(if hex.is_some() { end | IS_HEX } else { end });
        slot
    }

    /// Makes room for more runs with ids of this length.
    pub(super) fn grow(&mut self, runs: usize, id_bytes: usize) {
        grow(&mut self.numbers, runs);
        grow(&mut self.states, runs);
        grow(&mut self.id_ends, runs);
        let ids = self.ids.len() + runs * id_bytes;
        if ids > self.ids.capacity() {
            self.ids.reserve_exact(grown_capacity(ids) - self.ids.len());
        }
    }

    /// Takes over the state of a run from its document. Returns its slot if that state is new.
    pub(super) fn update(&mut self, number: RunNumber, document: Option<&Document>) -> Option<Slot> {
        let props = document.map(|document| &document.props).filter(|props| !props.pending_delete);
        let state = match props {
            None => RunState::Hidden,
            Some(props) if props.archived => RunState::Archived,
            Some(_) => RunState::Shown,
        };
        match (self.slot(number), props) {
            (Some(slot), _) => {
                let before = std::mem::replace(&mut self.states[slot as usize], state);
                self.hidden += usize::from(state == RunState::Hidden);
                self.hidden -= usize::from(before == RunState::Hidden);
                (before != state).then_some(slot)
            }
            (None, Some(props)) => Some(self.push(number, &props.run_id, state)),
            (None, None) => None,
        }
    }

    /// Whether most slots belong to deleted runs.
    pub(super) fn is_sparse(&self) -> bool {
        self.hidden > HIDDEN.max(self.numbers.len() / 2)
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    pub(super) fn all_slots(&self) -> impl Iterator<Item = Slot> + use<> {
        0..Slot::try_from(self.len()).expect("slots are counted in `push`")
    }

    pub(super) fn slot(&self, number: RunNumber) -> Option<Slot> {
        self.ascending_slot(number).or_else(|| self.slots.get(&number).copied())
    }

    fn ascending_slot(&self, number: RunNumber) -> Option<Slot> {
        let ascending = &self.numbers[..self.ascending];
        // Each number is at least one higher than the number before, and often just that.
        let distance = number.0.checked_sub(ascending.first()?.0)?;
        let last = usize::try_from(distance).unwrap_or(usize::MAX).min(ascending.len() - 1);
        let slot =
            if ascending[last] == number { last } else { ascending[..last].binary_search(&number).ok()? };
        Slot::try_from(slot).ok()
    }

    pub(super) fn number(&self, slot: Slot) -> RunNumber {
        self.numbers[slot as usize]
    }

    pub(super) fn state(&self, slot: Slot) -> RunState {
        self.states[slot as usize]
    }

    /// The id of a run, which is a text.
    pub(super) fn run_id(&self, slot: Slot) -> TermRef<'_> {
        let slot = slot as usize;
        let start = if slot == 0 { 0 } else { self.id_ends[slot - 1] & !IS_HEX };
        let end = self.id_ends[slot];
        let stored = &self.ids[start as usize..(end & !IS_HEX) as usize];
        match stored.try_into() {
            Ok(number) if end & IS_HEX != 0 => TermRef::Hex(number),
            _ => TermRef::Text(std::str::from_utf8(stored).expect("the id of a run is a text")),
        }
    }

    pub(super) fn run_id_text(&self, slot: Slot) -> String {
        self.run_id(slot).to_term().shown_text().unwrap_or_default().to_owned()
    }

    /// The highest number of a run.
    pub(super) fn newest(&self) -> RunNumber {
        self.numbers.iter().copied().max().unwrap_or_default()
    }

    /// Upper bound of the memory that this number of new runs takes, in any order.
    pub(super) fn growth(&self, runs: usize, id_bytes: usize) -> usize {
        let slots = self.slots.len() + runs;
        let slots_growth = if slots > self.slots.capacity() { slots_bytes(slots) } else { 0 };
        self.ascending_growth(runs, id_bytes) + slots_growth
    }

    /// The same for runs whose numbers ascend, from the first run on.
    pub(super) fn ascending_growth(&self, runs: usize, id_bytes: usize) -> usize {
        let ids = self.ids.len() + runs * id_bytes;
        let ids_growth = if ids > self.ids.capacity() { grown_capacity(ids) } else { 0 };
        vec_growth(&self.numbers, runs)
            + vec_growth(&self.states, runs)
            + vec_growth(&self.id_ends, runs)
            + ids_growth
    }

    pub(super) fn bytes(&self) -> usize {
        self.ids.capacity()
            + self.numbers.capacity() * size_of::<RunNumber>()
            + self.states.capacity()
            + self.id_ends.capacity() * size_of::<u32>()
            + slots_bytes(self.slots.capacity())
    }
}

#[cfg(test)]
mod tests {
    use matyan_model::run::{Params, Props};

    use super::*;

    fn document(run_id: &str, archived: bool) -> Document {
        let props = Props { archived, ..Props::new(run_id, 1) };
        Document { props, params: Params::Pieces }
    }

    #[test]
    fn runs_keep_their_slots() {
        let mut roster = Roster::new(matyan_store::Version(1).stamp(0));
        assert_eq!(roster.update(RunNumber(5), Some(&document("five", false))), Some(0));
        assert_eq!(roster.update(RunNumber(3), Some(&document("", true))), Some(1));
        assert_eq!(roster.update(RunNumber(4), None), None, "an unknown run was deleted");
        assert_eq!(roster.update(RunNumber(5), Some(&document("five", false))), None, "nothing has changed");
        assert_eq!(roster.update(RunNumber(5), Some(&document("five", true))), Some(0));
        assert_eq!(roster.update(RunNumber(3), None), Some(1));
        assert_eq!((roster.state(0), roster.state(1)), (RunState::Archived, RunState::Hidden));
        assert_eq!([0, 1].map(|slot| roster.run_id_text(slot)), ["five", ""]);
        assert_eq!((roster.slot(RunNumber(3)), roster.newest(), roster.hidden), (Some(1), RunNumber(5), 1));
    }

    #[test]
    fn runs_are_found_in_any_order_of_numbers() {
        let id = |number: u64| match number % 3 {
            0 => format!("{number:032x}"),
            1 => format!("{number:032X}x"),
            // As long as a number.
            _ => format!("{number:016}"),
        };
        // With gaps, and without any.
        for step in [1, 3] {
            let mut numbers: Vec<u64> = (10..200).step_by(step).collect();
            numbers.extend([5, 300, 4, 302, 301]);
            let mut roster = Roster::new(matyan_store::Version(1).stamp(0));
            for (slot, number) in (0..).zip(&numbers) {
                assert_eq!(
                    roster.update(RunNumber(*number), Some(&document(&id(*number), false))),
                    Some(slot)
                );
            }
            assert_eq!(roster.slots.len(), 5, "only runs after the first one out of order");
            for number in 0..400 {
                let slot = numbers.iter().position(|it| *it == number).map(|slot| slot as Slot);
                assert_eq!(roster.slot(RunNumber(number)), slot, "{number}");
                if let Some(slot) = slot {
                    assert_eq!(roster.run_id_text(slot), id(number));
                    assert_eq!(roster.number(slot), RunNumber(number));
                }
            }
        }
    }
}
