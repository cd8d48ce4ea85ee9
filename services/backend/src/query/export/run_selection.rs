//! The runs and names that a request selects.

use matyan_model::ids::RunNumber;
use matyan_proto::limits;

use crate::server::{call::Call, convert, deps::Deps, error::Result};

/// Names of metrics in a request.
pub(super) const MAX_NAMES: usize = 1_000;

/// The numbers of the runs with these ids, ascending; `None` for all runs.
pub(super) async fn run_numbers(
    deps: &Deps,
    call: &Call,
    run_ids: &[String],
) -> Result<Option<Vec<RunNumber>>> {
    convert::check_limit("run_ids", run_ids.len(), limits::RUNS_PER_CALL)?;
    if run_ids.is_empty() {
        return Ok(None);
    }
    let mut numbers = Vec::with_capacity(run_ids.len());
    for run_id in run_ids {
        numbers.push(deps.find_run(call, run_id).await?.number);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(Some(numbers))
}
