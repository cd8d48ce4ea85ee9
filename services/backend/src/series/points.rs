//! Points as they were logged: thinned to a density, or every one of them in pieces.

use matyan_model::series::{ABSENT, Points, RunPlace, RunSeries, Sampling, SeriesView, StepRange};
use matyan_proto::{
    common::v1::SeriesKey,
    series::v1::{
        Place, PointColumns, PointsRequest, PointsResponse, SampleRequest, SampleResponse, SeriesPoints,
    },
};
use matyan_store::{Error as StoreError, Snapshot};

use super::select::{self, Selected};
use crate::{
    Context,
    call::Call,
    context::Found,
    convert,
    error::Result,
    stream::{End, Sender},
    view,
};

/// Densities from here on are sampled by equal parts of the steps, as charts of the published clients rely on.
const BUCKETED_FROM: u32 = 128;

/// Points in one message at full resolution: some 1.5 MB.
const PIECE: usize = 64 * 1024;

/// The columns of a request that names none.
pub(crate) const VALUES: PointColumns = PointColumns { values: true, epochs: false, times: false };

pub(crate) async fn send_samples(
    context: &Context,
    call: &Call,
    request: SampleRequest,
    sender: &Sender<SampleResponse>,
) -> Result<(), End> {
    let steps = convert::steps(request.steps.as_ref());
    let columns = request.columns.unwrap_or(VALUES);
    for (run, selection) in (0..).zip(&request.runs) {
        let Some(found) = context.run_if_there(call, &selection.run_id).await? else { continue };
        let selected = select::series(call, &found, selection).await?;
        let numbers: Vec<_> = selected.iter().map(|series| series.number).collect();
        let snapshot = found.snapshot.as_ref();
        let opened =
            RunSeries::open(snapshot, RunPlace { project: call.project, number: found.number }).await?;
        let views = opened.views(snapshot, &numbers).await?;
        let mut samples = Vec::with_capacity(selected.len());
        for (series, series_view) in selected.into_iter().zip(views) {
            let chosen = sample(snapshot, &series_view, steps, request.density).await?;
            let mut answer = columnar(&chosen, columns);
            if let Some(name) = &request.x_axis {
                let key = SeriesKey { name: name.clone(), context: series.header.context.clone() };
                if let Some((axis, _)) = select::named(snapshot, call, &found, &key).await? {
                    let axis = opened.view(snapshot, axis).await?;
                    (answer.x_places, answer.x_values) = x_axis(snapshot, &axis, &chosen).await?;
                }
            }
            let summary = series_view.summary(snapshot).await?;
            answer.place = Some(Place { run, series: series.place });
            answer.info = Some(view::metric_info(series.number, series.header, summary.as_ref()));
            samples.push(answer);
        }
        drop(found);
        for sample in samples {
            sender.send(SampleResponse { series: vec![sample] }).await?;
        }
    }
    Ok(())
}

pub(crate) async fn sample(
    snapshot: &dyn Snapshot,
    series: &SeriesView,
    steps: StepRange,
    density: u32,
) -> Result<Points> {
    let limit = density as usize;
    Ok(match density {
        0 => series.points(snapshot, steps).await?,
        _ if density < BUCKETED_FROM => series.sample(snapshot, steps, Sampling::Spread(limit)).await?,
        _ => series.sample(snapshot, steps, Sampling::Buckets(limit)).await?,
    })
}

/// For each chosen step that the axis has: its place among them, and the value.
pub(crate) async fn x_axis(
    snapshot: &dyn Snapshot,
    axis: &SeriesView,
    chosen: &Points,
) -> Result<(Vec<u32>, Vec<f64>)> {
    let (Some(first), Some(last)) = (chosen.first(), chosen.last()) else {
        return Ok((Vec::new(), Vec::new()));
    };
    let mut scan = axis.scan(snapshot, StepRange::new(first.step, last.step)).await?;
    let (mut places, mut values) = (Vec::new(), Vec::new());
    while let Some(points) = scan.next(snapshot).await? {
        for (place, step) in (0..).zip(&chosen.steps) {
            if let Ok(found) = points.steps.binary_search(step) {
                places.push(place);
                values.push(points.values[found]);
            }
        }
    }
    Ok((places, values))
}

pub(crate) fn columnar(points: &Points, columns: PointColumns) -> SeriesPoints {
    let known = |wanted: bool, column: &[i64]| {
        if wanted && column.iter().any(|value| *value != ABSENT) { column.to_vec() } else { Vec::new() }
    };
    SeriesPoints {
        steps: points.steps.clone(),
        values: if columns.values { points.values.clone() } else { Vec::new() },
        epochs: known(columns.epochs, &points.epochs),
        times_us: known(columns.times, &points.times_us),
        ..SeriesPoints::default()
    }
}

/// Every point, series after series. What is left to read when the snapshot has ended is read from a new one: chunks never
/// change in place.
pub(crate) async fn send_all(
    context: &Context,
    call: &Call,
    found: Found,
    selected: Vec<Selected>,
    request: &PointsRequest,
    sender: &Sender<PointsResponse>,
) -> Result<(), End> {
    let steps = convert::steps(request.steps.as_ref());
    let columns = request.columns.unwrap_or(VALUES);
    let mut snapshot = found.snapshot;
    let opened =
        RunSeries::open(snapshot.as_ref(), RunPlace { project: call.project, number: found.number }).await?;
    let numbers: Vec<_> = selected.iter().map(|series| series.number).collect();
    let views = opened.views(snapshot.as_ref(), &numbers).await?;
    let mut scans = Vec::with_capacity(selected.len());
    for (series, view) in selected.into_iter().zip(views) {
        let summary = view.summary(snapshot.as_ref()).await?;
        let scan = view.scan(snapshot.as_ref(), steps).await?;
        let info = view::metric_info(series.number, series.header, summary.as_ref());
        scans.push((Place { run: 0, series: series.place }, info, scan));
    }
    for (place, info, mut scan) in scans {
        let mut info = Some(info);
        loop {
            let points = match scan.next(snapshot.as_ref()).await {
                Err(StoreError::SnapshotTooOld) => {
                    snapshot = context.store.snapshot().await?;
                    scan.next(snapshot.as_ref()).await?
                }
                other => other?,
            };
            let Some(points) = points else { break };
            for start in (0..points.len()).step_by(PIECE) {
                let piece = points.slice(start..points.len().min(start + PIECE));
                let mut answer = columnar(&piece, columns);
                (answer.place, answer.info) = (Some(place), info.take());
                sender.send(PointsResponse { points: Some(answer) }).await?;
            }
        }
    }
    Ok(())
}
