//! Damaged runs that a response leaves out, so that it can report their number.

use std::{collections::HashSet, sync::Arc};

use matyan_model::ids::RunNumber;
use matyan_proto::search::v1::Warning;
use parking_lot::{Mutex, MutexGuard};

use super::{
    error::{Error, Result},
    metrics::Metrics,
};

/// Each run is counted once, however often the response comes upon it. Cheap to clone; clones share the runs.
#[derive(Clone, Default)]
pub(crate) struct LeftOutRuns(Arc<Mutex<HashSet<RunNumber>>>);

impl LeftOutRuns {
    /// Adds runs whose documents are damaged, which is logged where they are read.
    pub(crate) fn extend(&self, metrics: &Metrics, runs: &[RunNumber]) {
        let mut known = self.lock();
        let new = runs.iter().filter(|number| known.insert(**number)).count();
        metrics.count_left_out(new);
    }

    /// Adds a run if an error is about its rows; other errors are returned.
    pub(crate) fn leave_out(
        &self,
        metrics: &Metrics,
        (number, run_id): (RunNumber, &str),
        error: Error,
    ) -> Result<()> {
        let mut known = self.lock();
        if known.contains(&number) && matches!(error, Error::Damaged(_)) {
            return Ok(());
        }
        metrics.leave_out(run_id, error)?;
        known.insert(number);
        Ok(())
    }

    /// Adds runs that were counted before.
    pub(crate) fn extend_counted(&self, runs: &[RunNumber]) {
        self.lock().extend(runs);
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    pub(crate) fn numbers(&self) -> Vec<RunNumber> {
        self.lock().iter().copied().collect()
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

    fn lock(&self) -> MutexGuard<'_, HashSet<RunNumber>> {
        self.0.lock()
    }
}
