//! Lookup of the sequences in a request, and their description without the steps.

use matyan_model::{
    ids::{Project, RunNumber, SeriesNumber},
    keys::SeriesKind,
    metric::series_named,
    object::{ObjectHeader, object_headers_get, object_series_find},
};
use matyan_proto::{
    common::v1::{SeriesKey, SeriesType, StepRange as HalfOpen},
    objects::v1::{Sequence, Step},
};
use matyan_store::Snapshot;

use crate::{Context, call::Call, convert, error::Result, series::contexts_match, view::object_type};

/// A sequence that was requested and exists.
pub(crate) struct Selected {
    pub(super) run: RunNumber,
    pub(super) number: SeriesNumber,
    pub(super) header: ObjectHeader,
    pub(super) of: SeriesType,
}

impl Selected {
    pub(crate) fn new(run: RunNumber, number: SeriesNumber, header: ObjectHeader, of: SeriesType) -> Self {
        Self { run, number, header, of }
    }
}

/// Sequences looked up in one snapshot: each may take several reads, and a snapshot lives for
/// five seconds.
const AT_ONCE: usize = 256;

pub(super) async fn select(
    context: &Context,
    call: &Call,
    run: RunNumber,
    of: SeriesType,
    keys: &[SeriesKey],
) -> Result<Vec<Selected>> {
    let mut selected = Vec::with_capacity(keys.len());
    for keys in keys.chunks(AT_ONCE) {
        let snapshot = context.store.snapshot().await?;
        for key in keys {
            if let Some((number, header)) = named(snapshot.as_ref(), call.project, run, key).await?
                && object_type(&header.dtype) == Some(of)
            {
                selected.push(Selected { run, number, header, of });
            }
        }
    }
    Ok(selected)
}

/// The sequence with exactly this context; otherwise the one whose context is equal when
/// numbers are compared by value.
async fn named(
    snapshot: &dyn Snapshot,
    project: Project,
    run: RunNumber,
    key: &SeriesKey,
) -> Result<Option<(SeriesNumber, ObjectHeader)>> {
    let context = convert::context(key)?;
    let exact = object_series_find(snapshot, project, run, &key.name, &context.digest()).await?;
    if exact.is_some() {
        return Ok(exact);
    }
    let mut numbers = series_named(snapshot, project, run, SeriesKind::Object, &key.name).await?;
    numbers.sort_unstable();
    let headers = object_headers_get(snapshot, project, run, &numbers).await?;
    let all = numbers.into_iter().zip(headers).filter_map(|(number, header)| Some((number, header?)));
    Ok(all.into_iter().find(|(_, header)| contexts_match(&context, &header.context)))
}

/// The sequence with the given steps.
pub(super) fn sequence(selected: &Selected, steps: Vec<Step>) -> Sequence {
    let header = &selected.header;
    let used = steps.first().zip(steps.last()).map(|(first, last)| half_open(first.step, last.step));
    let longest = steps.iter().map(|step| step.object_count).max().unwrap_or_default();
    Sequence {
        name: header.name.clone(),
        context: header.context.clone(),
        record_range_total: Some(half_open(header.first_step, header.last_step)),
        record_range_used: used,
        index_total: if is_list(selected.of) { longest } else { 0 },
        steps,
        more: false,
    }
}

/// Whether a step may hold several objects.
pub(crate) fn is_list(of: SeriesType) -> bool {
    !matches!(of, SeriesType::Distributions | SeriesType::Figures)
}

fn half_open(first: i64, last: i64) -> HalfOpen {
    HalfOpen { start: Some(first), stop: Some(last.saturating_add(1)) }
}
