//! The summary of a run. Each summary replaces the summary before.

use matyan_value::{Map, Value};

use crate::batch::RunBatch;
use crate::error::Result;
use crate::names::{INTERNAL_MEMBER, INTERNAL_SUMMARY, SUMMARY, WANDB};
use crate::param_changes::ParamChanges;

/// The place in the params of the members that people read.
const SHOWN_PATH: [&str; 1] = [SUMMARY];

/// The place of W&B's own members: clients read them back, but people do not.
const INTERNAL_PATH: [&str; 2] = [WANDB, INTERNAL_SUMMARY];

/// The name of a summary in calls of the public API.
const FIELD: &str = "summaryMetrics";

/// The members that people read, and W&B's own members.
fn parts(summary: Map) -> (Map, Map) {
    let (internal, shown): (Map, Map) = summary.into_iter().partition(|(name, _)| name.starts_with('_'));
    (shown, internal.into_iter().filter(|(name, _)| name != INTERNAL_MEMBER).collect())
}

/// Sets the summary that the public API sends.
pub(crate) fn set_summary(params: &mut ParamChanges, batch: &mut RunBatch, summary: Map) -> Result<()> {
    let (shown, internal) = parts(summary);
    if !shown.is_empty() || params.has_members(&SHOWN_PATH) {
        params.set(batch, FIELD, &SHOWN_PATH, Value::Map(shown))?;
    }
    if !internal.is_empty() {
        params.set(batch, FIELD, &INTERNAL_PATH, Value::Map(internal))?;
    }
    Ok(())
}

/// Sets the summary that a run streams, in a form that fits. If the run has several writers, each sends only a part of
/// the summary, so an empty part does not clear the parts of the other writers.
pub(crate) fn set_fitting_summary(
    params: &mut ParamChanges,
    batch: &mut RunBatch,
    summary: Map,
    has_other_writers: bool,
) {
    let (shown, internal) = parts(summary);
    if !shown.is_empty() || (!has_other_writers && params.has_members(&SHOWN_PATH)) {
        params.set_fitting(batch, SUMMARY, &SHOWN_PATH, shown);
    }
    if !internal.is_empty() {
        params.set_fitting(batch, SUMMARY, &INTERNAL_PATH, internal);
    }
}
