//! Lookup of the series that a request names.

use matyan_model::{
    ids::SeriesNumber,
    keys::SeriesKind,
    metric::{metric_headers_get, metric_series_find_many, series_named},
    series::{MetricHeader, RunRef, StepRange},
};
use matyan_proto::{common::v1::SeriesKey, limits, series::v1::RunSelection};
use matyan_store::Snapshot;
use matyan_value::{Context, Value, json};

use super::run_reader::RunReader;
use crate::server::{
    convert,
    error::{Error, Result},
};

/// Series looked up at a time: each may need a separate read, and a snapshot lives for five
/// seconds.
const LOOKUPS_PER_READ: usize = 256;

/// A series that was requested and exists.
#[derive(Clone)]
pub(crate) struct SelectedSeries {
    /// Index among the requested series of the run.
    pub(crate) position: u32,
    pub(crate) number: SeriesNumber,
    pub(crate) header: MetricHeader,
    /// The requested steps.
    pub(crate) steps: StepRange,
}

pub(super) type FoundSeries = (SeriesNumber, MetricHeader);

pub(crate) fn check<'r>(runs: impl IntoIterator<Item = &'r RunSelection>) -> Result<()> {
    let mut count = 0;
    let mut series = 0;
    for run in runs {
        count += 1;
        series += series_count(run);
        if !run.steps.is_empty() && run.steps.len() != series_count(run) {
            let steps = run.steps.len();
            let series = series_count(run);
            return Err(Error::field(
                "steps",
                format!("has {steps} ranges for {series} series: give one for each, or none"),
            ));
        }
    }
    convert::check_limit("runs", count, limits::RUNS_PER_CALL)?;
    convert::check_limit("series", series, limits::SERIES_PER_CALL)
}

pub(super) fn series_count(run: &RunSelection) -> usize {
    run.numbers.len() + run.keys.len()
}

/// The requested series that exist, in the order of the request. `steps` are requested for series that
/// have no steps of their own.
pub(super) async fn series(
    reader: &mut RunReader<'_>,
    selection: &RunSelection,
    steps: StepRange,
) -> Result<Vec<SelectedSeries>> {
    let mut found = find_by_numbers(reader, &selection.numbers).await?;
    found.extend(find_by_keys(reader, &selection.keys).await?);
    let selected = (0..).zip(found).filter_map(|(position, found)| {
        let own = selection.steps.get(position as usize).map(|steps| StepRange::from(*steps));
        let steps = own.unwrap_or(steps);
        found.map(|(number, header)| SelectedSeries { position, number, header, steps })
    });
    Ok(selected.collect())
}

async fn find_by_numbers(reader: &mut RunReader<'_>, numbers: &[u32]) -> Result<Vec<Option<FoundSeries>>> {
    let mut found = Vec::with_capacity(numbers.len());
    for numbers in numbers.chunks(LOOKUPS_PER_READ) {
        let numbers: Vec<SeriesNumber> = numbers.iter().copied().map(SeriesNumber).collect();
        let run_ref = reader.run_ref;
        let headers = loop {
            let snapshot = reader.snapshot().await?;
            match metric_headers_get(snapshot, run_ref.project, run_ref.number, &numbers).await {
                Ok(headers) => break headers,
                Err(error) => reader.renew(error.into())?,
            }
        };
        reader.mark_used();
        found.extend(numbers.into_iter().zip(headers).map(|(number, header)| Some((number, header?))));
    }
    Ok(found)
}

/// For each key, the series with exactly this context; otherwise the one whose context is equal
/// when numbers are compared by value.
pub(super) async fn find_by_keys(
    reader: &mut RunReader<'_>,
    keys: &[SeriesKey],
) -> Result<Vec<Option<FoundSeries>>> {
    let mut found = Vec::with_capacity(keys.len());
    for keys in keys.chunks(LOOKUPS_PER_READ) {
        let contexts = keys.iter().map(convert::context).collect::<Result<Vec<_>>>()?;
        let run_ref = reader.run_ref;
        found.extend(loop {
            match find(reader.snapshot().await?, run_ref, keys, &contexts).await {
                Ok(found) => break found,
                Err(error) => reader.renew(error)?,
            }
        });
        reader.mark_used();
    }
    Ok(found)
}

async fn find(
    snapshot: &dyn Snapshot,
    run_ref: RunRef,
    keys: &[SeriesKey],
    contexts: &[Context],
) -> Result<Vec<Option<FoundSeries>>> {
    let RunRef { project, number } = run_ref;
    let names = keys.iter().zip(contexts).map(|(key, context)| (key.name.clone(), context.digest()));
    let names: Vec<_> = names.collect();
    let exact = metric_series_find_many(snapshot, project, number, &names).await?;
    let present: Vec<SeriesNumber> = exact.iter().flatten().copied().collect();
    let mut headers = metric_headers_get(snapshot, project, number, &present).await?.into_iter();
    let mut found = Vec::with_capacity(keys.len());
    for ((key, context), exact) in keys.iter().zip(contexts).zip(exact) {
        found.push(match exact {
            Some(number) => headers.next().flatten().map(|header| (number, header)),
            None => find_equal_context(snapshot, run_ref, &key.name, context).await?,
        });
    }
    Ok(found)
}

async fn find_equal_context(
    snapshot: &dyn Snapshot,
    RunRef { project, number }: RunRef,
    name: &str,
    context: &Context,
) -> Result<Option<FoundSeries>> {
    let mut numbers = series_named(snapshot, project, number, SeriesKind::Metric, name).await?;
    numbers.sort_unstable();
    let headers = metric_headers_get(snapshot, project, number, &numbers).await?;
    let all = numbers.into_iter().zip(headers).filter_map(|(number, header)| Some((number, header?)));
    Ok(all.into_iter().find(|(_, header)| contexts_match(context, &header.context)))
}

/// Whether two contexts are equal when 1 and 1.0 are the same value; a boolean never equals a
/// number.
pub(crate) fn contexts_match(requested: &Context, stored: &str) -> bool {
    match (json::parse(requested.canonical()), json::parse(stored)) {
        (Ok(requested), Ok(stored)) => values_match(&requested, &stored),
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
