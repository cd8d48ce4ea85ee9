//! Which series a request means.

use matyan_model::{
    context::Context as SeriesContext,
    ids::SeriesNumber,
    json,
    metric::{metric_header_get, metric_series_find, metric_series_list},
    series::Header,
    value::Value,
};
use matyan_proto::{common::v1::SeriesKey, limits, series::v1::RunSelection};
use matyan_store::Snapshot;

use crate::{call::Call, context::Found, convert, error::Result};

/// A series that was asked for and is there.
pub(crate) struct Selected {
    /// Place among the asked series of the run.
    pub(crate) place: u32,
    pub(crate) number: SeriesNumber,
    pub(crate) header: Header,
}

pub(crate) fn check(runs: &[RunSelection]) -> Result<()> {
    convert::at_most("runs", runs.len(), limits::RUNS_PER_CALL)?;
    let series = runs.iter().map(|run| run.numbers.len() + run.keys.len()).sum();
    convert::at_most("series", series, limits::SERIES_PER_CALL)
}

/// The asked series of a run that are there, in the order of the request.
pub(crate) async fn series(call: &Call, found: &Found, selection: &RunSelection) -> Result<Vec<Selected>> {
    let snapshot = found.snapshot.as_ref();
    let mut selected = Vec::with_capacity(selection.numbers.len() + selection.keys.len());
    let mut place = 0;
    for number in &selection.numbers {
        let number = SeriesNumber(*number);
        if let Some(header) = metric_header_get(snapshot, call.project, found.number, number).await? {
            selected.push(Selected { place, number, header });
        }
        place += 1;
    }
    for key in &selection.keys {
        if let Some((number, header)) = named(snapshot, call, found, key).await? {
            selected.push(Selected { place, number, header });
        }
        place += 1;
    }
    Ok(selected)
}

/// The series of this very context; if there is none, the one whose context is equal with numbers compared by value.
pub(crate) async fn named(
    snapshot: &dyn Snapshot,
    call: &Call,
    found: &Found,
    key: &SeriesKey,
) -> Result<Option<(SeriesNumber, Header)>> {
    let context = convert::context(key)?;
    let exact =
        metric_series_find(snapshot, call.project, found.number, &key.name, &context.digest()).await?;
    if let Some(number) = exact {
        let header = metric_header_get(snapshot, call.project, found.number, number).await?;
        return Ok(header.map(|header| (number, header)));
    }
    let all = metric_series_list(snapshot, call.project, found.number).await?;
    Ok(all
        .into_iter()
        .find(|(_, header)| header.name == key.name && contexts_match(&context, &header.context)))
}

/// Equal when 1 and 1.0 are one value; a boolean never equals a number.
pub(crate) fn contexts_match(asked: &SeriesContext, stored: &str) -> bool {
    match (json::parse(asked.canonical()), json::parse(stored)) {
        (Ok(asked), Ok(stored)) => values_match(&asked, &stored),
        _ => false,
    }
}

fn values_match(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Map(left), Value::Map(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(key, value)| right.get(key).is_some_and(|other| values_match(value, other)))
        }
        (Value::List(left), Value::List(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| values_match(left, right))
        }
        (Value::Integer(integer), Value::Float(float)) | (Value::Float(float), Value::Integer(integer)) => {
            *integer as f64 == *float && *float as i128 == i128::from(*integer)
        }
        (Value::Big(integer), Value::Float(float)) | (Value::Float(float), Value::Big(integer)) => {
            integer.to_f64() == *float
        }
        _ => left == right,
    }
}
