//! Alternative x axes of charts: for each requested series, the values of another metric with
//! the same context, its epochs, or its times.

use matyan_model::{
    ids::SeriesNumber,
    series::{ABSENT, PointScan, Points, RunSeries, StepRange},
};
use matyan_proto::{
    common::v1::SeriesKey,
    limits,
    series::v1::{AlignRequest, AlignResponse, AlignSeries, AlignedSeries, align_request::Axis},
};
use matyan_store::Snapshot;

use super::{point_pieces::PointPieces, run_reader::RunReader, select};
use crate::server::{
    call::Call,
    convert,
    deps::Deps,
    error::{Error, Result},
    stream::{Sender, StreamEnd},
};

pub(super) fn check(request: &AlignRequest) -> Result<()> {
    convert::check_limit("runs", request.runs.len(), limits::RUNS_PER_CALL)?;
    let series = request.runs.iter().map(|run| run.series.len()).sum();
    convert::check_limit("series", series, limits::SERIES_PER_CALL)?;
    match &request.axis {
        Some(Axis::Metric(name)) => convert::check_limit("metric", name.len(), limits::NAME_BYTES),
        Some(_) => Ok(()),
        None => Err(Error::field("axis", "is missing: name a metric, or request epochs or times")),
    }
}

/// A requested series whose axis may exist.
struct RequestedSeries {
    index: u32,
    steps: StepRange,
    own: SeriesNumber,
    /// The series with the x values: the requested one, or another metric.
    axis: SeriesNumber,
}

/// A series whose axis exists.
struct AlignedScan {
    index: u32,
    scan: PointScan,
    x: XValue,
}

/// The x value of a point.
#[derive(Clone, Copy)]
enum XValue {
    Value,
    Epoch,
    /// Seconds since the given time.
    Time {
        from_us: i64,
    },
}

/// The columns sent in one pass over the points.
#[derive(Clone, Copy)]
struct Pass {
    values: bool,
    steps: bool,
}

const SINGLE_PASS: [Pass; 1] = [Pass { values: true, steps: true }];
const BY_COLUMN: [Pass; 2] = [Pass { values: true, steps: false }, Pass { values: false, steps: true }];

pub(super) async fn send(
    deps: &Deps,
    call: &Call,
    request: AlignRequest,
    sender: &Sender<AlignResponse>,
) -> Result<(), StreamEnd> {
    let axis = request.axis.unwrap_or(Axis::Time(true));
    for (run, of) in (0..).zip(&request.runs) {
        let Some(found) = deps.try_find_run(call, &of.run_id).await? else { continue };
        let mut reader = RunReader::new(deps, call, found);
        let response = |series| AlignResponse { run_id: of.run_id.clone(), run, series };
        let mut has_sent = false;
        for requested in selected(&mut reader, &axis, &of.series).await? {
            let Some(aligned) = open_aligned(&mut reader, &axis, &requested).await? else { continue };
            has_sent = true;
            let count = if request.by_column { count(&mut reader, &aligned).await? } else { 0 };
            for pass in if request.by_column { &BY_COLUMN[..] } else { &SINGLE_PASS[..] } {
                let mut pieces = PointPieces::all(aligned.scan.clone());
                let mut count = Some(count);
                while let Some((points, more)) = reader.next(&mut pieces).await? {
                    let count = count.take().unwrap_or_default();
                    let piece = AlignedSeries { more, count, ..piece(&aligned, &points, *pass) };
                    reader.send(sender, response(vec![piece])).await?;
                }
            }
        }
        // A run without aligned series still gets a response.
        if !has_sent {
            reader.send(sender, response(Vec::new())).await?;
        }
    }
    Ok(())
}

/// The requested series that exist, and whose axis may exist.
async fn selected(
    reader: &mut RunReader<'_>,
    axis: &Axis,
    requested: &[AlignSeries],
) -> Result<Vec<RequestedSeries>> {
    let keys: Vec<SeriesKey> =
        requested.iter().map(|series| series.key.clone().unwrap_or_default()).collect();
    let found = (0..).zip(requested).zip(select::find_by_keys(reader, &keys).await?);
    let found: Vec<_> = found.filter_map(|(requested, found)| Some((requested, found?))).collect();
    let own = |((index, series), (own, _)): &((u32, &AlignSeries), select::FoundSeries)| RequestedSeries {
        index: *index,
        steps: convert::step_range(series.steps),
        own: *own,
        axis: *own,
    };
    let Axis::Metric(name) = axis else { return Ok(found.iter().map(own).collect()) };
    let keys: Vec<SeriesKey> = found
        .iter()
        .map(|(_, (_, header))| SeriesKey { name: name.clone(), context: header.context.clone() })
        .collect();
    let axes = found.iter().map(own).zip(select::find_by_keys(reader, &keys).await?);
    Ok(axes.filter_map(|(requested, axis)| Some(RequestedSeries { axis: axis?.0, ..requested })).collect())
}

async fn open_aligned(
    reader: &mut RunReader<'_>,
    axis: &Axis,
    requested: &RequestedSeries,
) -> Result<Option<AlignedScan>> {
    loop {
        let (snapshot, run) = reader.run().await?;
        match align_series(snapshot, run, axis, requested).await {
            Err(error) => reader.renew(error)?,
            aligned => {
                reader.mark_used();
                return aligned;
            }
        }
    }
}

/// `None` if the axis is relative to the start of the series, and its start time is unknown.
async fn align_series(
    snapshot: &dyn Snapshot,
    run: &RunSeries,
    axis: &Axis,
    requested: &RequestedSeries,
) -> Result<Option<AlignedScan>> {
    let x = match axis {
        Axis::Metric(_) => XValue::Value,
        Axis::Epoch(_) => XValue::Epoch,
        Axis::Time(_) => XValue::Time { from_us: 0 },
        Axis::RelativeTime(_) => {
            let summary = run.view(snapshot, requested.own).await?.summary(snapshot).await?;
            let Some(from_us) = summary.and_then(|summary| summary.first.time_us()) else { return Ok(None) };
            XValue::Time { from_us }
        }
    };
    let scan = run.view(snapshot, requested.axis).await?.scan(snapshot, requested.steps).await?;
    Ok(Some(AlignedScan { index: requested.index, scan, x }))
}

/// Counts the points that have an x value.
async fn count(reader: &mut RunReader<'_>, series: &AlignedScan) -> Result<u64> {
    let mut pieces = PointPieces::all(series.scan.clone());
    let mut count = 0;
    while let Some((points, _)) = reader.next(&mut pieces).await? {
        count += (0..points.len()).filter(|at| series.x.at(&points, *at).is_some()).count() as u64;
    }
    Ok(count)
}

/// The points that have an x value.
fn piece(series: &AlignedScan, points: &Points, pass: Pass) -> AlignedSeries {
    let mut piece = AlignedSeries { series: series.index, ..AlignedSeries::default() };
    for at in 0..points.len() {
        let Some(x) = series.x.at(points, at) else { continue };
        if pass.values {
            piece.x_values.push(x);
        }
        if pass.steps {
            piece.steps.push(points.steps[at]);
        }
    }
    piece
}

impl XValue {
    fn at(self, points: &Points, at: usize) -> Option<f64> {
        let known = |column: &[i64]| Some(column[at]).filter(|value| *value != ABSENT);
        match self {
            Self::Value => Some(points.values[at]),
            Self::Epoch => known(&points.epochs).map(|epoch| epoch as f64),
            Self::Time { from_us } => {
                known(&points.times_us).map(|time| time.saturating_sub(from_us) as f64 / 1e6)
            }
        }
    }
}
