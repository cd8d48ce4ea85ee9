//! The step budget of one candidate: a limit on its work, independent of time.

use std::cell::Cell;

use super::Result;
use crate::limits::BudgetError;

pub(crate) struct StepBudget {
    left: Cell<u64>,
    /// The error to report when the steps run out.
    exhausted: BudgetError,
}

impl StepBudget {
    pub(super) fn new(steps: u64, exhausted: BudgetError) -> Self {
        Self { left: Cell::new(steps), exhausted }
    }

    pub(super) fn left(&self) -> u64 {
        self.left.get()
    }

    /// Takes steps from the budget.
    #[inline]
    pub(super) fn spend(&self, steps: u64) -> Result<()> {
        match self.left.get().checked_sub(steps) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                self.left.set(0);
                Err(self.exhausted.into())
            }
        }
    }
}
