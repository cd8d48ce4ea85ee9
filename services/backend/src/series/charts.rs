//! Charts: at most as many buckets per series as the chart has pixels.

use matyan_model::series::{SeriesView, StepRange, Summary, exponent_for};
use matyan_proto::series::v1::{BucketColumn, BucketsRequest, BucketsResponse, Place, SeriesBuckets};
use matyan_store::Snapshot;

use super::{
    run_reader::{RunReader, batch_size},
    select::{self, SelectedSeries},
};
use crate::{
    Deps,
    call::Call,
    convert,
    error::Result,
    stream::{Sender, StreamEnd},
    view,
};

/// Columns sent if the request names none.
const DEFAULT: [BucketColumn; 5] = [
    BucketColumn::Min,
    BucketColumn::Max,
    BucketColumn::Last,
    BucketColumn::LastStep,
    BucketColumn::NotFinite,
];

/// The requested columns, or the default ones.
pub(crate) fn bucket_columns(requested: impl Iterator<Item = BucketColumn>) -> Vec<BucketColumn> {
    let requested: Vec<BucketColumn> = requested.collect();
    if requested.is_empty() { DEFAULT.to_vec() } else { requested }
}

pub(crate) async fn send(
    deps: &Deps,
    call: &Call,
    request: BucketsRequest,
    sender: &Sender<BucketsResponse>,
) -> Result<(), StreamEnd> {
    let options = ChartOptions {
        steps: convert::step_range(request.steps.as_ref()),
        pixels: request.pixels as usize,
        columns: bucket_columns(request.columns()),
    };
    for (run, selection) in (0..).zip(&request.runs) {
        let Some(found) = deps.try_find_run(call, &selection.run_id).await? else { continue };
        let mut reader = RunReader::new(deps, call, found);
        let selected = select::series(&mut reader, selection).await?;
        for selected in selected.chunks(batch_size(options.pixels)) {
            let series = loop {
                match charts(&mut reader, run, selected, &options).await {
                    Ok(series) => break series,
                    Err(error) => reader.renew(error)?,
                }
            };
            reader.send(sender, BucketsResponse { series }).await?;
        }
    }
    Ok(())
}

struct ChartOptions {
    steps: StepRange,
    pixels: usize,
    columns: Vec<BucketColumn>,
}

async fn charts(
    reader: &mut RunReader<'_>,
    run: u32,
    selected: &[SelectedSeries],
    options: &ChartOptions,
) -> Result<Vec<SeriesBuckets>> {
    let (snapshot, opened) = reader.run().await?;
    let numbers: Vec<_> = selected.iter().map(|series| series.number).collect();
    let mut charts = Vec::with_capacity(selected.len());
    for (series, opened) in selected.iter().zip(opened.views(snapshot, &numbers).await?) {
        let summary = opened.summary(snapshot).await?;
        let mut chart = chart(snapshot, &opened, options.steps, options.pixels, &options.columns).await?;
        chart.place = Some(Place { run, series: series.position });
        chart.info = Some(view::metric_info(series.number, series.header.clone(), summary.as_ref()));
        charts.push(chart);
    }
    Ok(charts)
}

pub(crate) async fn chart(
    snapshot: &dyn Snapshot,
    series: &SeriesView,
    steps: StepRange,
    pixels: usize,
    columns: &[BucketColumn],
) -> Result<SeriesBuckets> {
    let Some(span) = series.span() else { return Ok(SeriesBuckets::default()) };
    // The width of buckets depends on the steps that the series really has.
    let exponent = exponent_for(&steps.intersection(&span), pixels);
    let buckets = series.buckets(snapshot, steps, exponent).await?;
    Ok(columnar(&buckets, exponent, columns))
}

fn columnar(buckets: &[Summary], exponent: u32, columns: &[BucketColumn]) -> SeriesBuckets {
    let Some(first) = buckets.first() else { return SeriesBuckets::default() };
    let origin = first.first.step >> exponent;
    let index = |bucket: &Summary| {
        let column = (bucket.first.step >> exponent).wrapping_sub(origin) as u64;
        u32::try_from(column).expect("a chart has at most as many buckets as pixels")
    };
    let mut chart = SeriesBuckets {
        width: 1 << exponent,
        origin: origin << exponent,
        index: buckets.iter().map(index).collect(),
        ..SeriesBuckets::default()
    };
    for column in columns {
        fill(&mut chart, buckets, *column);
    }
    chart
}

fn fill(chart: &mut SeriesBuckets, buckets: &[Summary], column: BucketColumn) {
    let floats = |get: fn(&Summary) -> f64| buckets.iter().map(get).collect();
    let steps = |get: fn(&Summary) -> i64| buckets.iter().map(get).collect();
    let counts = |get: fn(&Summary) -> u64| {
        let saturated = |bucket| u32::try_from(get(bucket)).unwrap_or(u32::MAX);
        buckets.iter().map(saturated).collect::<Vec<u32>>()
    };
    match column {
        BucketColumn::Unspecified => {}
        BucketColumn::Count => chart.count = counts(|bucket| bucket.count),
        BucketColumn::Min => chart.min = floats(|bucket| bucket.min),
        BucketColumn::Max => chart.max = floats(|bucket| bucket.max),
        BucketColumn::First => chart.first = floats(|bucket| bucket.first.value),
        BucketColumn::Last => chart.last = floats(|bucket| bucket.last.value),
        BucketColumn::Mean => chart.mean = floats(|bucket| bucket.mean),
        BucketColumn::FirstStep => chart.first_step = steps(|bucket| bucket.first.step),
        BucketColumn::LastStep => chart.last_step = steps(|bucket| bucket.last.step),
        BucketColumn::FirstTime => chart.first_time_us = steps(|bucket| bucket.first.time_us),
        BucketColumn::LastTime => chart.last_time_us = steps(|bucket| bucket.last.time_us),
        // Omitted if all values are finite.
        BucketColumn::NotFinite if buckets.iter().all(|bucket| bucket.finite() == bucket.count) => {}
        BucketColumn::NotFinite => {
            chart.nan = counts(|bucket| bucket.nan);
            chart.positive_infinity = counts(|bucket| bucket.positive_infinite);
            chart.negative_infinity = counts(|bucket| bucket.negative_infinite);
        }
    }
}
