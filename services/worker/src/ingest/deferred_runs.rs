//! The runs whose records were left in the log, sorted so that the next run to return to is found without
//! looking at all runs.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::read_point::ReadPoint;
use crate::apply::RunKey;

/// The first record of a run that was left in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deferral {
    pub(super) partition: u32,
    /// Records of the run before this point are taken.
    pub(super) from: ReadPoint,
    /// Size of the entry at this point, or of an entry before it.
    pub(super) bytes: usize,
    /// Whether the worker has read past a record of the run without taking it; otherwise it is
    /// returning to the run's records.
    pub(super) is_passed: bool,
}

/// Whether a run has room for the record that was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Nothing of the run is taken.
    Idle,
    /// The run has used only a part of its share.
    Busy,
    Full,
}

type Place = (u32, u64, RunKey);

#[derive(Default)]
pub(super) struct DeferredRuns {
    deferrals: HashMap<RunKey, (Deferral, Readiness)>,
    by_offset: BTreeSet<Place>,
    /// Runs whose records were passed, and that have room now.
    idle: BTreeSet<Place>,
    busy: BTreeSet<Place>,
    /// Runs whose records are being reread, by partition.
    returning: HashMap<u32, HashSet<RunKey>>,
}

impl DeferredRuns {
    pub(super) fn is_empty(&self) -> bool {
        self.deferrals.is_empty()
    }

    /// Number of runs.
    pub(super) fn len(&self) -> usize {
        self.deferrals.len()
    }

    pub(super) fn get(&self, key: &RunKey) -> Option<Deferral> {
        self.deferrals.get(key).map(|(deferral, _)| *deferral)
    }

    /// Adds or changes a run.
    pub(super) fn set(&mut self, key: &RunKey, deferral: Deferral, readiness: Readiness) {
        self.remove(key);
        let place = (deferral.partition, deferral.from.offset, key.clone());
        if deferral.is_passed {
            match readiness {
                Readiness::Idle => drop(self.idle.insert(place.clone())),
                Readiness::Busy => drop(self.busy.insert(place.clone())),
                Readiness::Full => {}
            }
        } else {
            self.returning.entry(deferral.partition).or_default().insert(key.clone());
        }
        self.by_offset.insert(place);
        self.deferrals.insert(key.clone(), (deferral, readiness));
    }

    /// Notes that the room of a run has changed.
    pub(super) fn set_readiness(&mut self, key: &RunKey, readiness: impl FnOnce(&Deferral) -> Readiness) {
        if let Some((deferral, before)) = self.deferrals.get(key).copied() {
            let readiness = readiness(&deferral);
            if readiness != before {
                self.set(key, deferral, readiness);
            }
        }
    }

    pub(super) fn remove(&mut self, key: &RunKey) {
        let Some((deferral, _)) = self.deferrals.remove(key) else { return };
        let place = (deferral.partition, deferral.from.offset, key.clone());
        self.by_offset.remove(&place);
        self.idle.remove(&place);
        self.busy.remove(&place);
        if let Some(returning) = self.returning.get_mut(&deferral.partition) {
            returning.remove(key);
        }
    }

    /// Whether records that were left in the log are being taken now.
    pub(super) fn is_returning(&self, partition: u32) -> bool {
        self.returning.get(&partition).is_some_and(|runs| !runs.is_empty())
    }

    pub(super) fn returning(&self, partition: u32) -> Vec<RunKey> {
        self.returning.get(&partition).into_iter().flatten().cloned().collect()
    }

    /// The first point of a partition from which records are left.
    pub(super) fn first(&self, partition: u32) -> Option<ReadPoint> {
        let (_, _, key) = places(&self.by_offset, partition, 0).next()?;
        self.get(key).map(|deferral| deferral.from)
    }

    /// Runs that have room, from an offset on.
    pub(super) fn ready(&self, partition: u32, offset: u64) -> impl Iterator<Item = (&RunKey, Readiness)> {
        let idle = places(&self.idle, partition, offset).map(|(_, _, key)| (key, Readiness::Idle));
        idle.chain(places(&self.busy, partition, offset).map(|(_, _, key)| (key, Readiness::Busy)))
    }

    /// All runs of a partition.
    pub(super) fn of_partition(&self, partition: u32) -> Vec<RunKey> {
        places(&self.by_offset, partition, 0).map(|(_, _, key)| key.clone()).collect()
    }

    /// The first run that has room of this kind and fulfills a condition.
    pub(super) fn first_ready(
        &self,
        partition: u32,
        readiness: Readiness,
        is_wanted: impl Fn(&Deferral) -> bool,
    ) -> Option<ReadPoint> {
        let of_kind = match readiness {
            Readiness::Idle => &self.idle,
            Readiness::Busy => &self.busy,
            Readiness::Full => return None,
        };
        let mut deferrals = places(of_kind, partition, 0).filter_map(|(_, _, key)| self.get(key));
        deferrals.find(is_wanted).map(|deferral| deferral.from)
    }
}

/// The places in a partition from an offset on.
fn places(all: &BTreeSet<Place>, partition: u32, offset: u64) -> impl Iterator<Item = &Place> {
    let first = (partition, offset, RunKey::first());
    all.range(first..).take_while(move |(of, _, _)| *of == partition)
}
