//! Charts: at most as many buckets per series as the chart has pixels.

use std::{collections::VecDeque, sync::Arc};

use matyan_model::{
    ids::SeriesNumber,
    series::{RunRef, RunSeries, SeriesView, Stamps, StepRange, Summary},
};
use matyan_proto::series::v1::{BucketColumn, BucketsRequest, BucketsResponse, Place, SeriesBuckets};
use matyan_store::{Error as StoreError, Snapshot};
use prost::Message;
use tokio_util::task::AbortOnDropHandle;

use super::{
    chart_axis::{self, ChartAxis},
    grid::Grid,
    run_reader::{OpenRun, RunReader, batch_size},
    select::{self, SelectedSeries},
};
use crate::{
    server::{
        call::Call,
        convert,
        deps::Deps,
        error::{Error, Result},
        stream::{MESSAGE_BYTES, Sender, StreamEnd, task_error},
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
    deps: &Arc<Deps>,
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
    let mut queue = ChartQueue::new(deps, sender, options);
    let mut part = ChartPart::default();
    for (run, selection) in (0..).zip(&request.runs) {
        if part.is_empty() {
            queue.make_room(None).await?;
        }
        let Some(found) = deps.try_find_run(call, &selection.run_id).await? else { continue };
        let mut reader = RunReader::new(deps, call, found);
        let selected = select::series(&mut reader, selection, steps).await?;
        let selected = chart_axis::with_axes(&mut reader, selected, queue.options.axis.as_ref()).await?;
        let mut rest = selected.as_slice();
        while !rest.is_empty() {
            if part.is_empty() {
                queue.make_room(Some(&mut reader)).await?;
            }
            let (next, later) = rest.split_at(rest.len().min(queue.part_series - part.series));
            let open = reader.open_run().await?;
            reader.mark_used();
            part.add(RunPart { run, run_ref: reader.run_ref, open, selected: next.to_vec() });
            if part.series == queue.part_series || part.unfolded_bytes >= PART_BYTES {
                queue.start(std::mem::take(&mut part));
            }
            rest = later;
        }
    }
    queue.finish(part).await
}

struct ChartOptions {
    pixels: usize,
    grid: Option<Grid>,
    columns: Vec<BucketColumn>,
    stamps: Stamps,
    axis: Option<ChartAxis>,
}

/// A series, and the series of its x values.
type ChartSeries = (SelectedSeries, Option<SeriesNumber>);

/// Series of a run that are read together.
struct RunPart {
    /// Index in the request.
    run: u32,
    run_ref: RunRef,
    open: OpenRun,
    selected: Vec<ChartSeries>,
}

/// Series of a call that are read together, of one run or of several.
#[derive(Default)]
struct ChartPart {
    runs: Vec<RunPart>,
    series: usize,
    /// Bytes of the unfolded points of the runs, which are in memory.
    unfolded_bytes: usize,
}

/// The charts of a part.
struct ReadPart {
    charts: Vec<SeriesBuckets>,
    /// Whether its snapshots ended too early, so that newer ones were needed.
    is_renewed: bool,
}

impl ChartPart {
    fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    fn add(&mut self, run: RunPart) {
        self.series += run.selected.len();
        self.unfolded_bytes += run.open.run.unfolded_bytes();
        self.runs.push(run);
    }

    async fn read(self, deps: &Deps, options: &ChartOptions) -> Result<ReadPart> {
        let mut charts = Vec::with_capacity(self.series);
        let mut is_renewed = false;
        for part in self.runs {
            is_renewed = part.read(deps, options, is_renewed, &mut charts).await?;
        }
        Ok(ReadPart { charts, is_renewed })
    }
}

impl RunPart {
    /// Adds the charts of the run. When a snapshot expires, reading continues from a newer one after the charts that are
    /// complete. It fails if a new snapshot expires before a chart is complete, so that it always ends.
    ///
    /// `is_renewed` says that a snapshot of the part has expired. The snapshot of this run is about as old, so it is not
    /// tried. Returns whether any snapshot of the part has expired by now.
    async fn read(
        self,
        deps: &Deps,
        options: &ChartOptions,
        mut is_renewed: bool,
        charts: &mut Vec<SeriesBuckets>,
    ) -> Result<bool> {
        let Self { run, run_ref, open, selected } = self;
        let mut first = (!is_renewed).then_some(open);
        let mut rest = selected.as_slice();
        loop {
            let is_new = first.is_none();
            let OpenRun { snapshot, run: opened } = match first.take() {
                Some(open) => open,
                None => RunReader::for_run(deps, run_ref).open_run().await?,
            };
            let before = charts.len();
            let read = add_charts(charts, snapshot.as_ref(), &opened, run, rest, options).await;
            let added = charts.len() - before;
            match read {
                Ok(()) => return Ok(is_renewed),
                Err(Error::Store(StoreError::SnapshotTooOld)) if added > 0 || !is_new => {
                    is_renewed = true;
                    rest = &rest[added..];
                }
                Err(Error::Store(StoreError::SnapshotTooOld)) => return Err(Error::Waiting(SLOW_CHART)),
                Err(error) => return Err(error),
            }
        }
    }
}

const SLOW_CHART: &str = "the points of a metric were not read before the snapshot of the store expired";

/// Parts in memory, which are read at the same time, on as many threads: more would take the threads of other calls.
const PARTS_AT_ONCE: usize = 2;

/// Series of a part, so that the first ones are read while others are looked up. Reading fewer takes no longer than
/// handing them over to a thread.
const PART_SERIES: usize = 32;

/// Bytes of unfolded points after which a part ends: a run that is written has up to 16 MiB, and more if its worker is
/// late.
const PART_BYTES: usize = 4 << 20;

/// Reads the parts of a call on several threads, and sends their charts in the order of the request.
struct ChartQueue<'c> {
    deps: &'c Arc<Deps>,
    sender: &'c Sender<BucketsResponse>,
    options: Arc<ChartOptions>,
    /// Maximum number of series in a part.
    part_series: usize,
    /// Parts that are read at the same time.
    at_once: usize,
    reading: VecDeque<AbortOnDropHandle<Result<ReadPart>>>,
}

impl<'c> ChartQueue<'c> {
    fn new(deps: &'c Arc<Deps>, sender: &'c Sender<BucketsResponse>, options: ChartOptions) -> Self {
        // Parts together have as many buckets in memory as a call may have at a time.
        let series = batch_size(options.pixels);
        let at_once = PARTS_AT_ONCE.min(deps.evaluation.threads());
        let (part_series, at_once) = if at_once < PARTS_AT_ONCE || series < PARTS_AT_ONCE {
            (series, 1)
        } else {
            ((series / PARTS_AT_ONCE).min(PART_SERIES), PARTS_AT_ONCE)
        };
        let options = Arc::new(options);
        Self { deps, sender, options, part_series, at_once, reading: VecDeque::new() }
    }

    /// Waits until another part may be read. The reader drops its snapshot if the client is slow.
    async fn make_room(&mut self, mut reader: Option<&mut RunReader<'_>>) -> Result<(), StreamEnd> {
        while self.reading.len() >= self.at_once
            && let Some(first) = self.reading.pop_front()
        {
            let read = first.await.map_err(task_error)??;
            if let Some(reader) = reader.as_deref_mut().filter(|_| read.is_renewed) {
                reader.close();
            }
            self.send(read, reader.as_deref_mut()).await?;
        }
        Ok(())
    }

    fn start(&mut self, part: ChartPart) {
        let deps = self.deps.clone();
        let options = self.options.clone();
        let reading = self.sender.spawn(async move {
            let work = {
                let deps = deps.clone();
                Box::pin(async move { part.read(&deps, &options).await })
            };
            deps.evaluation.drive(work).await?
        });
        self.reading.push_back(reading);
    }

    /// Reads the last part here, because there is nothing else to do, and sends all charts that are left.
    async fn finish(mut self, last: ChartPart) -> Result<(), StreamEnd> {
        // The call has taken memory for the buckets of `at_once` parts, and the last part is one of them.
        self.make_room(None).await?;
        let last = Box::pin(last.read(self.deps, &self.options)).await?;
        while let Some(first) = self.reading.pop_front() {
            let read = first.await.map_err(task_error)??;
            self.send(read, None).await?;
        }
        self.send(last, None).await
    }

    async fn send(&self, read: ReadPart, mut reader: Option<&mut RunReader<'_>>) -> Result<(), StreamEnd> {
        for message in messages(read.charts) {
            match reader.as_deref_mut() {
                Some(reader) => reader.send(self.sender, message).await?,
                None => self.sender.send(message).await?,
            }
        }
        Ok(())
    }
}

/// Divides charts into messages.
fn messages(charts: Vec<SeriesBuckets>) -> Vec<BucketsResponse> {
    let mut messages = Vec::new();
    let mut message = BucketsResponse::default();
    let mut bytes = 0;
    for chart in charts {
        bytes += chart.encoded_len();
        message.series.push(chart);
        if bytes >= MESSAGE_BYTES {
            bytes = 0;
            messages.push(std::mem::take(&mut message));
        }
    }
    if !message.series.is_empty() {
        messages.push(message);
    }
    messages
}

/// Adds the charts of series of a run in their order, including the charts before an error.
async fn add_charts(
    charts: &mut Vec<SeriesBuckets>,
    snapshot: &dyn Snapshot,
    opened: &RunSeries,
    run: u32,
    selected: &[ChartSeries],
    options: &ChartOptions,
) -> Result<()> {
    let numbers: Vec<_> = selected.iter().map(|(series, _)| series.number).collect();
    let axes: Vec<_> = selected.iter().filter_map(|(_, axis)| *axis).collect();
    let mut axis_views = opened.views(snapshot, &axes).await?.into_iter();
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
    Ok(())
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
    let has_stamps =
        columns.iter().any(|column| matches!(column, BucketColumn::FirstTime | BucketColumn::LastTime));
    if has_stamps { Stamps::Read } else { Stamps::Skipped }
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
