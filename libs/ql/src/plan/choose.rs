//! From a plan to an access path, with counts: most selective probe first, the others only where they pay.
//! Costs are relative, from measurements of the embedded store: one index row is the unit.

use super::{Plan, Probe, Proposal};

/// A document in a sequential scan.
const SCANNED: u64 = 2;

/// A document fetched by its number.
const FETCHED: u64 = 10;

/// What the planner knows of the store. Counts may be estimates: they change speed, never results.
pub trait Statistics {
    /// All runs that a scan would read.
    fn runs(&self) -> u64;
    /// How many runs a probe proposes; `None` when no index answers it.
    fn count(&self, probe: &Probe) -> Option<u64>;
}

/// How to find the candidates. Runs that are not fully indexed come on top of all but a scan.
#[derive(Debug, Clone, PartialEq)]
pub enum Access<'p> {
    /// Every run.
    Scan,
    Nothing,
    Probe(&'p Probe),
    /// Most selective first.
    Intersect(Vec<Access<'p>>),
    Union(Vec<Access<'p>>),
}

/// An access path and what it promises.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice<'p> {
    pub access: Access<'p>,
    /// Every run found, and fully indexed, matches.
    pub exact: bool,
    /// About so many runs.
    pub estimate: u64,
}

/// A part of the path under construction.
struct Part<'p> {
    access: Access<'p>,
    /// All of the proposal went into the access.
    whole: bool,
    estimate: u64,
    /// Index rows that it reads.
    rows: u64,
}

impl Plan {
    /// The cheapest access path.
    pub fn choose(&self, statistics: &dyn Statistics) -> Choice<'_> {
        let part = part(&self.runs, statistics);
        let runs = statistics.runs();
        let cost = part.rows.saturating_add(part.estimate.saturating_mul(FETCHED));
        match cost < runs.saturating_mul(SCANNED) || part.access == Access::Nothing {
            true => Choice { access: part.access, exact: self.exact && part.whole, estimate: part.estimate },
            // A scan looks at every run, so it is only exact when every run matches.
            false => Choice {
                access: Access::Scan,
                exact: self.exact && self.runs == Proposal::Everything,
                estimate: runs,
            },
        }
    }
}

fn part<'p>(proposal: &'p Proposal, statistics: &dyn Statistics) -> Part<'p> {
    let runs = statistics.runs();
    let scan = Part { access: Access::Scan, whole: false, estimate: runs, rows: 0 };
    match proposal {
        Proposal::Everything => Part { whole: true, ..scan },
        Proposal::Nothing => Part { access: Access::Nothing, whole: true, estimate: 0, rows: 0 },
        Proposal::Probe(probe) => match statistics.count(probe) {
            Some(count) => {
                Part { access: Access::Probe(probe), whole: true, estimate: count.min(runs), rows: count }
            }
            None => scan,
        },
        Proposal::Union(parts) => {
            let parts: Vec<Part<'p>> = parts.iter().map(|proposal| part(proposal, statistics)).collect();
            if parts.iter().any(|part| part.access == Access::Scan) {
                return scan;
            }
            Part {
                whole: parts.iter().all(|part| part.whole),
                estimate: parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.estimate)).min(runs),
                rows: parts.iter().fold(0, |sum, part| sum.saturating_add(part.rows)),
                access: Access::Union(parts.into_iter().map(|part| part.access).collect()),
            }
        }
        Proposal::Intersect(parts) => intersect(parts, statistics).unwrap_or(scan),
    }
}

/// The smallest part, and every further one that saves more fetches than it reads rows.
fn intersect<'p>(proposals: &'p [Proposal], statistics: &dyn Statistics) -> Option<Part<'p>> {
    let runs = statistics.runs().max(1);
    let mut parts: Vec<Part<'p>> = proposals.iter().map(|proposal| part(proposal, statistics)).collect();
    let all = parts.len();
    parts.retain(|part| part.access != Access::Scan);
    parts.sort_by_key(|part| part.estimate);
    let mut parts = parts.into_iter();
    let first = parts.next()?;
    let (mut estimate, mut rows, mut whole) = (first.estimate, first.rows, first.whole);
    let mut chosen = vec![first.access];
    for part in parts {
        // As if the parts were independent.
        let both = (u128::from(estimate) * u128::from(part.estimate) / u128::from(runs)) as u64;
        if part.rows < (estimate - both.min(estimate)).saturating_mul(FETCHED) {
            (estimate, rows, whole) = (both, rows.saturating_add(part.rows), whole && part.whole);
            chosen.push(part.access);
        }
    }
    whole &= chosen.len() == all;
    let access = if chosen.len() == 1 { chosen.remove(0) } else { Access::Intersect(chosen) };
    Some(Part { access, whole, estimate, rows })
}
