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

use super::{reading::Reading, select, whole::Whole};
use crate::{
    Context,
    call::Call,
    convert,
    error::{Error, Result},
    stream::{End, Sender},
};

pub(super) fn check(request: &AlignRequest) -> Result<()> {
    convert::at_most("runs", request.runs.len(), limits::RUNS_PER_CALL)?;
    let series = request.runs.iter().map(|run| run.series.len()).sum();
    convert::at_most("series", series, limits::SERIES_PER_CALL)?;
    match &request.axis {
        Some(Axis::Metric(name)) => convert::at_most("metric", name.len(), limits::NAME_BYTES),
        Some(_) => Ok(()),
        None => Err(Error::field("axis", "is missing: name a metric, or request epochs or times")),
    }
}

/// A requested series whose axis may exist.
struct Asked {
    place: u32,
    steps: StepRange,
    own: SeriesNumber,
    /// The series with the x values: the requested one, or another metric.
    axis: SeriesNumber,
}

/// A series whose axis exists.
struct Aligned {
    place: u32,
    scan: PointScan,
    x: X,
}

/// The x value of a point.
#[derive(Clone, Copy)]
enum X {
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

const AT_ONCE: [Pass; 1] = [Pass { values: true, steps: true }];
const BY_COLUMN: [Pass; 2] = [Pass { values: true, steps: false }, Pass { values: false, steps: true }];

pub(super) async fn send(
    context: &Context,
    call: &Call,
    request: AlignRequest,
    sender: &Sender<AlignResponse>,
) -> Result<(), End> {
    let axis = request.axis.unwrap_or(Axis::Time(true));
    for (run, of) in (0..).zip(&request.runs) {
        let Some(found) = context.run_if_there(call, &of.run_id).await? else { continue };
        let mut reading = Reading::new(context, call, found);
        let answer = |series| AlignResponse { run_id: of.run_id.clone(), run, series };
        let mut is_told = false;
        for asked in selected(&mut reading, &axis, &of.series).await? {
            let Some(aligned) = opened(&mut reading, &axis, &asked).await? else { continue };
            is_told = true;
            let count = match request.by_column {
                true => count(&mut reading, &aligned).await?,
                false => 0,
            };
            for pass in if request.by_column { &BY_COLUMN[..] } else { &AT_ONCE[..] } {
                let (mut whole, mut count) = (Whole::new(aligned.scan.clone()), Some(count));
                while let Some((points, more)) = reading.next(&mut whole).await? {
                    let count = count.take().unwrap_or_default();
                    let piece = AlignedSeries { more, count, ..piece(&aligned, &points, *pass) };
                    reading.send(sender, answer(vec![piece])).await?;
                }
            }
        }
        // A run without aligned series still gets a response.
        if !is_told {
            reading.send(sender, answer(Vec::new())).await?;
        }
    }
    Ok(())
}

/// The requested series that exist, and whose axis may exist.
async fn selected(reading: &mut Reading<'_>, axis: &Axis, asked: &[AlignSeries]) -> Result<Vec<Asked>> {
    let keys: Vec<SeriesKey> = asked.iter().map(|series| series.key.clone().unwrap_or_default()).collect();
    let found = (0..).zip(asked).zip(select::named(reading, &keys).await?);
    let found: Vec<_> = found.filter_map(|(asked, found)| Some((asked, found?))).collect();
    let own = |((place, series), (own, _)): &((u32, &AlignSeries), select::Found)| Asked {
        place: *place,
        steps: convert::steps(series.steps.as_ref()),
        own: *own,
        axis: *own,
    };
    let Axis::Metric(name) = axis else { return Ok(found.iter().map(own).collect()) };
    let key = |(_, (_, header)): &(_, select::Found)| SeriesKey {
        name: name.clone(),
        context: header.context.clone(),
    };
    let keys: Vec<SeriesKey> = found.iter().map(key).collect();
    let axes = found.iter().map(own).zip(select::named(reading, &keys).await?);
    Ok(axes.filter_map(|(asked, axis)| Some(Asked { axis: axis?.0, ..asked })).collect())
}

async fn opened(reading: &mut Reading<'_>, axis: &Axis, asked: &Asked) -> Result<Option<Aligned>> {
    loop {
        let (snapshot, run) = reading.run().await?;
        match aligned(snapshot, run, axis, asked).await {
            Err(error) => reading.renew(error)?,
            aligned => {
                reading.has_served();
                return aligned;
            }
        }
    }
}

/// `None` if the axis is relative to the start of the series, and its start time is unknown.
async fn aligned(
    snapshot: &dyn Snapshot,
    run: &RunSeries,
    axis: &Axis,
    asked: &Asked,
) -> Result<Option<Aligned>> {
    let x = match axis {
        Axis::Metric(_) => X::Value,
        Axis::Epoch(_) => X::Epoch,
        Axis::Time(_) => X::Time { from_us: 0 },
        Axis::RelativeTime(_) => {
            let summary = run.view(snapshot, asked.own).await?.summary(snapshot).await?;
            let Some(from_us) = summary.and_then(|summary| summary.first.time_us()) else { return Ok(None) };
            X::Time { from_us }
        }
    };
    let scan = run.view(snapshot, asked.axis).await?.scan(snapshot, asked.steps).await?;
    Ok(Some(Aligned { place: asked.place, scan, x }))
}

/// Counts the points that have an x value.
async fn count(reading: &mut Reading<'_>, series: &Aligned) -> Result<u64> {
    let (mut whole, mut count) = (Whole::new(series.scan.clone()), 0);
    while let Some((points, _)) = reading.next(&mut whole).await? {
        count += (0..points.len()).filter(|at| series.x.of(&points, *at).is_some()).count() as u64;
    }
    Ok(count)
}

/// The points that have an x value.
fn piece(series: &Aligned, points: &Points, pass: Pass) -> AlignedSeries {
    let mut piece = AlignedSeries { series: series.place, ..AlignedSeries::default() };
    for at in 0..points.len() {
        let Some(x) = series.x.of(points, at) else { continue };
        if pass.values {
            piece.x_values.push(x);
        }
        if pass.steps {
            piece.steps.push(points.steps[at]);
        }
    }
    piece
}

impl X {
    fn of(self, points: &Points, at: usize) -> Option<f64> {
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
