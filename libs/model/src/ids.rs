//! Identifiers of projects, jobs, runs, and series: newtypes, so that they cannot be mixed up. Ids
//! are deliberately not generated here; they are passed in.

use std::fmt;

use minicbor::{Decode, Encode};

/// Number of a project. The default project is 0; every other one has a row that maps its name
/// to its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Project(pub u32);

impl Project {
    /// The number under which records of projects that do not exist are parked. No project has
    /// it.
    pub const UNKNOWN: Self = Self(u32::MAX);
}

/// A project with its number, which rows use, and its name, which messages and blob keys use.
/// The name of the default project is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedProject {
    pub number: Project,
    pub name: String,
}

/// A job in a project. Jobs that are not about one project count as jobs of the default project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    pub name: &'static str,
    pub project: Project,
}

impl Job {
    pub fn new(name: &'static str, project: Project) -> Self {
        Self { name, project }
    }
}

/// Number of one incarnation of a run id: the creation time in microseconds, made unique. Never
/// reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunNumber(pub u64);

/// Number of a series within a run number. Numbers start at 0 and have no gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesNumber(pub u32);

/// Number of a cohort of runs within a project. Later cohorts have higher numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CohortNumber(pub u64);

/// The id of a run, chosen by the client: any string of 1 to 256 bytes without `/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(String);

impl RunId {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for RunNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Sixteen random bytes that identify a producer of batches. A producer keeps its id as long as
/// it may resend something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(array)]
pub struct ProducerId(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);
