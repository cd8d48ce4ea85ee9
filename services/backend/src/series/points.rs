//! Logged points: sampled at a density, or all of them in pieces.

use matyan_model::{
    ids::SeriesNumber,
    series::{ABSENT, Points, RunRef, RunSeries, Sampling, SeriesView, StepRange},
};
use matyan_proto::{
    common::v1::SeriesKey,
    runs::v1::SeriesInfo,
    series::v1::{
        Place, PointColumns, PointsRequest, PointsResponse, SampleRequest, SampleResponse, SeriesPoints,
    },
};
use matyan_store::Snapshot;

use super::{
    point_pieces::{AxisReader, PointPieces},
    run_reader::{MAX_POINTS, RunReader, batch_size},
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

/// Minimum density of a search that is sampled from equal ranges of steps, on which charts of the
/// published clients rely.
const BUCKETED_FROM: u32 = 128;

/// Columns sent if the request names none.
pub(crate) const DEFAULT_COLUMNS: PointColumns = PointColumns { values: true, epochs: false, times: false };

/// The data requested for each series.
struct SampleOptions<'r> {
    steps: StepRange,
    density: u32,
    columns: PointColumns,
    x_axis: Option<&'r str>,
}

pub(crate) async fn send_samples(
    deps: &Deps,
    call: &Call,
    request: SampleRequest,
    sender: &Sender<SampleResponse>,
) -> Result<(), StreamEnd> {
    let options = SampleOptions {
        steps: convert::step_range(request.steps.as_ref()),
        density: request.density,
        columns: request.columns.unwrap_or(DEFAULT_COLUMNS),
        x_axis: request.x_axis.as_deref(),
    };
    for (run, selection) in (0..).zip(&request.runs) {
        let Some(found) = deps.try_find_run(call, &selection.run_id).await? else { continue };
        let mut reader = RunReader::new(deps, call, found);
        let selected = select::series(&mut reader, selection).await?;
        let axes = axes(&mut reader, &selected, options.x_axis).await?;
        let requested: Vec<RequestedSeries> = selected.into_iter().zip(axes).collect();
        if is_sent_in_pieces(options.density) {
            for requested in &requested {
                send_pieces(&mut reader, run, requested, &options, sender).await?;
            }
            continue;
        }
        for requested in requested.chunks(batch_size(options.density as usize)) {
            let series = loop {
                match samples(&mut reader, run, requested, &options).await {
                    Ok(series) => break series,
                    Err(error) => reader.renew(error)?,
                }
            };
            reader.send(sender, SampleResponse { series }).await?;
        }
    }
    Ok(())
}

/// Whether the points of a series at this density are too many to be read before they are sent.
pub(crate) fn is_sent_in_pieces(density: u32) -> bool {
    density == 0 || density as usize > MAX_POINTS
}

/// A series, and the series of its x axis.
type RequestedSeries = (SelectedSeries, Option<SeriesNumber>);

async fn axes(
    reader: &mut RunReader<'_>,
    selected: &[SelectedSeries],
    name: Option<&str>,
) -> Result<Vec<Option<SeriesNumber>>> {
    let Some(name) = name else { return Ok(vec![None; selected.len()]) };
    let key =
        |series: &SelectedSeries| SeriesKey { name: name.to_owned(), context: series.header.context.clone() };
    let keys: Vec<SeriesKey> = selected.iter().map(key).collect();
    Ok(select::find_by_keys(reader, &keys).await?.into_iter().map(|axis| Some(axis?.0)).collect())
}

async fn samples(
    reader: &mut RunReader<'_>,
    run: u32,
    requested: &[RequestedSeries],
    options: &SampleOptions<'_>,
) -> Result<Vec<SeriesPoints>> {
    let (snapshot, opened) = reader.run().await?;
    let numbers: Vec<_> = requested.iter().map(|(series, _)| series.number).collect();
    let views = opened.views(snapshot, &numbers).await?;
    let mut samples = Vec::with_capacity(requested.len());
    for ((series, axis), view) in requested.iter().zip(views) {
        let sampling = Sampling::Spread(options.density as usize);
        let chosen = view.sample(snapshot, options.steps, sampling).await?;
        let mut sample = columnar(&chosen, options.columns);
        if let Some(axis) = axis {
            let axis = opened.view(snapshot, *axis).await?;
            (sample.x_places, sample.x_values) = x_axis(snapshot, &axis, &chosen).await?;
        }
        sample.place = Some(Place { run, series: series.position });
        sample.info = Some(info(snapshot, &view, series).await?);
        samples.push(sample);
    }
    Ok(samples)
}

async fn info(snapshot: &dyn Snapshot, view: &SeriesView, series: &SelectedSeries) -> Result<SeriesInfo> {
    let summary = view.summary(snapshot).await?;
    Ok(view::metric_info(series.number, series.header.clone(), summary.as_ref()))
}

/// A series about to be read in pieces, with its description.
struct OpenedSeries {
    info: SeriesInfo,
    pieces: PointPieces,
    axis: Option<AxisReader>,
}

async fn open_series(
    reader: &mut RunReader<'_>,
    (series, axis): &RequestedSeries,
    steps: StepRange,
    density: u32,
) -> Result<OpenedSeries> {
    let open = async |snapshot: &dyn Snapshot, run: &RunSeries| {
        let view = run.view(snapshot, series.number).await?;
        let axis = match axis {
            Some(axis) => {
                Some(AxisReader::new(run.view(snapshot, *axis).await?.scan(snapshot, steps).await?))
            }
            None => None,
        };
        let info = info(snapshot, &view, series).await?;
        let pieces = PointPieces::at_density(snapshot, &view, steps, density).await?;
        Ok(OpenedSeries { info, pieces, axis })
    };
    loop {
        let (snapshot, run) = reader.run().await?;
        match open(snapshot, run).await {
            Err(error) => reader.renew(error)?,
            opened => return opened,
        }
    }
}

async fn send_pieces(
    reader: &mut RunReader<'_>,
    run: u32,
    requested: &RequestedSeries,
    options: &SampleOptions<'_>,
    sender: &Sender<SampleResponse>,
) -> Result<(), StreamEnd> {
    let place = Some(Place { run, series: requested.0.position });
    let OpenedSeries { info, mut pieces, mut axis } =
        open_series(reader, requested, options.steps, options.density).await?;
    let mut info = Some(info);
    while let Some((points, more)) = reader.next(&mut pieces).await? {
        let columns = full_columns(&points, options.columns);
        let mut piece = SeriesPoints { place, info: info.take(), more, ..columns };
        if let Some(axis) = &mut axis {
            (piece.x_places, piece.x_values) = loop {
                match axis.values(reader.snapshot().await?, &points.steps).await {
                    Err(error) => reader.renew(error)?,
                    values => break values?,
                }
            };
        }
        reader.send(sender, SampleResponse { series: vec![piece] }).await?;
    }
    Ok(())
}

/// The sample of a series for a search.
pub(crate) async fn sample_for_search(
    snapshot: &dyn Snapshot,
    series: &SeriesView,
    steps: StepRange,
    density: u32,
) -> Result<Points> {
    let limit = density as usize;
    let sampling = if density < BUCKETED_FROM { Sampling::Spread(limit) } else { Sampling::Buckets(limit) };
    Ok(series.sample(snapshot, steps, sampling).await?)
}

/// The values of the axis at the chosen steps: indexes of the steps that the axis has, and its
/// values there.
pub(crate) async fn x_axis(
    snapshot: &dyn Snapshot,
    axis: &SeriesView,
    chosen: &Points,
) -> Result<(Vec<u32>, Vec<f64>)> {
    let (Some(first), Some(last)) = (chosen.first(), chosen.last()) else {
        return Ok((Vec::new(), Vec::new()));
    };
    let scan = axis.scan(snapshot, StepRange::new(first.step, last.step)).await?;
    AxisReader::new(scan).values(snapshot, &chosen.steps).await
}

/// The requested columns, without those that have no values.
pub(crate) fn columnar(points: &Points, columns: PointColumns) -> SeriesPoints {
    let mut columns = full_columns(points, columns);
    for column in [&mut columns.epochs, &mut columns.times_us] {
        if column.iter().all(|value| *value == ABSENT) {
            column.clear();
        }
    }
    columns
}

/// The requested columns, each as long as the steps, so that the columns of several pieces can
/// be concatenated.
pub(crate) fn full_columns(points: &Points, columns: PointColumns) -> SeriesPoints {
    let integers = |options: bool, column: &[i64]| if options { column.to_vec() } else { Vec::new() };
    SeriesPoints {
        steps: points.steps.clone(),
        values: if columns.values { points.values.clone() } else { Vec::new() },
        epochs: integers(columns.epochs, &points.epochs),
        times_us: integers(columns.times, &points.times_us),
        ..SeriesPoints::default()
    }
}

/// Sends all points, series by series.
pub(crate) async fn send_all(
    deps: &Deps,
    run: RunRef,
    selected: Vec<SelectedSeries>,
    request: &PointsRequest,
    sender: &Sender<PointsResponse>,
) -> Result<(), StreamEnd> {
    let steps = convert::step_range(request.steps.as_ref());
    let columns = request.columns.unwrap_or(DEFAULT_COLUMNS);
    let of: Vec<fn(Points) -> SeriesPoints> = match request.by_column {
        false => Vec::new(),
        true => by_column(columns),
    };
    let mut reader = RunReader::for_run(deps, run);
    for series in selected {
        let place = Some(Place { run: 0, series: series.position });
        let OpenedSeries { info, pieces, .. } = open_series(&mut reader, &(series, None), steps, 0).await?;
        let mut info = Some(info);
        // Without `by_column`, a single pass sends all columns together.
        for column in 0..of.len().max(1) {
            let mut pieces = pieces.clone();
            while let Some((points, more)) = reader.next(&mut pieces).await? {
                let piece = match of.get(column) {
                    Some(of) => of(points),
                    None => full_columns(&points, columns),
                };
                let piece = SeriesPoints { place, info: info.take(), more, ..piece };
                reader.send(sender, PointsResponse { points: Some(piece) }).await?;
            }
        }
    }
    Ok(())
}

/// Extracts one column from points.
type Column = fn(Points) -> SeriesPoints;

/// The extractors of the requested columns, in the order in which they are sent.
fn by_column(columns: PointColumns) -> Vec<Column> {
    let all: [(bool, Column); 4] = [
        (true, |points| SeriesPoints { steps: points.steps, ..SeriesPoints::default() }),
        (columns.values, |points| SeriesPoints { values: points.values, ..SeriesPoints::default() }),
        (columns.epochs, |points| SeriesPoints { epochs: points.epochs, ..SeriesPoints::default() }),
        (columns.times, |points| SeriesPoints { times_us: points.times_us, ..SeriesPoints::default() }),
    ];
    all.into_iter().filter(|(options, _)| *options).map(|(_, column)| column).collect()
}
