//! Sets of runs as far as indexes know them, with their intersection and union.

use super::{Interval, ParamKeys, Probe, Proposal};

/// Most parts of a useful proposal; a larger one is replaced by a full scan.
const MAX_PARTS: usize = 1_024;

/// Sets of runs for which an expression can be true or false, as far as indexes know.
#[derive(Debug, Clone)]
pub(super) struct TruthSets {
    /// Contains every run for which the expression is true; if exact, no others.
    pub(super) when_true: RunSet,
    /// Contains every run for which the expression is false and does not raise.
    pub(super) when_false: RunSet,
    /// Whether it can raise. If not, `when_true` and `when_false` together comprise all
    /// runs.
    pub(super) raises: bool,
}

#[derive(Debug, Clone)]
pub(super) struct RunSet {
    pub(super) runs: Proposal,
    pub(super) exact: bool,
}

impl RunSet {
    pub(super) fn exact(runs: Proposal) -> Self {
        Self { runs, exact: true }
    }

    pub(super) fn superset(runs: Proposal) -> Self {
        Self { runs, exact: false }
    }

    pub(super) fn unknown() -> Self {
        Self::superset(Proposal::Everything)
    }
}

impl TruthSets {
    pub(super) fn nothing() -> Self {
        Self { when_true: RunSet::unknown(), when_false: RunSet::unknown(), raises: true }
    }
}

pub(super) fn intersect(a: RunSet, b: RunSet) -> RunSet {
    match (a, b) {
        // The empty set is exact, however it was derived.
        (RunSet { runs: Proposal::Nothing, .. }, _) | (_, RunSet { runs: Proposal::Nothing, .. }) => {
            RunSet::exact(Proposal::Nothing)
        }
        (a, b) => {
            let exact = a.exact && b.exact;
            let runs = match (a.runs, b.runs) {
                (Proposal::Everything, runs) | (runs, Proposal::Everything) => runs,
                (a, b) => merged(a, b),
            };
            bounded(RunSet { runs, exact })
        }
    }
}

/// Concatenates the parts of both, joining intervals over the same value.
fn merged(a: Proposal, b: Proposal) -> Proposal {
    let mut parts = intersected_parts(a);
    for part in intersected_parts(b) {
        if parts.contains(&part) {
            continue;
        }
        let joined = parts.iter_mut().find_map(|known| {
            let (Proposal::Probe(a), Proposal::Probe(b)) = (&*known, &part) else { return None };
            join(a, b).map(|joined| (known, joined))
        });
        match joined {
            Some((_, None)) => return Proposal::Nothing,
            Some((known, Some(probe))) => *known = Proposal::Probe(probe),
            None => parts.push(part),
        }
    }
    match parts.len() {
        1 => parts.remove(0),
        _ => Proposal::Intersect(parts),
    }
}

fn intersected_parts(proposal: Proposal) -> Vec<Proposal> {
    match proposal {
        Proposal::Intersect(parts) => parts,
        other => vec![other],
    }
}

fn united_parts(proposal: Proposal) -> Vec<Proposal> {
    match proposal {
        Proposal::Union(parts) => parts,
        other => vec![other],
    }
}

/// Joins two probes of the same value into one; `Some(None)` if no value satisfies both.
fn join(a: &Probe, b: &Probe) -> Option<Option<Probe>> {
    match (a, b) {
        (Probe::Archived(a), Probe::Archived(b)) if a != b => Some(None),
        (Probe::Active(a), Probe::Active(b)) if a != b => Some(None),
        (Probe::Hash(a), Probe::Hash(b)) if a != b => Some(None),
        (Probe::Experiment(a), Probe::Experiment(b)) if a != b => Some(None),
        (Probe::Name(a), Probe::Name(b)) => Some(non_empty(a.intersect(b)).map(Probe::Name)),
        (Probe::CreatedAt(a), Probe::CreatedAt(b)) => Some(non_empty(a.intersect(b)).map(Probe::CreatedAt)),
        (Probe::EndTime(a), Probe::EndTime(b)) => Some(non_empty(a.intersect(b)).map(Probe::EndTime)),
        (Probe::Param { path, keys: a }, Probe::Param { path: other, keys: b }) if path == other => {
            let keys = match (a, b) {
                (ParamKeys::Numbers(a), ParamKeys::Numbers(b)) => {
                    non_empty(a.intersect(b)).map(ParamKeys::Numbers)
                }
                (ParamKeys::Texts(a), ParamKeys::Texts(b)) => non_empty(a.intersect(b)).map(ParamKeys::Texts),
                // No value is both a number and a string.
                _ => None,
            };
            Some(keys.map(|keys| Probe::Param { path: path.clone(), keys }))
        }
        _ => None,
    }
}

fn non_empty<T: PartialOrd>(interval: Interval<T>) -> Option<Interval<T>> {
    (!interval.is_empty()).then_some(interval)
}

/// Returns the union. `b` is not computed if `a` is everything already: with many terms it is
/// large.
pub(super) fn union_with(a: RunSet, b: impl FnOnce() -> RunSet) -> RunSet {
    if a.runs == Proposal::Everything { a } else { union(a, b()) }
}

pub(super) fn union(a: RunSet, b: RunSet) -> RunSet {
    let exact = a.exact && b.exact;
    match (a.runs, b.runs) {
        (Proposal::Nothing, runs) | (runs, Proposal::Nothing) => RunSet { runs, exact },
        // The union is exact if one side is exactly everything.
        (Proposal::Everything, _) if a.exact => RunSet::exact(Proposal::Everything),
        (_, Proposal::Everything) if b.exact => RunSet::exact(Proposal::Everything),
        (Proposal::Everything, _) | (_, Proposal::Everything) => RunSet::unknown(),
        (a, b) => {
            let mut parts = united_parts(a);
            for part in united_parts(b) {
                if !parts.contains(&part) {
                    parts.push(part);
                }
            }
            let runs = match parts.len() {
                1 => parts.remove(0),
                _ => Proposal::Union(parts),
            };
            bounded(RunSet { runs, exact })
        }
    }
}

fn bounded(set: RunSet) -> RunSet {
    if set.runs.size() > MAX_PARTS { RunSet::unknown() } else { set }
}
