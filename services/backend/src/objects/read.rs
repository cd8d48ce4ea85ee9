//! Reading sequences: the asked steps of each, in pieces, from snapshots that no slow client holds open.

use matyan_model::{
    ids::{RunNumber, SeriesNumber},
    object::{
        Object, ObjectHeader, object_get, object_series_find, object_series_list, objects_between,
        objects_list,
    },
    series::{ABSENT, Point, Points, Sampling, StepRange},
};
use matyan_proto::{
    common::v1::{SeriesKey, SeriesType, StepRange as HalfOpen},
    objects::v1::{BatchResponse, Selection, Sequence, Step},
};
use matyan_store::{Scan, Snapshot};

use super::item;
use crate::{
    Context,
    call::Call,
    context::Found,
    convert,
    error::Result,
    series::contexts_match,
    stream::{End, Sender},
    view::object_type,
};

/// Objects in one message.
const PIECE: Scan = Scan { rows: 1_000, bytes: 1 << 20, reverse: false };

/// A sequence that was asked for and is there.
pub(crate) struct Selected {
    run: RunNumber,
    number: SeriesNumber,
    pub(crate) header: ObjectHeader,
    of: SeriesType,
}

impl Selected {
    pub(crate) fn new(run: RunNumber, number: SeriesNumber, header: ObjectHeader, of: SeriesType) -> Self {
        Self { run, number, header, of }
    }
}

/// The asked steps of a sequence, all from one snapshot.
pub(crate) async fn found_sequence(
    context: &Context,
    snapshot: &dyn Snapshot,
    call: &Call,
    selected: &Selected,
    selection: &Selection,
) -> Result<Sequence> {
    let project = call.project;
    let Selected { run, number, .. } = *selected;
    let steps = convert::steps(selection.record_range.as_ref());
    let density = selection.record_density as usize;
    let mut objects = Vec::new();
    let mut stored = Points::default();
    let mut rest = Some(objects_between(project, run, number, steps.first, steps.last));
    while let Some(range) = rest.filter(|_| !steps.is_empty()) {
        let (page, next) = objects_list(snapshot, project, run, number, &range, PIECE).await?;
        rest = next;
        for object in page {
            stored.push(Point { step: object.step, value: 0.0, epoch: ABSENT, time_us: ABSENT });
            // What a density may leave out is read again when it is chosen, so that not all is kept.
            if density == 0 {
                objects.push(object);
            }
        }
    }
    if density > 0 {
        for step in Sampling::Spread(density).choose(&stored).steps {
            objects.extend(object_get(snapshot, project, run, number, step).await?);
        }
    }
    sequence(context, call, selected, selection, objects).await
}

pub(crate) async fn select(
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

pub(crate) async fn send_batch(
    context: &Context,
    call: &Call,
    selected: &Selected,
    selection: &Selection,
    sender: &Sender<BatchResponse>,
) -> Result<(), End> {
    let steps = convert::steps(selection.record_range.as_ref());
    if selection.record_density > 0 {
        let chosen = choose(context, call, selected, steps, selection.record_density as usize).await?;
        let snapshot = context.store.snapshot().await?;
        let mut objects = Vec::with_capacity(chosen.len());
        for step in chosen {
            objects.extend(
                object_get(snapshot.as_ref(), call.project, selected.run, selected.number, step).await?,
            );
        }
        drop(snapshot);
        let sequence = sequence(context, call, selected, selection, objects).await?;
        sender.send(BatchResponse { sequence: Some(sequence), last: true }).await?;
        return Ok(());
    }
    let mut rest =
        Some(objects_between(call.project, selected.run, selected.number, steps.first, steps.last));
    while let Some(range) = rest {
        let snapshot = context.store.snapshot().await?;
        let place = (call.project, selected.run, selected.number);
        let (objects, next) =
            objects_list(snapshot.as_ref(), place.0, place.1, place.2, &range, PIECE).await?;
        drop(snapshot);
        rest = next;
        let sequence = sequence(context, call, selected, selection, objects).await?;
        sender.send(BatchResponse { sequence: Some(sequence), last: rest.is_none() }).await?;
    }
    Ok(())
}

/// The steps that a density leaves.
async fn choose(
    context: &Context,
    call: &Call,
    selected: &Selected,
    steps: StepRange,
    density: usize,
) -> Result<Vec<i64>> {
    let mut all = Points::default();
    let mut rest =
        Some(objects_between(call.project, selected.run, selected.number, steps.first, steps.last));
    while let Some(range) = rest {
        let snapshot = context.store.snapshot().await?;
        let place = (call.project, selected.run, selected.number);
        let (objects, next) =
            objects_list(snapshot.as_ref(), place.0, place.1, place.2, &range, PIECE).await?;
        rest = next;
        for object in objects {
            all.push(Point { step: object.step, value: 0.0, epoch: ABSENT, time_us: ABSENT });
        }
    }
    Ok(Sampling::Spread(density).choose(&all).steps)
}

/// The sequence with one step, if it has it.
pub(crate) async fn one_step(
    context: &Context,
    call: &Call,
    selected: &Selected,
    steps: StepRange,
    selection: &Selection,
) -> Result<Option<Sequence>> {
    let snapshot = context.store.snapshot().await?;
    let found =
        object_get(snapshot.as_ref(), call.project, selected.run, selected.number, steps.first).await?;
    drop(snapshot);
    match found {
        Some(object) => Ok(Some(sequence(context, call, selected, selection, vec![object]).await?)),
        None => Ok(None),
    }
}

async fn sequence(
    context: &Context,
    call: &Call,
    selected: &Selected,
    selection: &Selection,
    objects: Vec<Object>,
) -> Result<Sequence> {
    let mut steps: Vec<Step> = Vec::with_capacity(objects.len());
    for object in objects {
        let items = item::items(context, &call.project_name, selected.of, &object).await?;
        let object_count = u32::try_from(items.len()).unwrap_or(u32::MAX);
        steps.push(Step {
            step: object.step,
            epoch: object.epoch,
            time_us: Some(object.time_us),
            objects: item::select(items, selection),
            object_count,
        });
    }
    let header = &selected.header;
    let used = steps.first().zip(steps.last()).map(|(first, last)| half_open(first.step, last.step));
    let longest = steps.iter().map(|step| step.object_count).max().unwrap_or_default();
    Ok(Sequence {
        name: header.name.clone(),
        context: header.context.clone(),
        record_range_total: Some(half_open(header.first_step, header.last_step)),
        record_range_used: used,
        index_total: if is_list(selected.of) { longest } else { 0 },
        steps,
    })
}

/// Several objects may stand at one step.
pub(crate) fn is_list(of: SeriesType) -> bool {
    !matches!(of, SeriesType::Distributions | SeriesType::Figures)
}

fn half_open(first: i64, last: i64) -> HalfOpen {
    HalfOpen { start: Some(first), stop: Some(last.saturating_add(1)) }
}
