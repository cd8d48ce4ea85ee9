//! The x axes of charts: for each asked series the values of another metric of its context, its epochs, or its times.

use std::ops::Range;

use matyan_model::{
    ids::SeriesNumber,
    series::{ABSENT, PointScan, Points, RunPlace, RunSeries},
};
use matyan_proto::{
    common::v1::SeriesKey,
    limits,
    series::v1::{AlignRequest, AlignResponse, AlignSeries, AlignedSeries, align_request::Axis},
};

use super::select;
use crate::{
    Context,
    call::Call,
    context::Found,
    convert,
    error::{Error, Result},
    stream::{End, Sender},
};

/// Points in one message: some 1 MB.
const PIECE: usize = 64 * 1024;

pub(super) fn check(request: &AlignRequest) -> Result<()> {
    convert::at_most("runs", request.runs.len(), limits::RUNS_PER_CALL)?;
    let series = request.runs.iter().map(|run| run.series.len()).sum();
    convert::at_most("series", series, limits::SERIES_PER_CALL)?;
    match &request.axis {
        Some(Axis::Metric(name)) => convert::at_most("metric", name.len(), limits::NAME_BYTES),
        Some(_) => Ok(()),
        None => Err(Error::field("axis", "is missing: name a metric, or ask for epochs or times")),
    }
}

/// A series whose axis is there.
struct Aligned {
    place: u32,
    scan: PointScan,
    x: X,
}

/// What of a point is its x.
#[derive(Clone, Copy)]
enum X {
    Value,
    Epoch,
    /// Seconds after this time.
    Time {
        from_us: i64,
    },
}

pub(super) async fn send(
    context: &Context,
    call: &Call,
    request: AlignRequest,
    sender: &Sender<AlignResponse>,
) -> Result<(), End> {
    let axis = request.axis.unwrap_or(Axis::Time(true));
    for (run, asked) in (0..).zip(&request.runs) {
        let Some(found) = context.run_if_there(call, &asked.run_id).await? else { continue };
        let aligned = aligned(call, &found, &axis, &asked.series).await?;
        drop(found);
        let answer = |series| AlignResponse { run_id: asked.run_id.clone(), run, series };
        if aligned.is_empty() {
            sender.send(answer(Vec::new())).await?;
        }
        for mut series in aligned {
            let mut is_begun = false;
            while let Some(points) = next(context, &mut series.scan).await? {
                for start in (0..points.len()).step_by(PIECE) {
                    let piece = piece(&series, &points, start..points.len().min(start + PIECE));
                    is_begun = true;
                    sender.send(answer(vec![piece])).await?;
                }
            }
            if !is_begun {
                let empty = AlignedSeries { series: series.place, ..AlignedSeries::default() };
                sender.send(answer(vec![empty])).await?;
            }
        }
    }
    Ok(())
}

/// Chunks never change in place, so each may be read from a snapshot of its own.
async fn next(context: &Context, scan: &mut PointScan) -> Result<Option<Points>> {
    let snapshot = context.store.snapshot().await?;
    Ok(scan.next(snapshot.as_ref()).await?)
}

/// The asked series that are there and have the axis.
async fn aligned(call: &Call, found: &Found, axis: &Axis, asked: &[AlignSeries]) -> Result<Vec<Aligned>> {
    let snapshot = found.snapshot.as_ref();
    let opened = RunSeries::open(snapshot, RunPlace { project: call.project, number: found.number }).await?;
    let mut aligned = Vec::with_capacity(asked.len());
    for (place, series) in (0..).zip(asked) {
        let key = series.key.clone().unwrap_or_default();
        let Some((own, header)) = select::named(snapshot, call, found, &key).await? else { continue };
        let steps = convert::steps(series.steps.as_ref());
        let (number, x) = match axis {
            Axis::Metric(name) => {
                let key = SeriesKey { name: name.clone(), context: header.context };
                let Some((number, _)) = select::named(snapshot, call, found, &key).await? else { continue };
                (number, X::Value)
            }
            Axis::Epoch(_) => (own, X::Epoch),
            Axis::Time(_) => (own, X::Time { from_us: 0 }),
            Axis::RelativeTime(_) => match begin(&opened, found, own).await? {
                Some(from_us) => (own, X::Time { from_us }),
                None => continue,
            },
        };
        let scan = opened.view(snapshot, number).await?.scan(snapshot, steps).await?;
        aligned.push(Aligned { place, scan, x });
    }
    Ok(aligned)
}

/// When the series began; `None` if that is not known.
async fn begin(opened: &RunSeries, found: &Found, number: SeriesNumber) -> Result<Option<i64>> {
    let snapshot = found.snapshot.as_ref();
    let summary = opened.view(snapshot, number).await?.summary(snapshot).await?;
    Ok(summary.and_then(|summary| summary.first.time_us()))
}

/// The points that have an x.
fn piece(series: &Aligned, points: &Points, range: Range<usize>) -> AlignedSeries {
    let mut piece = AlignedSeries { series: series.place, ..AlignedSeries::default() };
    for at in range {
        let x = match series.x {
            X::Value => Some(points.values[at]),
            X::Epoch => Some(points.epochs[at]).filter(|epoch| *epoch != ABSENT).map(|epoch| epoch as f64),
            X::Time { from_us } => {
                let known = Some(points.times_us[at]).filter(|time| *time != ABSENT);
                known.map(|time| time.saturating_sub(from_us) as f64 / 1e6)
            }
        };
        if let Some(x) = x {
            piece.x_values.push(x);
            piece.steps.push(points.steps[at]);
        }
    }
    piece
}
