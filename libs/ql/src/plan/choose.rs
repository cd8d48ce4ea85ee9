//! Choice of an access path by counts: the most selective probe first, others only if they pay
//! off. Costs are relative and come from measurements of the embedded store; the unit is one
//! index row.

use super::{Plan, Probe, Proposal};

/// Cost of a document read in a sequential scan.
const SCANNED: u64 = 2;

/// Cost of a document fetched by its number.
const FETCHED: u64 = 10;

/// Statistics of the store for the planner. Counts may be estimates: they affect speed, never
/// results.
pub trait Statistics {
    /// Returns the number of runs that a scan would read.
    fn runs(&self) -> u64;
    /// Returns the number of runs that a probe proposes, or `None` if no index answers it.
    fn count(&self, probe: &Probe) -> Option<u64>;
}

/// A way to find the candidates. Except for a scan, runs that are not fully indexed must be
/// added.
#[derive(Debug, Clone, PartialEq)]
pub enum AccessPath<'p> {
    /// Every run.
    Scan,
    Nothing,
    Probe(&'p Probe),
    /// Ordered by selectivity, most selective first.
    Intersect(Vec<AccessPath<'p>>),
    Union(Vec<AccessPath<'p>>),
}

/// An access path with its guarantees.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessChoice<'p> {
    pub access: AccessPath<'p>,
    /// Whether every run found that is fully indexed matches.
    pub exact: bool,
    /// Estimated number of runs found.
    pub estimate: u64,
}

/// A part of the access path under construction.
struct AccessPart<'p> {
    access: AccessPath<'p>,
    /// Whether the access covers the proposal completely.
    whole: bool,
    estimate: u64,
    /// Number of index rows that it reads.
    rows: u64,
}

impl Plan {
    /// Returns the cheapest access path.
    pub fn choose(&self, statistics: &dyn Statistics) -> AccessChoice<'_> {
        let part = access_part(&self.runs, statistics);
        let runs = statistics.runs();
        let cost = part.rows.saturating_add(part.estimate.saturating_mul(FETCHED));
        if cost < runs.saturating_mul(SCANNED) || part.access == AccessPath::Nothing {
            return AccessChoice {
                access: part.access,
                exact: self.exact && part.whole,
                estimate: part.estimate,
            };
        }
        // A scan reads every run, so it is exact only if every run matches.
        AccessChoice {
            access: AccessPath::Scan,
            exact: self.exact && self.runs == Proposal::Everything,
            estimate: runs,
        }
    }
}

fn access_part<'p>(proposal: &'p Proposal, statistics: &dyn Statistics) -> AccessPart<'p> {
    let runs = statistics.runs();
    let scan = AccessPart { access: AccessPath::Scan, whole: false, estimate: runs, rows: 0 };
    match proposal {
        Proposal::Everything => AccessPart { whole: true, ..scan },
        Proposal::Nothing => AccessPart { access: AccessPath::Nothing, whole: true, estimate: 0, rows: 0 },
        Proposal::Probe(probe) => match statistics.count(probe) {
            Some(count) => AccessPart {
                access: AccessPath::Probe(probe),
                whole: true,
                estimate: count.min(runs),
                rows: count,
            },
            None => scan,
        },
        Proposal::Union(parts) => {
            let parts: Vec<AccessPart<'p>> =
                parts.iter().map(|proposal| access_part(proposal, statistics)).collect();
            // A union with a scan reads every run anyway.
            if parts.iter().any(|part| part.access == AccessPath::Scan) {
                return scan;
            }
            AccessPart {
                whole: parts.iter().all(|part| part.whole),
                estimate: parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.estimate)).min(runs),
                rows: parts.iter().fold(0, |sum, part| sum.saturating_add(part.rows)),
                access: AccessPath::Union(parts.into_iter().map(|part| part.access).collect()),
            }
        }
        Proposal::Intersect(parts) => intersect(parts, statistics).unwrap_or(scan),
    }
}

/// Combines the smallest part with every further part that saves more fetches than it costs in
/// rows.
fn intersect<'p>(proposals: &'p [Proposal], statistics: &dyn Statistics) -> Option<AccessPart<'p>> {
    let runs = statistics.runs().max(1);
    let mut parts: Vec<AccessPart<'p>> =
        proposals.iter().map(|proposal| access_part(proposal, statistics)).collect();
    let all = parts.len();
    // Parts without an index cannot narrow the search.
    parts.retain(|part| part.access != AccessPath::Scan);
    parts.sort_by_key(|part| part.estimate);
    let mut parts = parts.into_iter();
    let first = parts.next()?;
    let mut estimate = first.estimate;
    let mut rows = first.rows;
    let mut whole = first.whole;
    let mut chosen = vec![first.access];
    for part in parts {
        // Estimates the intersection as if the parts were independent.
        let both = (u128::from(estimate) * u128::from(part.estimate) / u128::from(runs)) as u64;
        if part.rows < (estimate - both.min(estimate)).saturating_mul(FETCHED) {
            estimate = both;
            rows = rows.saturating_add(part.rows);
            whole &= part.whole;
            chosen.push(part.access);
        }
    }
    whole &= chosen.len() == all;
    let access = if chosen.len() == 1 { chosen.remove(0) } else { AccessPath::Intersect(chosen) };
    Some(AccessPart { access, whole, estimate, rows })
}
