//! The runs of a project. Each has a slot, by which the other parts of a table find its values. A
//! slot is never reused: a run that was deleted keeps it until the table is read again.

use std::collections::HashMap;

use matyan_model::{ids::RunNumber, run::Document};
use matyan_store::{Scan, Stamp};

use super::memory::{grow, grown_capacity, vec_growth};

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
    /// The ids of all runs, one after another, and where each of them ends.
    ids: String,
    id_ends: Vec<u32>,
    slots: HashMap<RunNumber, Slot>,
    hidden: usize,
}

impl Roster {
    pub(super) fn new(position: Stamp) -> Self {
        Self {
            position,
            numbers: Vec::new(),
            states: Vec::new(),
            ids: String::new(),
            id_ends: Vec::new(),
            slots: HashMap::new(),
            hidden: 0,
        }
    }

    pub(super) fn push(&mut self, number: RunNumber, run_id: &str, state: RunState) -> Slot {
        let slot = Slot::try_from(self.numbers.len()).expect("the memory of a table is limited");
        self.grow(1, run_id.len());
        self.numbers.push(number);
        self.states.push(state);
        self.ids.push_str(run_id);
        self.id_ends.push(u32::try_from(self.ids.len()).expect("the memory of a table is limited"));
        self.slots.insert(number, slot);
        slot
    }

    /// Makes room for more runs with ids of this length.
    pub(super) fn grow(&mut self, runs: usize, id_bytes: usize) {
        grow(&mut self.numbers, runs);
        grow(&mut self.states, runs);
        grow(&mut self.id_ends, runs);
        self.slots.reserve(runs);
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
        match (self.slots.get(&number), props) {
            (Some(slot), _) => {
                let slot = *slot;
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
        self.slots.get(&number).copied()
    }

    pub(super) fn number(&self, slot: Slot) -> RunNumber {
        self.numbers[slot as usize]
    }

    pub(super) fn state(&self, slot: Slot) -> RunState {
        self.states[slot as usize]
    }

    pub(super) fn run_id(&self, slot: Slot) -> &str {
        let slot = slot as usize;
        let start = if slot == 0 { 0 } else { self.id_ends[slot - 1] };
        &self.ids[start as usize..self.id_ends[slot] as usize]
    }

    /// The highest number of a run.
    pub(super) fn newest(&self) -> RunNumber {
        self.numbers.iter().copied().max().unwrap_or_default()
    }

    /// Upper bound of the memory that this number of new runs takes.
    pub(super) fn growth(&self, runs: usize, id_bytes: usize) -> usize {
        let slots = self.slots.len() + runs;
        let slots_growth = if slots > self.slots.capacity() { slots_bytes(slots) } else { 0 };
        let ids = self.ids.len() + runs * id_bytes;
        let ids_growth = if ids > self.ids.capacity() { grown_capacity(ids) } else { 0 };
        vec_growth(&self.numbers, runs)
            + vec_growth(&self.states, runs)
            + vec_growth(&self.id_ends, runs)
            + slots_growth
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
        assert_eq!((roster.run_id(0), roster.run_id(1)), ("five", ""));
        assert_eq!((roster.slot(RunNumber(3)), roster.newest(), roster.hidden), (Some(1), RunNumber(5), 1));
    }
}
