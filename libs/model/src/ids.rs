//! The names by which the rest of the system speaks of projects, runs and series: newtypes, so that none stands for another.
//! Deliberately absent: how an id is made. Whoever creates something passes the id in.

use std::fmt;

/// Number of a project. 0 is the default one; the others have a row that maps their name to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Project(pub u32);

/// A project as rows know it, by number, and as messages and blobs do, by name: empty for the default one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedProject {
    pub number: Project,
    pub name: String,
}

/// Number of one life of a run id: microseconds of the record that created it, made unique, never given again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunNumber(pub u64);

/// Number of a series inside one run number, from 0 without gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesNumber(pub u32);

/// What a client calls its run: any text of 1 to 256 bytes without `/`.
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

/// Sixteen random bytes that a producer of batches keeps for as long as it may send something again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub [u8; 16]);
