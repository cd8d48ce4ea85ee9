//! Searching metric series: those that match, with points by density, buckets by width, or without either.

use std::sync::Arc;

use matyan_model::{
    context::Context as SeriesContext,
    ids::SeriesNumber,
    metric::metric_series_find,
    series::{Points as Columns, RunPlace, RunSeries, SeriesView, StepRange},
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
    series::{Axis, Whole, at_once, bucket_columns, chart, columnar, sample, x_axis},
    view,
};

/// What is asked for of each series.
pub(super) struct Metrics {
    steps: StepRange,
    wanted: Wanted,
}

enum Wanted {
    Points { density: u32, columns: PointColumns, x_axis: Option<String> },
    Whole { columns: PointColumns, x_axis: Option<String> },
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
            match density {
                0 => Wanted::Whole { columns, x_axis: request.x_axis },
                density => Wanted::Points { density, columns, x_axis: request.x_axis },
            }
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
    type Open = OpenSeries;

    async fn read(
        &self,
        _: &Context,
        _: &Call,
        snapshot: &dyn Snapshot,
        run: RunPlace,
        sequences: &[Sequence],
        open: &mut Option<OpenSeries>,
    ) -> Result<(Vec<Piece>, usize)> {
        let points = match &self.wanted {
            Wanted::Whole { columns, x_axis } => {
                let Some(sequence) = sequences.first() else { return Ok((Vec::new(), 0)) };
                if open.is_none() {
                    *open = self.open(snapshot, run, sequence, x_axis.as_deref()).await?;
                }
                let Some(series) = open else { return Ok((Vec::new(), 1)) };
                let piece = series.next(snapshot, *columns).await?;
                let is_read = piece.as_ref().is_none_or(|piece| !piece.more);
                if is_read {
                    *open = None;
                }
                let pieces = piece.map(|piece| Piece::Points(Box::new(piece)));
                return Ok((pieces.into_iter().collect(), usize::from(is_read)));
            }
            Wanted::Points { density, .. } => *density as usize,
            Wanted::Buckets { pixels, .. } => *pixels,
            Wanted::Nothing => 0,
        };
        let sequences = &sequences[..sequences.len().min(at_once(points))];
        let opened = RunSeries::open(snapshot, run).await?;
        let numbers: Vec<SeriesNumber> = sequences.iter().map(|sequence| sequence.number).collect();
        let views = opened.views(snapshot, &numbers).await?;
        let mut pieces = Vec::with_capacity(sequences.len());
        for (sequence, series) in sequences.iter().zip(views) {
            let SequenceHeader::Metric(header) = &sequence.header else { continue };
            let summary = series.summary(snapshot).await?;
            let info = view::metric_info(sequence.number, header.clone(), summary.as_ref());
            pieces.push(match &self.wanted {
                Wanted::Nothing | Wanted::Whole { .. } => Piece::Info(info),
                Wanted::Buckets { pixels, columns } => {
                    let mut buckets = chart(snapshot, &series, self.steps, *pixels, columns).await?;
                    buckets.info = Some(info);
                    Piece::Buckets(Box::new(buckets))
                }
                Wanted::Points { density, columns, x_axis } => {
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
        Ok((pieces, sequences.len()))
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
    /// `None` of what is no metric.
    async fn open(
        &self,
        snapshot: &dyn Snapshot,
        run: RunPlace,
        sequence: &Sequence,
        x_axis: Option<&str>,
    ) -> Result<Option<OpenSeries>> {
        let SequenceHeader::Metric(header) = &sequence.header else { return Ok(None) };
        let opened = RunSeries::open(snapshot, run).await?;
        let view = opened.view(snapshot, sequence.number).await?;
        let axis = match x_axis {
            Some(name) => axis(snapshot, &opened, run, name, &header.context).await?,
            None => None,
        };
        let axis = match axis {
            Some(axis) => Some(Axis::new(axis.scan(snapshot, self.steps).await?)),
            None => None,
        };
        let summary = view.summary(snapshot).await?;
        let info = Some(view::metric_info(sequence.number, header.clone(), summary.as_ref()));
        let whole = Whole::new(view.scan(snapshot, self.steps).await?);
        Ok(Some(OpenSeries { info, whole, axis, points: None }))
    }

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

/// A series of which every point is sent.
pub(super) struct OpenSeries {
    /// Until the first piece is sent.
    info: Option<SeriesInfo>,
    whole: Whole,
    axis: Option<Axis>,
    /// Read, while its x axis is still to be.
    points: Option<(Columns, bool)>,
}

impl OpenSeries {
    async fn next(&mut self, snapshot: &dyn Snapshot, columns: PointColumns) -> Result<Option<SeriesPoints>> {
        if self.points.is_none() {
            self.points = self.whole.next(snapshot).await?;
        }
        let Some((points, more)) = &self.points else { return Ok(None) };
        let mut piece = SeriesPoints { more: *more, ..columnar(points, columns) };
        if let Some(axis) = &mut self.axis {
            (piece.x_places, piece.x_values) = axis.values(snapshot, &points.steps).await?;
        }
        (self.points, piece.info) = (None, self.info.take());
        Ok(Some(piece))
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
