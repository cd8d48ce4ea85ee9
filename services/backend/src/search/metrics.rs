//! Searches of metric series, with points by density, buckets by chart width, or neither.

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
use matyan_store::{Snapshot, Version};
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
    series::{Axis, Whole, at_once, bucket_columns, chart, columnar, sample, whole_columns, x_axis},
    view,
};

/// The data requested for each series.
pub(super) struct Metrics {
    steps: StepRange,
    wanted: NeedSet,
}

enum NeedSet {
    /// Every point, in pieces.
    Whole {
        columns: PointColumns,
        x_axis: Option<String>,
    },
    Short(Short),
}

/// Data that fits into one piece, however long the series is.
enum Short {
    Points { density: u32, columns: PointColumns, x_axis: Option<String> },
    Buckets { pixels: usize, columns: Vec<BucketColumn> },
    Info,
}

impl Short {
    /// Maximum number of points or buckets per series.
    fn points(&self) -> usize {
        match self {
            Self::Points { density, .. } => *density as usize,
            Self::Buckets { pixels, .. } => *pixels,
            Self::Info => 0,
        }
    }
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
                0 => NeedSet::Whole { columns, x_axis: request.x_axis },
                density => NeedSet::Short(Short::Points { density, columns, x_axis: request.x_axis }),
            }
        }
        Some(Points::Pixels(0)) => return Err(Error::field("pixels", "is 0: give at least 1")),
        Some(Points::Pixels(pixels)) => {
            convert::at_most("pixels", pixels as usize, limits::POINTS_PER_SERIES)?;
            NeedSet::Short(Short::Buckets { pixels: pixels as usize, columns: bucket_columns })
        }
        Some(Points::None(_)) | None => NeedSet::Short(Short::Info),
    };
    let compiled = text::compiled(&context, request.query, Endpoint::Metric)?;
    let search = SequenceSearch::new(context, call, compiled, request.parts, request.limit)?;
    Ok((search, Metrics { steps, wanted }))
}

impl Kind for Metrics {
    type Message = MetricsResponse;
    type Row = RunMetrics;
    type Piece = Piece;
    type Open = Open;

    async fn read(
        &self,
        _: &Context,
        _: &Call,
        snapshot: &dyn Snapshot,
        run: RunPlace,
        sequences: &[Sequence],
        open: &mut Open,
    ) -> Result<(Vec<Piece>, usize)> {
        match &self.wanted {
            NeedSet::Whole { columns, x_axis } => {
                let Some(sequence) = sequences.first() else { return Ok((Vec::new(), 0)) };
                // An open series was not sent completely by the previous call.
                if open.series.is_none() {
                    let opened = opened(&mut open.run, snapshot, run).await?;
                    open.series = self.open(snapshot, opened, run, sequence, x_axis.as_deref()).await?;
                }
                let Some(series) = &mut open.series else { return Ok((Vec::new(), 1)) };
                let piece = series.next(snapshot, *columns).await?;
                let is_read = piece.as_ref().is_none_or(|piece| !piece.more);
                if is_read {
                    open.series = None;
                }
                let pieces = piece.map(|piece| Piece::Points(Box::new(piece)));
                Ok((pieces.into_iter().collect(), usize::from(is_read)))
            }
            NeedSet::Short(short) => {
                let sequences = &sequences[..sequences.len().min(at_once(short.points()))];
                let opened = opened(&mut open.run, snapshot, run).await?;
                Ok((self.short(snapshot, opened, run, sequences, short).await?, sequences.len()))
            }
        }
    }

    fn is_inside(open: &Open) -> bool {
        open.series.is_some()
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
    /// Opens a series; `None` if it is not a metric.
    async fn open(
        &self,
        snapshot: &dyn Snapshot,
        opened: &RunSeries,
        run: RunPlace,
        sequence: &Sequence,
        x_axis: Option<&str>,
    ) -> Result<Option<OpenSeries>> {
        let SequenceHeader::Metric(header) = &sequence.header else { return Ok(None) };
        let view = opened.view(snapshot, sequence.number).await?;
        let axis = match x_axis {
            Some(name) => axis(snapshot, opened, run, name, &header.context).await?,
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

    async fn short(
        &self,
        snapshot: &dyn Snapshot,
        opened: &RunSeries,
        run: RunPlace,
        sequences: &[Sequence],
        short: &Short,
    ) -> Result<Vec<Piece>> {
        let numbers: Vec<SeriesNumber> = sequences.iter().map(|sequence| sequence.number).collect();
        let views = opened.views(snapshot, &numbers).await?;
        let mut pieces = Vec::with_capacity(sequences.len());
        for (sequence, series) in sequences.iter().zip(views) {
            let SequenceHeader::Metric(header) = &sequence.header else { continue };
            let summary = series.summary(snapshot).await?;
            let info = view::metric_info(sequence.number, header.clone(), summary.as_ref());
            pieces.push(match short {
                Short::Info => Piece::Info(info),
                Short::Buckets { pixels, columns } => {
                    let mut buckets = chart(snapshot, &series, self.steps, *pixels, columns).await?;
                    buckets.info = Some(info);
                    Piece::Buckets(Box::new(buckets))
                }
                Short::Points { density, columns, x_axis } => {
                    let axis = match x_axis {
                        Some(name) => axis(snapshot, opened, run, name, &header.context).await?,
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

/// State of a run kept between reads.
#[derive(Default)]
pub(super) struct Open {
    run: Opened,
    series: Option<OpenSeries>,
}

/// The unfolded points of a run as of a version: reading them again for each series would
/// dominate the time.
type Opened = Option<(Version, RunSeries)>;

async fn opened<'o>(opened: &'o mut Opened, snapshot: &dyn Snapshot, run: RunPlace) -> Result<&'o RunSeries> {
    let version = snapshot.version();
    if opened.as_ref().is_none_or(|(of, _)| *of != version) {
        *opened = Some((version, RunSeries::open(snapshot, run).await?));
    }
    Ok(&opened.as_ref().expect("the series were opened above").1)
}

/// A series whose points are all sent.
struct OpenSeries {
    /// Sent with the first piece.
    info: Option<SeriesInfo>,
    whole: Whole,
    axis: Option<Axis>,
    /// Points already read whose x axis has not been read yet.
    points: Option<(Columns, bool)>,
}

impl OpenSeries {
    async fn next(&mut self, snapshot: &dyn Snapshot, columns: PointColumns) -> Result<Option<SeriesPoints>> {
        if self.points.is_none() {
            self.points = self.whole.next(snapshot).await?;
        }
        let Some((points, more)) = &self.points else { return Ok(None) };
        let mut piece = SeriesPoints { more: *more, ..whole_columns(points, columns) };
        if let Some(axis) = &mut self.axis {
            (piece.x_places, piece.x_values) = axis.values(snapshot, &points.steps).await?;
        }
        (self.points, piece.info) = (None, self.info.take());
        Ok(Some(piece))
    }
}

/// The x axis series with the same context.
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
