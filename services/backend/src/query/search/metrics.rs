//! Searches of metric series, with points by density, buckets by chart width, or neither.

use matyan_model::{
    ids::SeriesNumber,
    metric::metric_series_find,
    series::{RunRef, RunSeries, SeriesView, StepRange},
};
use matyan_proto::{
    limits,
    runs::v1::{Run, SeriesInfo},
    search::v1::{MetricsRequest, MetricsResponse, RunMetrics, metrics_request::Points},
    series::v1::{BucketColumn, PointColumns, SeriesBuckets, SeriesPoints},
};
use matyan_ql::{Endpoint, SequenceView as _};
use matyan_store::{Snapshot, Version};
use matyan_value::Context;
use prost::Message;

use super::sequences::{SequenceKind, SequencePage, SequenceSearch};
use crate::{
    query::{
        candidates::{Sequence, SequenceHeader},
        catalog::Catalog,
        plan::query_text,
        row_stream::MessageStatus,
    },
    series::{
        AxisReader, DEFAULT_COLUMNS, PointPieces, SplitOptions, SplitSeries, batch_size, bucket_columns,
        chart, columnar, is_sent_in_pieces, sample_for_search, x_axis,
    },
    server::{
        call::Call,
        convert,
        deps::Deps,
        error::{Error, Result},
    },
    view,
};

/// The data requested for each series.
pub(crate) struct MetricSequences {
    steps: StepRange,
    output: MetricOutput,
    /// Only series with these names; empty: all.
    names: Vec<String>,
}

enum MetricOutput {
    /// Every point, or a sample too large for one piece.
    Pieces(PieceOutput),
    Reduced(ReducedOutput),
}

struct PieceOutput {
    /// 0: all points.
    density: u32,
    x_axis: Option<String>,
    options: SplitOptions,
}

/// Data that fits into one piece, however long the series is.
enum ReducedOutput {
    Points { density: u32, columns: PointColumns, x_axis: Option<String> },
    Buckets { pixels: usize, columns: Vec<BucketColumn> },
    Info,
}

impl ReducedOutput {
    /// Maximum number of points or buckets per series.
    fn points(&self) -> usize {
        match self {
            Self::Points { density, .. } => *density as usize,
            Self::Buckets { pixels, .. } => *pixels,
            Self::Info => 0,
        }
    }
}

pub(crate) enum Piece {
    Points(Box<SeriesPoints>),
    Buckets(Box<SeriesBuckets>),
    Info(SeriesInfo),
}

pub(crate) async fn search(
    catalog: &Catalog,
    call: Call,
    request: MetricsRequest,
) -> Result<(SequenceSearch, MetricSequences)> {
    let steps = convert::step_range(request.steps);
    let bucket_columns = bucket_columns(request.bucket_columns());
    let output = match request.points {
        Some(Points::Density(density)) => {
            let columns = request.columns.unwrap_or(DEFAULT_COLUMNS);
            if let Some(name) = &request.x_axis {
                convert::check_limit("x_axis", name.len(), limits::NAME_BYTES)?;
            }
            let x_axis = request.x_axis;
            let has_x_axis = x_axis.is_some();
            let by_column = request.by_column;
            let options = SplitOptions { columns, has_x_axis, by_column };
            if is_sent_in_pieces(density) {
                MetricOutput::Pieces(PieceOutput { density, x_axis, options })
            } else {
                MetricOutput::Reduced(ReducedOutput::Points { density, columns, x_axis })
            }
        }
        Some(Points::Pixels(0)) => return Err(Error::field("pixels", "is 0: give at least 1")),
        Some(Points::Pixels(pixels)) => {
            convert::check_limit("pixels", pixels as usize, limits::POINTS_PER_SERIES)?;
            MetricOutput::Reduced(ReducedOutput::Buckets { pixels: pixels as usize, columns: bucket_columns })
        }
        Some(Points::None(_)) | None => MetricOutput::Reduced(ReducedOutput::Info),
    };
    let page = SequencePage::new(Endpoint::Metric, request.query.as_ref(), request.limit, request.cursor);
    let compiled = query_text::compile_query(&catalog.deps, request.query, Endpoint::Metric).await?;
    let search = SequenceSearch::new(catalog, call, compiled, request.parts, page)?;
    Ok((search, MetricSequences { steps, output, names: Vec::new() }))
}

impl SequenceKind for MetricSequences {
    type Message = MetricsResponse;
    type Row = RunMetrics;
    type Piece = Piece;
    type State = ReadState;

    async fn read(
        &self,
        _: &Deps,
        _: &Call,
        snapshot: &dyn Snapshot,
        run: RunRef,
        sequences: &[Sequence],
        open: &mut ReadState,
    ) -> Result<(Vec<Piece>, usize)> {
        match &self.output {
            MetricOutput::Pieces(output) => {
                let Some(sequence) = sequences.first() else { return Ok((Vec::new(), 0)) };
                if !self.names.is_empty() && !self.names.iter().any(|name| name == sequence.name()) {
                    return Ok((Vec::new(), 1));
                }
                // An open series was not sent completely by the previous call.
                if open.series.is_none() {
                    let opened = open_run(&mut open.run, snapshot, run).await?;
                    open.series = self.open(snapshot, opened, run, sequence, output).await?;
                }
                let Some(series) = &mut open.series else { return Ok((Vec::new(), 1)) };
                let piece = series.next(snapshot).await?;
                let is_read = series.is_complete();
                if is_read {
                    open.series = None;
                }
                let pieces = piece.map(|piece| Piece::Points(Box::new(piece)));
                Ok((pieces.into_iter().collect(), usize::from(is_read)))
            }
            MetricOutput::Reduced(reduced) => {
                let sequences = &sequences[..sequences.len().min(batch_size(reduced.points()))];
                let opened = open_run(&mut open.run, snapshot, run).await?;
                Ok((self.reduced(snapshot, opened, run, sequences, reduced).await?, sequences.len()))
            }
        }
    }

    fn is_partial(open: &ReadState) -> bool {
        open.series.is_some()
    }

    fn bytes(piece: &Piece) -> usize {
        match piece {
            Piece::Points(points) => points_bytes(points),
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

    fn message(runs: Vec<RunMetrics>, about: MessageStatus) -> MetricsResponse {
        let MessageStatus { progress, warnings, done, next_cursor, damaged_runs } = about;
        MetricsResponse { runs, progress, warnings, done, next_cursor, damaged_runs }
    }
}

/// Number of points above which the size of a piece is estimated. It decides only whether the piece shares a message
/// with others, and a long piece fills one.
const ESTIMATED_FROM: usize = 8 * 1024;

/// The size of points in a message, or an estimate of it: the exact size depends on each of their numbers.
fn points_bytes(points: &SeriesPoints) -> usize {
    let steps = points.steps.len() + points.x_places.len();
    let values = points.values.len() + points.x_values.len();
    let stamps = points.epochs.len() + points.times_us.len();
    if steps.max(values).max(stamps) < ESTIMATED_FROM {
        return points.encoded_len();
    }
    steps * STEP_BYTES + values * size_of::<f64>() + stamps * STAMP_BYTES
}

/// Usual size of a step, and largest size of an epoch or a time.
const STEP_BYTES: usize = 4;
const STAMP_BYTES: usize = 10;

impl MetricSequences {
    /// Only the series with these names, if there are any. For all points of each.
    pub(crate) fn with_names(self, names: Vec<String>) -> Self {
        Self { names, ..self }
    }

    /// Opens a series; `None` if it is not a metric.
    async fn open(
        &self,
        snapshot: &dyn Snapshot,
        opened: &RunSeries,
        run: RunRef,
        sequence: &Sequence,
        output: &PieceOutput,
    ) -> Result<Option<Box<SplitSeries>>> {
        let SequenceHeader::Metric(header) = &sequence.header else { return Ok(None) };
        let view = opened.view(snapshot, sequence.number).await?;
        let axis = match &output.x_axis {
            Some(name) => axis(snapshot, opened, run, name, &header.context).await?,
            None => None,
        };
        let axis = match axis {
            Some(axis) => Some(AxisReader::new(axis.scan(snapshot, self.steps).await?)),
            None => None,
        };
        let summary = view.summary(snapshot).await?;
        let info = view::metric_info(sequence.number, header.clone(), summary.as_ref());
        let pieces = PointPieces::at_density(snapshot, &view, self.steps, output.density).await?;
        Ok(Some(Box::new(SplitSeries::new(info, pieces, axis, output.options))))
    }

    async fn reduced(
        &self,
        snapshot: &dyn Snapshot,
        opened: &RunSeries,
        run: RunRef,
        sequences: &[Sequence],
        reduced: &ReducedOutput,
    ) -> Result<Vec<Piece>> {
        let numbers: Vec<SeriesNumber> = sequences.iter().map(|sequence| sequence.number).collect();
        let views = opened.views(snapshot, &numbers).await?;
        let mut pieces = Vec::with_capacity(sequences.len());
        for (sequence, series) in sequences.iter().zip(views) {
            let SequenceHeader::Metric(header) = &sequence.header else { continue };
            let summary = series.summary(snapshot).await?;
            let info = view::metric_info(sequence.number, header.clone(), summary.as_ref());
            pieces.push(match reduced {
                ReducedOutput::Info => Piece::Info(info),
                ReducedOutput::Buckets { pixels, columns } => {
                    let mut buckets = chart(snapshot, &series, self.steps, *pixels, columns).await?;
                    buckets.info = Some(info);
                    Piece::Buckets(Box::new(buckets))
                }
                ReducedOutput::Points { density, columns, x_axis } => {
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
        let chosen = sample_for_search(snapshot, series, self.steps, density).await?;
        let mut points = columnar(&chosen, columns);
        if let Some(axis) = axis {
            (points.x_places, points.x_values) = x_axis(snapshot, &axis, &chosen).await?;
        }
        Ok(points)
    }
}

/// State of a run kept between reads.
#[derive(Default)]
pub(crate) struct ReadState {
    run: CachedRun,
    /// A series that was sent only partly.
    series: Option<Box<SplitSeries>>,
}

/// The unfolded points of a run as of a version: reading them again for each series would
/// dominate the time.
type CachedRun = Option<(Version, RunSeries)>;

async fn open_run<'o>(
    opened: &'o mut CachedRun,
    snapshot: &dyn Snapshot,
    run: RunRef,
) -> Result<&'o RunSeries> {
    let version = snapshot.version();
    if opened.as_ref().is_none_or(|(of, _)| *of != version) {
        *opened = Some((version, RunSeries::open(snapshot, run).await?));
    }
    Ok(&opened.as_ref().expect("the series were opened above").1)
}

/// The x axis series with the same context.
async fn axis(
    snapshot: &dyn Snapshot,
    opened: &RunSeries,
    run: RunRef,
    name: &str,
    context: &str,
) -> Result<Option<SeriesView>> {
    let digest = Context::from_canonical(context.to_owned()).digest();
    match metric_series_find(snapshot, run.project, run.number, name, &digest).await? {
        Some(number) => Ok(Some(opened.view(snapshot, number).await?)),
        None => Ok(None),
    }
}
