//! Charts: at most as many buckets per series as the chart has pixels.

use matyan_model::{
    ids::SeriesNumber,
    series::{SeriesView, Stamps, StepRange, Summary},
};
use matyan_proto::series::v1::{BucketColumn, BucketsRequest, BucketsResponse, Place, SeriesBuckets};
use matyan_store::Snapshot;
use prost::Message;

use super::{
    chart_axis::{self, ChartAxis},
    grid::Grid,
    run_reader::{RunReader, batch_size},
    select::{self, SelectedSeries},
};
use crate::{
    server::{
        call::Call,
        convert,
        deps::Deps,
        error::Result,
        stream::{MESSAGE_BYTES, Sender, StreamEnd},
    },
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

/// The requested columns, or the default columns.
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
    let steps = convert::step_range(request.steps);
    let pixels = request.pixels as usize;
    let runs: Vec<_> = request.runs.iter().collect();
    let grid = if request.shared_grid { Grid::over(deps, call, &runs, steps, pixels).await? } else { None };
    let columns = bucket_columns(request.columns());
    let axis = ChartAxis::new(request.axis.as_ref(), request.x_range.as_ref());
    let stamps = match &axis {
        Some(axis) if axis.stamps() == Stamps::Read => Stamps::Read,
        _ => stamps_of(&columns),
    };
    let options = ChartOptions { pixels, grid, columns, stamps, axis };
    for (run, selection) in (0..).zip(&request.runs) {
        let Some(found) = deps.try_find_run(call, &selection.run_id).await? else { continue };
        let mut reader = RunReader::new(deps, call, found);
        let selected = select::series(&mut reader, selection, steps).await?;
        let selected = chart_axis::with_axes(&mut reader, selected, options.axis.as_ref()).await?;
        for selected in selected.chunks(batch_size(options.pixels)) {
            let charts = loop {
                match charts(&mut reader, run, selected, &options).await {
                    Ok(charts) => break charts,
                    Err(error) => reader.renew(error)?,
                }
            };
            let mut message = BucketsResponse::default();
            let mut bytes = 0;
            for chart in charts {
                bytes += chart.encoded_len();
                message.series.push(chart);
                if bytes >= MESSAGE_BYTES {
                    bytes = 0;
                    reader.send(sender, std::mem::take(&mut message)).await?;
                }
            }
            if !message.series.is_empty() {
                reader.send(sender, message).await?;
            }
        }
    }
    Ok(())
}

struct ChartOptions<'r> {
    pixels: usize,
    grid: Option<Grid>,
    columns: Vec<BucketColumn>,
    stamps: Stamps,
    axis: Option<ChartAxis<'r>>,
}

async fn charts(
    reader: &mut RunReader<'_>,
    run: u32,
    selected: &[(SelectedSeries, Option<SeriesNumber>)],
    options: &ChartOptions<'_>,
) -> Result<Vec<SeriesBuckets>> {
    let (snapshot, opened) = reader.run().await?;
    let numbers: Vec<_> = selected.iter().map(|(series, _)| series.number).collect();
    let axes: Vec<_> = selected.iter().filter_map(|(_, axis)| *axis).collect();
    let mut axis_views = opened.views(snapshot, &axes).await?.into_iter();
    let mut charts = Vec::with_capacity(selected.len());
    for ((series, _), view) in selected.iter().zip(opened.views(snapshot, &numbers).await?) {
        let axis_view = axis_views.next().unwrap_or_else(|| view.clone());
        let summary = view.summary(snapshot).await?;
        let mut steps = series.steps;
        if let Some(grid) = &options.grid {
            steps = steps.intersection(&grid.steps);
        }
        let axis = options.axis.as_ref().zip(summary.as_ref());
        let axis = axis.map(|(axis, summary)| axis.of_series(axis_view, summary));
        if let Some(axis) = &axis {
            steps = axis.steps_in_range(snapshot, steps).await?;
        }
        let (buckets, exponent) = match &options.grid {
            Some(grid) => {
                (view.buckets(snapshot, steps, grid.exponent, options.stamps).await?, grid.exponent)
            }
            None => view.fine_buckets(snapshot, steps, options.pixels, options.stamps).await?,
        };
        let mut chart = columnar(&buckets, exponent, options.grid, &options.columns);
        if let Some(axis) = &axis {
            (chart.first_x, chart.last_x) = axis.values(snapshot, steps, &buckets, exponent).await?;
        }
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
    let (buckets, exponent) = series.fine_buckets(snapshot, steps, pixels, stamps_of(columns)).await?;
    Ok(columnar(&buckets, exponent, None, columns))
}

/// Whether the columns include any that is read from epochs and times.
fn stamps_of(columns: &[BucketColumn]) -> Stamps {
    let is_stamp = |column: &BucketColumn| matches!(column, BucketColumn::FirstTime | BucketColumn::LastTime);
    if columns.iter().any(is_stamp) { Stamps::Read } else { Stamps::Skipped }
}

/// Without a grid, the first bucket has number 0.
fn columnar(
    buckets: &[Summary],
    exponent: u32,
    grid: Option<Grid>,
    columns: &[BucketColumn],
) -> SeriesBuckets {
    let (Some(first), Some(last)) = (buckets.first(), buckets.last()) else {
        return SeriesBuckets::default();
    };
    let steps = StepRange::new(first.first.step, last.last.step);
    let grid = grid.unwrap_or_else(|| Grid::of_steps(steps, exponent));
    let mut chart = SeriesBuckets {
        width: grid.width(),
        origin: grid.origin(),
        index: buckets.iter().map(|bucket| grid.number(bucket.first.step)).collect(),
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
        buckets.iter().map(|bucket| u32::try_from(get(bucket)).unwrap_or(u32::MAX)).collect::<Vec<u32>>()
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
