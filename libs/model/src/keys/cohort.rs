//! Keys of cohorts, and of the list of runs whose values of metrics no cohort has.

use foundationdb_tuple::Bytes as TupleBytes;
use matyan_store::{Key, Range};

use super::{RunRow, Space, run, subtree};
use crate::ids::{CohortNumber, Project, RunNumber};

pub fn cohort(project: Project, cohort: CohortNumber) -> Key {
    super::project(project, Space::Cohort, (cohort.0,))
}

/// The tail is (cohort: u64).
pub fn cohorts(project: Project) -> Range {
    subtree(super::project(project, Space::Cohort, ()))
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

pub fn uncollected(project: Project, number: RunNumber) -> Key {
    super::project(project, Space::Uncollected, (number.0,))
}

/// The tail is (number: u64).
pub fn uncollected_all(project: Project) -> Range {
    subtree(super::project(project, Space::Uncollected, ()))
}

pub fn run_cohort(project: Project, number: RunNumber) -> Key {
    run(project, number, RunRow::Cohort, ())
}
