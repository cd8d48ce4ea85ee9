//! Branches: runs that continue another run from a step. A branch shares the metric series that have
//! points up to that step when the branch is created. A shared series has the same number in both runs.
//! Its points are read from the parent up to the step of the branch, but not after the first point that
//! was logged to the branch.
//!
//! A run that is a branch has one row, which contains all its ancestors, so that readers need no rows of
//! runs in between. Nothing else refers to them: without its ancestors a branch has its own points.

use matyan_store::{Batch, Result, Snapshot};
use minicbor::{Decode, Encode};

use crate::{
    ids::{Project, RunNumber, SeriesNumber},
    keys, rows,
};

/// Maximum number of ancestors of a branch. Each costs a few reads whenever the branch is read.
pub const ANCESTORS: usize = 32;

/// The ancestors of a branch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Branch {
    /// The parent first.
    #[n(0)]
    ancestors: Vec<Ancestor>,
}

/// A run that a branch shares points with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Ancestor {
    #[n(0)]
    number: u64,
    /// The last step that is shared.
    #[n(1)]
    pub last_step: i64,
    /// The series with lower numbers are shared.
    #[n(2)]
    series: u32,
}

impl Ancestor {
    pub fn new(number: RunNumber, last_step: i64, series: u32) -> Self {
        Self { number: number.0, last_step, series }
    }

    pub fn number(&self) -> RunNumber {
        RunNumber(self.number)
    }

    pub fn shares(&self, series: SeriesNumber) -> bool {
        series.0 < self.series
    }
}

impl Branch {
    /// A branch of `parent`, which may be a branch itself. `None` if it has too many ancestors.
    pub fn of(parent: Ancestor, grandparents: &Self) -> Option<Self> {
        let shared = |ancestor: &Ancestor| Ancestor {
            number: ancestor.number,
            last_step: ancestor.last_step.min(parent.last_step),
            series: ancestor.series.min(parent.series),
        };
        let ancestors: Vec<Ancestor> =
            std::iter::once(parent).chain(grandparents.ancestors.iter().map(shared)).collect();
        (ancestors.len() <= ANCESTORS).then_some(Self { ancestors })
    }

    /// The parent first.
    pub fn ancestors(&self) -> &[Ancestor] {
        &self.ancestors
    }

    /// The last step of a series whose point can be shared; `None` if it cannot have any.
    pub fn last_shared_step(&self, series: SeriesNumber) -> Option<i64> {
        self.ancestors.iter().filter(|ancestor| ancestor.shares(series)).map(|it| it.last_step).max()
    }
}

/// The ancestors of a run; none if it is not a branch.
pub async fn branch_get(snapshot: &dyn Snapshot, project: Project, number: RunNumber) -> Result<Branch> {
    Ok(rows::get(snapshot, &keys::branch(project, number)).await?.unwrap_or_default())
}

pub fn branch_put(batch: &mut Batch, project: Project, number: RunNumber, branch: &Branch) {
    batch.set(keys::branch(project, number), rows::encode(branch));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_of_a_branch_shares_no_more_than_its_parent() {
        let grandparent = Branch::of(Ancestor::new(RunNumber(1), 100, 5), &Branch::default()).unwrap();
        let branch = |step| Branch::of(Ancestor::new(RunNumber(2), step, 7), &grandparent).unwrap();
        assert_eq!(branch(50).ancestors()[1], Ancestor::new(RunNumber(1), 50, 5));
        assert_eq!(branch(200).ancestors()[1], Ancestor::new(RunNumber(1), 100, 5));
        assert_eq!(branch(200).last_shared_step(SeriesNumber(4)), Some(200));
        assert_eq!(branch(200).last_shared_step(SeriesNumber(7)), None);
    }

    #[test]
    fn the_number_of_ancestors_is_limited() {
        let mut branch = Branch::default();
        for number in 0..ANCESTORS as u64 {
            branch = Branch::of(Ancestor::new(RunNumber(number), 0, 1), &branch).unwrap();
        }
        assert_eq!(Branch::of(Ancestor::new(RunNumber(99), 0, 1), &branch), None);
    }
}
