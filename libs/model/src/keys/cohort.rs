//! Keys of cohorts, and of the lists of runs whose metrics or params no cohort has.

use std::borrow::Cow;

use foundationdb_tuple::Bytes as TupleBytes;
use matyan_store::{Key, Range, Result};

use super::{ListPart, RunRow, Space, run, subtree};
use crate::ids::{CohortNumber, Project, RunNumber};

/// The parts of its runs that a cohort has. A run may be in a cohort of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CohortKind {
    Metrics,
    Params,
}

impl CohortKind {
    fn cohorts(self) -> Space {
        match self {
            Self::Metrics => Space::Cohort,
            Self::Params => Space::ParamCohort,
        }
    }

    fn uncollected(self) -> Space {
        match self {
            Self::Metrics => Space::Uncollected,
            Self::Params => Space::UncollectedParams,
        }
    }

    /// The kind in keys of later generations.
    fn number(self) -> u16 {
        match self {
            Self::Metrics => 0,
            Self::Params => 1,
        }
    }

    fn of_run(self) -> RunRow {
        match self {
            Self::Metrics => RunRow::Cohort,
            Self::Params => RunRow::ParamCohort,
        }
    }
}

/// A generation of a list of uncollected runs, see `uncollected`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListGeneration(pub u64);

impl ListGeneration {
    /// The generation of a list that was never renewed.
    pub const FIRST: Self = Self(0);

    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

pub fn cohort(kind: CohortKind, project: Project, cohort: CohortNumber) -> Key {
    super::project(project, kind.cohorts(), (cohort.0,))
}

/// The tail is (cohort: u64).
pub fn cohorts(kind: CohortKind, project: Project) -> Range {
    subtree(super::project(project, kind.cohorts(), ()))
}

/// The key holds the digest of the context's canonical text.
pub fn cohort_column(project: Project, cohort: CohortNumber, name: &str, context_digest: &[u8; 16]) -> Key {
    let digest = TupleBytes::from(&context_digest[..]);
    super::project(project, Space::CohortColumn, (cohort.0, name, digest))
}

/// The values of all metrics of a cohort.
pub fn cohort_columns(project: Project, cohort: CohortNumber) -> Range {
    subtree(super::project(project, Space::CohortColumn, (cohort.0,)))
}

/// The values of all metrics of all cohorts.
pub fn cohort_columns_all(project: Project) -> Range {
    subtree(super::project(project, Space::CohortColumn, ()))
}

/// `path` holds the keys from the root of the tree. The path comes first, so that a column of a project is one range.
pub fn param_column(project: Project, path: &[Cow<'_, str>], cohort: CohortNumber, part: u16) -> Key {
    super::project(project, Space::ParamColumn, (path, cohort.0, part))
}

/// The values of a param in all cohorts, in the order of the cohorts; the tail is (cohort: u64, part: u16).
pub fn param_columns(project: Project, path: &[Cow<'_, str>]) -> Range {
    subtree(super::project(project, Space::ParamColumn, (path,)))
}

/// The cohort of a key in `param_columns`.
pub fn decode_param_column(columns: &Range, key: &Key) -> Result<CohortNumber> {
    let (cohort, _part): (u64, u16) = super::tail(&columns.start, key)?;
    Ok(CohortNumber(cohort))
}

/// The values of a param in one cohort.
pub fn param_columns_of(project: Project, path: &[Cow<'_, str>], cohort: CohortNumber) -> Range {
    subtree(super::project(project, Space::ParamColumn, (path, cohort.0)))
}

/// The values of all params of all cohorts.
pub fn param_columns_all(project: Project) -> Range {
    subtree(super::project(project, Space::ParamColumn, ()))
}

/// Some of the paths whose values a cohort has.
pub fn param_cohort_paths(project: Project, cohort: CohortNumber, part: u32) -> Key {
    super::project(project, Space::ParamCohortPaths, (cohort.0, part))
}

/// All paths whose values a cohort has.
pub fn param_cohort_paths_all(project: Project, cohort: CohortNumber) -> Range {
    subtree(super::project(project, Space::ParamCohortPaths, (cohort.0,)))
}

/// The paths of all cohorts.
pub fn param_cohorts_paths(project: Project) -> Range {
    subtree(super::project(project, Space::ParamCohortPaths, ()))
}

/// The generations of a list that have rows.
pub fn uncollected_generations(kind: CohortKind, project: Project) -> Key {
    super::project(project, Space::UncollectedLater, (kind.number(), ListPart::Generations as u16))
}

/// The number of runs that have left a list since its last generation began.
pub fn uncollected_left(kind: CohortKind, project: Project) -> Key {
    super::project(project, Space::UncollectedLater, (kind.number(), ListPart::LeftRuns as u16))
}

/// The row of a run in a generation of a list. Stores of earlier formats have the first one.
pub fn uncollected(kind: CohortKind, project: Project, generation: ListGeneration, number: RunNumber) -> Key {
    if generation == ListGeneration::FIRST {
        return super::project(project, kind.uncollected(), (number.0,));
    }
    let tail = (kind.number(), ListPart::Run as u16, generation.0, number.0);
    super::project(project, Space::UncollectedLater, tail)
}

/// The tail is (number: u64).
pub fn uncollected_all(kind: CohortKind, project: Project, generation: ListGeneration) -> Range {
    if generation == ListGeneration::FIRST {
        return subtree(super::project(project, kind.uncollected(), ()));
    }
    let tail = (kind.number(), ListPart::Run as u16, generation.0);
    subtree(super::project(project, Space::UncollectedLater, tail))
}

/// All generations of a list but the first one; the tail is (generation: u64, number: u64).
pub fn uncollected_later(kind: CohortKind, project: Project) -> Range {
    let tail = (kind.number(), ListPart::Run as u16);
    subtree(super::project(project, Space::UncollectedLater, tail))
}

/// Lists a run whose params have index rows of an earlier format.
pub fn indexed_params(project: Project, number: RunNumber) -> Key {
    super::project(project, Space::IndexedParams, (number.0,))
}

/// The tail is (number: u64).
pub fn indexed_params_all(project: Project) -> Range {
    subtree(super::project(project, Space::IndexedParams, ()))
}

/// The cohort of each kind that a run is in.
pub fn run_cohort(kind: CohortKind, project: Project, number: RunNumber) -> Key {
    run(project, number, kind.of_run(), ())
}
