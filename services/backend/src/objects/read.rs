//! Which sequences a request means, and what is told of each beside its steps.

use matyan_model::{
    ids::{RunNumber, SeriesNumber},
    object::{ObjectHeader, object_series_find, object_series_list},
};
use matyan_proto::{
    common::v1::{SeriesKey, SeriesType, StepRange as HalfOpen},
    objects::v1::{Sequence, Step},
};

use crate::{call::Call, context::Found, convert, error::Result, series::contexts_match, view::object_type};

/// A sequence that was asked for and is there.
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

pub(super) async fn select(
    call: &Call,
    found: &Found,
    of: SeriesType,
    keys: &[SeriesKey],
) -> Result<Vec<Selected>> {
    let mut selected = Vec::with_capacity(keys.len());
    for key in keys {
        if let Some((number, header)) = named(call, found, key).await?
            && object_type(&header.dtype) == Some(of)
        {
            selected.push(Selected { run: found.number, number, header, of });
        }
    }
    Ok(selected)
}

async fn named(call: &Call, found: &Found, key: &SeriesKey) -> Result<Option<(SeriesNumber, ObjectHeader)>> {
    let snapshot = found.snapshot.as_ref();
    let context = convert::context(key)?;
    let exact =
        object_series_find(snapshot, call.project, found.number, &key.name, &context.digest()).await?;
    if exact.is_some() {
        return Ok(exact);
    }
    let all = object_series_list(snapshot, call.project, found.number).await?;
    Ok(all
        .into_iter()
        .find(|(_, header)| header.name == key.name && contexts_match(&context, &header.context)))
}

/// The sequence with these steps of it.
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

/// Several objects may stand at one step.
pub(crate) fn is_list(of: SeriesType) -> bool {
    !matches!(of, SeriesType::Distributions | SeriesType::Figures)
}

fn half_open(first: i64, last: i64) -> HalfOpen {
    HalfOpen { start: Some(first), stop: Some(last.saturating_add(1)) }
}
