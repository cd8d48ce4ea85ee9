//! The step budget of one candidate: a limit on its work, independent of time. Evaluation also asks now and
//! then whether anybody still waits for the verdict.

use std::cell::Cell;

use super::Result;
use crate::limits::{BudgetError, STEPS_PER_CHECK};

pub(crate) struct StepBudget<'s> {
    /// Steps until the next check of `is_stopped`.
    left: Cell<u64>,
    /// Steps after the next check.
    reserve: Cell<u64>,
    /// The error to report when the steps run out.
    exhausted: BudgetError,
    is_stopped: &'s dyn Fn() -> bool,
}

impl<'s> StepBudget<'s> {
    pub(super) fn new(steps: u64, exhausted: BudgetError, is_stopped: &'s dyn Fn() -> bool) -> Self {
        let left = steps.min(STEPS_PER_CHECK);
        Self { left: Cell::new(left), reserve: Cell::new(steps - left), exhausted, is_stopped }
    }

    pub(super) fn left(&self) -> u64 {
        self.left.get() + self.reserve.get()
    }

    /// Takes steps from the budget.
    #[inline]
    pub(super) fn spend(&self, steps: u64) -> Result<()> {
        match self.left.get().checked_sub(steps) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => self.spend_reserve(steps),
        }
    }

    #[cold]
    fn spend_reserve(&self, steps: u64) -> Result<()> {
        let Some(rest) = self.left().checked_sub(steps) else {
            self.left.set(0);
            self.reserve.set(0);
            return Err(self.exhausted.into());
        };
        if (self.is_stopped)() {
            return Err(BudgetError::Stopped.into());
        }
        let left = rest.min(STEPS_PER_CHECK);
        self.left.set(left);
        self.reserve.set(rest - left);
        Ok(())
    }
}
