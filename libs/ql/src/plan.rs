//! Plans: knowledge of indexes about a query before any document is read, in the form of a tree
//! of probes that is exact or a superset. An index proposes and the document decides: no plan
//! ever leaves out a candidate that the query matches.

mod choose;
mod derive;
mod interval;
mod leaf;
mod names;
mod run_set;

use std::fmt;

use crate::view::KeyPath;
pub use choose::{AccessChoice, AccessPath, Statistics};
pub(crate) use derive::derive;
pub use interval::Interval;

/// A way to narrow a search, so that it need not read every run.
///
/// Runs that are not fully indexed are not part of a plan: the planner adds them to the runs
/// that the probes propose, and evaluates them even if the plan is exact.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Runs that can match or, in a search for sequences, can have matching sequences.
    pub runs: Proposal,
    /// Whether every proposed run that is fully indexed matches, with all its sequences.
    pub exact: bool,
    /// Names of sequences that can match; `None` means any. Such sequences must always be
    /// evaluated.
    pub sequences: Option<Vec<Interval<Box<str>>>>,
}

/// A set of runs in terms of probes.
#[derive(Debug, Clone, PartialEq)]
pub enum Proposal {
    Everything,
    Nothing,
    Probe(Probe),
    Intersect(Vec<Proposal>),
    Union(Vec<Proposal>),
}

/// A condition that a single index may answer with run numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    Hash(Box<str>),
    Name(Interval<Box<str>>),
    Archived(bool),
    Active(bool),
    /// Runs of the experiment with that name; `None`: runs without an experiment.
    Experiment(Option<Box<str>>),
    Tag(Box<str>),
    /// Branches of the run with this hash.
    Parent(Box<str>),
    /// In Unix seconds.
    CreatedAt(Interval<f64>),
    /// In Unix seconds; only runs that have ended.
    EndTime(Interval<f64>),
    Param {
        path: KeyPath,
        keys: ParamKeys,
    },
    /// Runs with a sequence whose name is in the interval, of any dtype and context.
    Sequence(Interval<Box<str>>),
}

/// Index keys of scalar params.
///
/// A number of any type has the nearest float as its key (`1`, `1.0` and `true` have the same key,
/// and `-0.0` has the key of `0.0`), in numeric order with both infinities; NaN has no key. A string
/// has its bytes as its key, which sort by code point. The intervals of a plan account for the
/// rounding of integers beyond 2^53.
#[derive(Debug, Clone, PartialEq)]
pub enum ParamKeys {
    Numbers(Interval<f64>),
    Texts(Interval<Box<str>>),
}

impl Plan {
    /// Returns all probes of the plan, for a planner that fetches their counts in one
    /// request.
    pub fn probes(&self) -> Vec<&Probe> {
        let mut probes = Vec::new();
        self.runs.collect(&mut probes);
        probes
    }
}

impl Proposal {
    fn collect<'p>(&'p self, probes: &mut Vec<&'p Probe>) {
        match self {
            Proposal::Everything | Proposal::Nothing => {}
            Proposal::Probe(probe) => probes.push(probe),
            Proposal::Intersect(parts) | Proposal::Union(parts) => {
                for part in parts {
                    part.collect(probes);
                }
            }
        }
    }

    fn size(&self) -> usize {
        match self {
            Proposal::Intersect(parts) | Proposal::Union(parts) => {
                1 + parts.iter().map(Self::size).sum::<usize>()
            }
            _ => 1,
        }
    }
}

/// A single line that is stable for the same query: `archived = false and param hparams.lr <
/// 0.01; superset`.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.exact { "exact" } else { "superset" };
        write!(f, "{}; {kind}", self.runs)?;
        match self.sequences.as_deref() {
            None => Ok(()),
            Some([]) => f.write_str("; no sequences"),
            Some(names) => {
                f.write_str("; sequences")?;
                for (position, name) in names.iter().enumerate() {
                    f.write_str(if position > 0 { " or " } else { " " })?;
                    name.describe(f, "name")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Proposal::Everything => f.write_str("everything"),
            Proposal::Nothing => f.write_str("nothing"),
            Proposal::Probe(probe) => write!(f, "{probe}"),
            Proposal::Intersect(parts) => join(f, parts, " and "),
            Proposal::Union(parts) => join(f, parts, " or "),
        }
    }
}

fn join(f: &mut fmt::Formatter<'_>, parts: &[Proposal], word: &str) -> fmt::Result {
    for (position, part) in parts.iter().enumerate() {
        if position > 0 {
            f.write_str(word)?;
        }
        match part {
            Proposal::Intersect(_) | Proposal::Union(_) => write!(f, "({part})")?,
            part => write!(f, "{part}")?,
        }
    }
    Ok(())
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Hash(hash) => write!(f, "hash = {hash:?}"),
            Probe::Name(names) => names.describe(f, "name"),
            Probe::Archived(value) => write!(f, "archived = {value}"),
            Probe::Active(value) => write!(f, "active = {value}"),
            Probe::Experiment(Some(name)) => write!(f, "experiment = {name:?}"),
            Probe::Experiment(None) => f.write_str("no experiment"),
            Probe::Tag(name) => write!(f, "tag {name:?}"),
            Probe::Parent(hash) => write!(f, "parent = {hash:?}"),
            Probe::CreatedAt(times) => times.describe(f, "created_at"),
            Probe::EndTime(times) => times.describe(f, "end_time"),
            Probe::Param { path, keys: ParamKeys::Numbers(numbers) } => {
                numbers.describe(f, &format!("param {path}"))
            }
            Probe::Param { path, keys: ParamKeys::Texts(texts) } => {
                texts.describe(f, &format!("param {path}"))
            }
            Probe::Sequence(names) => names.describe(f, "sequence"),
        }
    }
}

#[cfg(test)]
mod tests;
