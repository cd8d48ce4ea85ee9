//! Searching metric series: those that match, with points by density, buckets by width, or without either.

use std::sync::Arc;

use matyan_model::{
    context::Context as SeriesContext,
    ids::SeriesNumber,
    metric::metric_series_find,
    series::{RunPlace, RunSeries, SeriesView, StepRange, Summary},
};
use matyan_proto::{
    limits,
    runs::v1::{Run, SeriesInfo},
    search::v1::{MetricsRequest, MetricsResponse, RunMetrics, metrics_request::Points},
    series::v1::{BucketColumn, PointColumns, SeriesBuckets, SeriesPoints},
};
use matyan_ql::Endpoint;
use matyan_store::Snapshot;
use prost::Message;

use super::{
    candidate::{Sequence, SequenceHeader},
    sequences::{About, Kind, SequenceSearch},
    text,
};
use crate::{
    Context,
    call::Call,
    convert,
    error::{Error, Result},
    series::{bucket_columns, chart, columnar, sample, x_axis},
    view,
};

/// Points of the sequences that are read at once: a few MB at most.
const POINTS: usize = 60_000;
/// Sequences without points that are read at once.
const LISTED: usize = 1_000;
/// The longest series that goes into one message whole.
const WHOLE_SERIES: u64 = 300_000;

/// What is asked for of each series.
pub(super) struct Metrics {
    steps: StepRange,
    wanted: Wanted,
}

enum Wanted {
    Points { density: u32, columns: PointColumns, x_axis: Option<String> },
    Buckets { pixels: usize, columns: Vec<BucketColumn> },
    Nothing,
}

pub(super) enum Piece {
    Points(Box<SeriesPoints>),
    Buckets(Box<SeriesBuckets>),
    Info(SeriesInfo),
}

pub(super) fn search(
    context: Arc<Context>,
    call: Call,
    request: MetricsRequest,
) -> Result<(SequenceSearch, Metrics)> {
    let steps = convert::steps(request.steps.as_ref());
    let bucket_columns = bucket_columns(request.bucket_columns());
    let wanted = match request.points {
        Some(Points::Density(density)) => {
            convert::at_most("density", density as usize, limits::POINTS_PER_SERIES)?;
            let columns = request.columns.unwrap_or(crate::series::VALUES);
            if let Some(name) = &request.x_axis {
                convert::at_most("x_axis", name.len(), limits::NAME_BYTES)?;
            }
            Wanted::Points { density, columns, x_axis: request.x_axis }
        }
        Some(Points::Pixels(0)) => return Err(Error::field("pixels", "is 0: ask for at least 1")),
        Some(Points::Pixels(pixels)) => {
            convert::at_most("pixels", pixels as usize, limits::POINTS_PER_SERIES)?;
            Wanted::Buckets { pixels: pixels as usize, columns: bucket_columns }
        }
        Some(Points::None(_)) | None => Wanted::Nothing,
    };
    let compiled = text::compiled(&context, request.query, Endpoint::Metric)?;
    let search = SequenceSearch::new(context, call, compiled, request.parts, request.limit)?;
    Ok((search, Metrics { steps, wanted }))
}

impl Kind for Metrics {
    type Message = MetricsResponse;
    type Row = RunMetrics;
    type Piece = Piece;

    fn at_once(&self) -> usize {
        match &self.wanted {
            Wanted::Points { density: 0, .. } => 1,
            Wanted::Points { density, .. } => (POINTS / *density as usize).clamp(1, LISTED),
            Wanted::Buckets { pixels, .. } => (POINTS / pixels).clamp(1, LISTED),
            Wanted::Nothing => LISTED,
        }
    }

    async fn read(
        &self,
        _: &Context,
        _: &Call,
        snapshot: &dyn Snapshot,
        run: RunPlace,
        sequences: &[Sequence],
    ) -> Result<Vec<Piece>> {
        let opened = RunSeries::open(snapshot, run).await?;
        let numbers: Vec<SeriesNumber> = sequences.iter().map(|sequence| sequence.number).collect();
        let views = opened.views(snapshot, &numbers).await?;
        let mut pieces = Vec::with_capacity(sequences.len());
        for (sequence, series) in sequences.iter().zip(views) {
            let SequenceHeader::Metric(header) = &sequence.header else { continue };
            let summary = series.summary(snapshot).await?;
            let info = view::metric_info(sequence.number, header.clone(), summary.as_ref());
            pieces.push(match &self.wanted {
                Wanted::Nothing => Piece::Info(info),
                Wanted::Buckets { pixels, columns } => {
                    let mut buckets = chart(snapshot, &series, self.steps, *pixels, columns).await?;
                    buckets.info = Some(info);
                    Piece::Buckets(Box::new(buckets))
                }
                Wanted::Points { density, columns, x_axis } => {
                    check_length(*density, summary.as_ref())?;
                    let axis = match x_axis {
                        Some(name) => axis(snapshot, &opened, run, name, &header.context).await?,
                        None => None,
                    };
                    let mut points = self.points(snapshot, &series, *density, *columns, axis).await?;
                    points.info = Some(info);
                    Piece::Points(Box::new(points))
                }
            });
        }
        Ok(pieces)
    }

    fn bytes(piece: &Piece) -> usize {
        match piece {
            Piece::Points(points) => points.encoded_len(),
            Piece::Buckets(buckets) => buckets.encoded_len(),
            Piece::Info(info) => info.encoded_len(),
        }
    }

    fn row(&self, run: Run, pieces: Vec<Piece>, more: bool) -> RunMetrics {
        let mut row = RunMetrics { run: Some(run), more, ..RunMetrics::default() };
        for piece in pieces {
            match piece {
                Piece::Points(points) => row.points.push(*points),
                Piece::Buckets(buckets) => row.buckets.push(*buckets),
                Piece::Info(info) => row.series.push(info),
            }
        }
        row
    }

    fn message(runs: Vec<RunMetrics>, about: About) -> MetricsResponse {
        let About { progress, warnings, done } = about;
        MetricsResponse { runs, progress, warnings, done }
    }
}

impl Metrics {
    async fn points(
        &self,
        snapshot: &dyn Snapshot,
        series: &SeriesView,
        density: u32,
        columns: PointColumns,
        axis: Option<SeriesView>,
    ) -> Result<SeriesPoints> {
        let chosen = sample(snapshot, series, self.steps, density).await?;
        let mut points = columnar(&chosen, columns);
        if let Some(axis) = axis {
            (points.x_places, points.x_values) = x_axis(snapshot, &axis, &chosen).await?;
        }
        Ok(points)
    }
}

fn check_length(density: u32, summary: Option<&Summary>) -> Result<()> {
    match summary.map_or(0, |summary| summary.count) {
        count if density == 0 && count > WHOLE_SERIES => {
            let size = usize::try_from(count).unwrap_or(usize::MAX);
            Err(Error::TooLarge { field: "density", size, limit: WHOLE_SERIES as usize })
        }
        _ => Ok(()),
    }
}

/// The series of the x axis in the same context.
async fn axis(
    snapshot: &dyn Snapshot,
    opened: &RunSeries,
    run: RunPlace,
    name: &str,
    context: &str,
) -> Result<Option<SeriesView>> {
    let digest = SeriesContext::from_canonical(context.to_owned()).digest();
    match metric_series_find(snapshot, run.project, run.number, name, &digest).await? {
        Some(number) => Ok(Some(opened.view(snapshot, number).await?)),
        None => Ok(None),
    }
}
