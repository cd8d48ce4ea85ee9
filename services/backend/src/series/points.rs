//! Logged points: sampled at a density, or all of them in pieces.

use matyan_model::{
    ids::SeriesNumber,
    series::{Points, RunRef, RunSeries, Sampling, SeriesView, StepRange},
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
    columns::{Column, DEFAULT_COLUMNS, columnar, full_columns},
    point_pieces::{AxisReader, PointPieces},
    run_reader::{MAX_POINTS, RunReader, batch_size},
    select::{self, SelectedSeries},
    split_series::{SplitOptions, SplitSeries},
};
use crate::{
    server::{
        call::Call,
        convert,
        deps::Deps,
        error::Result,
        stream::{Sender, StreamEnd},
    },
    view,
};

/// Minimum density from which a search samples equal ranges of steps: charts of the published clients rely on
/// that.
const BUCKETED_FROM: u32 = 128;

/// The data requested for each series.
struct SampleOptions<'r> {
    density: u32,
    columns: PointColumns,
    x_axis: Option<&'r str>,
    by_column: bool,
}

impl SampleOptions<'_> {
    fn split(&self) -> SplitOptions {
        SplitOptions { columns: self.columns, has_x_axis: self.x_axis.is_some(), by_column: self.by_column }
    }
}

pub(crate) async fn send_samples(
    deps: &Deps,
    call: &Call,
    request: SampleRequest,
    sender: &Sender<SampleResponse>,
) -> Result<(), StreamEnd> {
    let steps = convert::step_range(request.steps);
    let options = SampleOptions {
        density: request.density,
        columns: request.columns.unwrap_or(DEFAULT_COLUMNS),
        x_axis: request.x_axis.as_deref(),
        by_column: request.by_column,
    };
    for (run, selection) in (0..).zip(&request.runs) {
        let Some(found) = deps.try_find_run(call, &selection.run_id).await? else { continue };
        let mut reader = RunReader::new(deps, call, found);
        let selected = select::series(&mut reader, selection, steps).await?;
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
pub(super) type RequestedSeries = (SelectedSeries, Option<SeriesNumber>);

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
        let chosen = view.sample(snapshot, series.steps, sampling).await?;
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
pub(super) struct OpenedSeries {
    pub(super) info: SeriesInfo,
    pub(super) pieces: PointPieces,
    axis: Option<AxisReader>,
}

pub(super) async fn open_series(
    reader: &mut RunReader<'_>,
    (series, axis): &RequestedSeries,
    density: u32,
) -> Result<OpenedSeries> {
    let open = async |snapshot: &dyn Snapshot, run: &RunSeries| {
        let view = run.view(snapshot, series.number).await?;
        let axis = match axis {
            Some(axis) => {
                Some(AxisReader::new(run.view(snapshot, *axis).await?.scan(snapshot, series.steps).await?))
            }
            None => None,
        };
        let info = info(snapshot, &view, series).await?;
        let pieces = PointPieces::at_density(snapshot, &view, series.steps, density).await?;
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
    let OpenedSeries { info, pieces, axis } = open_series(reader, requested, options.density).await?;
    let mut series = SplitSeries::new(info, pieces, axis, options.split());
    while !series.is_complete() {
        match series.next(reader.snapshot().await?).await {
            Ok(Some(piece)) => {
                let piece = SeriesPoints { place, ..piece };
                reader.send(sender, SampleResponse { series: vec![piece] }).await?;
            }
            Ok(None) => reader.mark_used(),
            Err(error) => reader.renew(error)?,
        }
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

/// Sends all points, series by series.
pub(crate) async fn send_all(
    deps: &Deps,
    run: RunRef,
    selected: Vec<SelectedSeries>,
    request: &PointsRequest,
    sender: &Sender<PointsResponse>,
) -> Result<(), StreamEnd> {
    let columns = request.columns.unwrap_or(DEFAULT_COLUMNS);
    // A single pass sends all columns together.
    let passes: Vec<Option<Column>> =
        if request.by_column { Column::requested(columns).map(Some).collect() } else { vec![None] };
    let mut reader = RunReader::for_run(deps, run);
    for series in selected {
        let place = Some(Place { run: 0, series: series.position });
        let OpenedSeries { info, pieces, .. } = open_series(&mut reader, &(series, None), 0).await?;
        let mut info = Some(info);
        for column in &passes {
            let mut pieces = pieces.clone();
            while let Some((points, more)) = reader.next(&mut pieces).await? {
                let piece = match column {
                    Some(column) => column.pick(full_columns(&points, column.only())),
                    None => full_columns(&points, columns),
                };
                let piece = SeriesPoints { place, info: info.take(), more, ..piece };
                reader.send(sender, PointsResponse { points: Some(piece) }).await?;
            }
        }
    }
    Ok(())
}
