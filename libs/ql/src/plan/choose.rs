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
    /// Returns the number of runs that a probe proposes, or `None` if no index answers it. Listed runs do not count.
    fn count(&self, probe: &Probe) -> Option<u64>;
    /// Returns the number of listed runs: only their documents have their params, so each probe of a param
    /// proposes all of them.
    fn listed(&self) -> u64 {
        0
    }
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
    /// Estimated number of runs found, without those that are only found because they are listed.
    indexed: u64,
    /// Estimated number of these.
    listed: u64,
    /// Number of index rows that it reads, without the list.
    rows: u64,
    /// Whether it reads the list.
    reads_list: bool,
}

impl AccessPart<'_> {
    /// Estimated number of runs found.
    fn estimate(&self) -> u64 {
        self.indexed.saturating_add(self.listed)
    }

    /// Number of rows that it reads, next to another part that reads the list or does not.
    fn rows_next_to(&self, reads_list: bool, statistics: &dyn Statistics) -> u64 {
        let list = if self.reads_list && !reads_list { statistics.listed() } else { 0 };
        self.rows.saturating_add(list)
    }
}

impl Plan {
    /// Returns the cheapest access path.
    pub fn choose(&self, statistics: &dyn Statistics) -> AccessChoice<'_> {
        let part = access_part(&self.runs, statistics);
        let runs = statistics.runs();
        let estimate = part.estimate().min(runs);
        let cost = part.rows_next_to(false, statistics).saturating_add(estimate.saturating_mul(FETCHED));
        if cost < runs.saturating_mul(SCANNED) || part.access == AccessPath::Nothing {
            return AccessChoice { access: part.access, exact: self.exact && part.whole, estimate };
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
    let scan = AccessPart {
        access: AccessPath::Scan,
        whole: false,
        indexed: runs,
        listed: 0,
        rows: 0,
        reads_list: false,
    };
    match proposal {
        Proposal::Everything => AccessPart { whole: true, ..scan },
        Proposal::Nothing => AccessPart { access: AccessPath::Nothing, whole: true, indexed: 0, ..scan },
        Proposal::Probe(probe) => match statistics.count(probe) {
            Some(count) => {
                let reads_list = matches!(probe, Probe::Param { .. });
                AccessPart {
                    access: AccessPath::Probe(probe),
                    whole: true,
                    indexed: count.min(runs),
                    listed: if reads_list { statistics.listed() } else { 0 },
                    rows: count,
                    reads_list,
                }
            }
            None => scan,
        },
        Proposal::Union(parts) => {
            let parts: Vec<AccessPart<'p>> =
                parts.iter().map(|proposal| access_part(proposal, statistics)).collect();
            // A union with a scan reads every run anyway.
            if parts.iter().any(|part| part.access == AccessPath::Scan) {
                return scan;
            }
            let sum = |of: fn(&AccessPart<'_>) -> u64| {
                parts.iter().fold(0, |sum: u64, part| sum.saturating_add(of(part)))
            };
            AccessPart {
                whole: parts.iter().all(|part| part.whole),
                indexed: sum(|part| part.indexed).min(runs),
                listed: sum(|part| part.listed).min(statistics.listed()),
                rows: sum(|part| part.rows),
                reads_list: parts.iter().any(|part| part.reads_list),
                access: AccessPath::Union(parts.into_iter().map(|part| part.access).collect()),
            }
        }
        Proposal::Intersect(parts) => intersect(parts, statistics).unwrap_or(scan),
    }
}

/// Combines the smallest part with every further part that saves more fetches than it costs in
/// rows.
fn intersect<'p>(proposals: &'p [Proposal], statistics: &dyn Statistics) -> Option<AccessPart<'p>> {
    let mut parts: Vec<AccessPart<'p>> =
        proposals.iter().map(|proposal| access_part(proposal, statistics)).collect();
    let all = parts.len();
    // Parts without an index cannot narrow the search.
    parts.retain(|part| part.access != AccessPath::Scan);
    parts.sort_by_key(AccessPart::estimate);
    let mut parts = parts.into_iter();
    let mut first = parts.next()?;
    let mut chosen = vec![std::mem::replace(&mut first.access, AccessPath::Nothing)];
    let mut both = first;
    for part in parts {
        let (indexed, listed) = found_by_both(&both, &part, statistics);
        let rows = part.rows_next_to(both.reads_list, statistics);
        let saved = both.estimate().saturating_sub(indexed.saturating_add(listed));
        if rows < saved.saturating_mul(FETCHED) {
            both.indexed = indexed;
            both.listed = listed;
            both.rows = both.rows.saturating_add(part.rows);
            both.reads_list |= part.reads_list;
            both.whole &= part.whole;
            chosen.push(part.access);
        }
    }
    both.whole &= chosen.len() == all;
    both.access = if chosen.len() == 1 { chosen.remove(0) } else { AccessPath::Intersect(chosen) };
    Some(both)
}

/// Estimates how many indexed and listed runs two parts find, as if they were independent. Two parts that find listed
/// runs find them in the same list.
fn found_by_both(one: &AccessPart<'_>, other: &AccessPart<'_>, statistics: &dyn Statistics) -> (u64, u64) {
    let share = |part: u64, other: u64, of: u64| {
        (u128::from(part) * u128::from(other) / u128::from(of.max(1))) as u64
    };
    let runs = statistics.runs();
    let listed = match (one.listed, other.listed) {
        (0, listed) => share(listed, one.indexed, runs),
        (listed, 0) => share(listed, other.indexed, runs),
        (listed, other) => share(listed, other, statistics.listed()),
    };
    (share(one.indexed, other.indexed, runs), listed)
}
