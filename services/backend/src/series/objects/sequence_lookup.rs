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

use crate::{
    series::select::contexts_match,
    server::{call::Call, convert, deps::Deps, error::Result},
    view::{object_type, typed_values::context_values},
};

/// A sequence that was requested and exists.
pub(crate) struct SelectedSequence {
    pub(super) run: RunNumber,
    pub(super) number: SeriesNumber,
    pub(super) header: ObjectHeader,
    pub(super) series_type: SeriesType,
}

impl SelectedSequence {
    pub(crate) fn new(
        run: RunNumber,
        number: SeriesNumber,
        header: ObjectHeader,
        series_type: SeriesType,
    ) -> Self {
        Self { run, number, header, series_type }
    }
}

/// Sequences looked up in one snapshot: each may take several reads, and a snapshot lives for
/// five seconds.
const LOOKUPS_PER_SNAPSHOT: usize = 256;

pub(super) async fn select(
    deps: &Deps,
    call: &Call,
    run: RunNumber,
    series_type: SeriesType,
    keys: &[SeriesKey],
) -> Result<Vec<SelectedSequence>> {
    let mut selected = Vec::with_capacity(keys.len());
    for keys in keys.chunks(LOOKUPS_PER_SNAPSHOT) {
        let snapshot = deps.store.snapshot().await?;
        for key in keys {
            if let Some((number, header)) = find_by_key(snapshot.as_ref(), call.project, run, key).await?
                && object_type(&header.dtype) == Some(series_type)
            {
                selected.push(SelectedSequence { run, number, header, series_type });
            }
        }
    }
    Ok(selected)
}

/// The sequence with exactly this context; otherwise the one whose context is equal when
/// numbers are compared by value.
async fn find_by_key(
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
pub(super) fn sequence(selected: &SelectedSequence, steps: Vec<Step>) -> Sequence {
    let header = &selected.header;
    let used = steps.first().zip(steps.last()).map(|(first, last)| half_open(first.step, last.step));
    let longest = steps.iter().map(|step| step.object_count).max().unwrap_or_default();
    Sequence {
        name: header.name.clone(),
        context: header.context.clone(),
        context_values: context_values(&header.context),
        record_range_total: Some(half_open(header.first_step, header.last_step)),
        record_range_used: used,
        index_total: if is_list(selected.series_type) { longest } else { 0 },
        steps,
        more: false,
    }
}

/// Whether a step may hold several objects.
pub(crate) fn is_list(series_type: SeriesType) -> bool {
    !matches!(series_type, SeriesType::Distributions | SeriesType::Figures)
}

fn half_open(first: i64, last: i64) -> HalfOpen {
    HalfOpen { start: Some(first), stop: Some(last.saturating_add(1)) }
}
