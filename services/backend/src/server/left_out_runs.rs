//! Damaged runs that a response leaves out, so that it can report their number.

use std::collections::HashSet;

use matyan_model::ids::RunNumber;
use matyan_proto::search::v1::Warning;

use super::{
    error::{Error, Result},
    metrics::Metrics,
};

/// Each run is counted once, however often the response comes upon it.
#[derive(Default)]
pub(crate) struct LeftOutRuns(HashSet<RunNumber>);

impl LeftOutRuns {
    /// Adds runs whose documents are damaged, which is logged where they are read.
    pub(crate) fn extend(&mut self, metrics: &Metrics, runs: &[RunNumber]) {
        let new = runs.iter().filter(|number| self.0.insert(**number)).count();
        metrics.count_left_out(new);
    }

    /// Adds a run if an error is about its rows; other errors are returned.
    pub(crate) fn leave_out(
        &mut self,
        metrics: &Metrics,
        (number, run_id): (RunNumber, &str),
        error: Error,
    ) -> Result<()> {
        if self.0.contains(&number) && matches!(error, Error::Damaged(_)) {
            return Ok(());
        }
        metrics.leave_out(run_id, error)?;
        self.0.insert(number);
        Ok(())
    }

    /// Adds runs that were counted before.
    pub(crate) fn extend_counted(&mut self, runs: &[RunNumber]) {
        self.0.extend(runs);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn into_numbers(self) -> Vec<RunNumber> {
        self.0.into_iter().collect()
    }

    /// A warning if there are any.
    pub(crate) fn warning(&self) -> Option<Warning> {
        let runs = match self.count() {
            0 => return None,
            1 => "1 damaged run is".to_owned(),
            count => format!("{count} damaged runs are"),
        };
        let message = format!("{runs} left out: see the server's log and `matyan parked ls`");
        Some(Warning { message, ..Warning::default() })
    }
}
