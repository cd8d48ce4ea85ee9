//! The points of a metric. First come points that a later point of the same step has replaced, in the order in which
//! they were logged, then the shown points, by step. An answer that has all points is sorted as MLflow sorts it.

use futures::{StreamExt, stream};
use matyan_proto::common::v1::{SeriesKey, StepRange};
use matyan_proto::runs::v1::RunParts;
use matyan_proto::series::v1::{PointColumns, RunSelection, SampleRequest};
use serde_json::{Value, json};

use crate::batch::Point;
use crate::error::{MlflowError, Result};
use crate::fields::{Fields, missing};
use crate::list_answer::list_answer;
use crate::metric_log::{points_of, points_request};
use crate::names::check_run_id;
use crate::numbers::float;
use crate::run_names::REPEATED_CONTEXT;
use crate::run_view::{NO_CONTEXT, RunSnapshot, no_run};
use matyan_channels::{CALLS_AT_A_TIME, Channels, call_all, in_order, is_missing, run_apart};

/// Points in an answer without a page size. Current clients ask for pages of 25,000.
const DEFAULT_POINTS: u32 = 200_000;
const MAX_POINTS: u32 = 200_000;
/// Points of each run in charts.
const DEFAULT_SAMPLE: u32 = 320;
const MAX_SAMPLE: u32 = 2_500;
/// Points of all runs in `get-history-bulk`.
const MAX_BULK_POINTS: u32 = 25_000;
/// Runs in one request.
const MAX_RUNS: usize = 100;
/// Maximum number of runs whose points are read at the same time. If the answer gets full, some are read in vain.
const PAGES_AT_A_TIME: usize = 4;
/// Memory of a point in an answer.
const VIEW_BYTES: usize = 100;

/// The start of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// At the repeated point with this number.
    Repeated(i64),
    /// At the shown point with this step.
    Shown(i64),
}

impl Start {
    const BEGINNING: Self = Self::Repeated(i64::MIN);

    fn parse(token: Option<&str>) -> Result<Self> {
        let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(Self::BEGINNING) };
        let wrong = || MlflowError::invalid("Invalid page token: use one that `get-history` has returned");
        let (kind, number) = token.split_once(':').ok_or_else(wrong)?;
        let number = number.parse().map_err(|_| wrong())?;
        match kind {
            "repeated" => Ok(Self::Repeated(number)),
            "shown" => Ok(Self::Shown(number)),
            _ => Err(wrong()),
        }
    }

    fn token(self) -> String {
        match self {
            Self::Repeated(number) => format!("repeated:{number}"),
            Self::Shown(step) => format!("shown:{step}"),
        }
    }

    fn context(self) -> &'static str {
        match self {
            Self::Repeated(_) => REPEATED_CONTEXT,
            Self::Shown(_) => NO_CONTEXT,
        }
    }

    fn at(self, step: i64) -> Self {
        match self {
            Self::Repeated(_) => Self::Repeated(step),
            Self::Shown(_) => Self::Shown(step),
        }
    }

    fn step(self) -> i64 {
        match self {
            Self::Repeated(step) | Self::Shown(step) => step,
        }
    }
}

/// At most `limit` points from `start` on, and the start of the next points.
async fn read_page(
    channels: &Channels,
    run_id: &str,
    key: &str,
    mut start: Start,
    limit: usize,
) -> Result<(Vec<Point>, Option<Start>)> {
    let mut points = Vec::new();
    loop {
        let next = read_series(channels, run_id, key, start, limit, &mut points).await?;
        if next.is_some() {
            return Ok((points, next));
        }
        match start {
            Start::Repeated(_) => start = Start::Shown(i64::MIN),
            Start::Shown(_) => return Ok((points, None)),
        }
    }
}

/// Adds the points of one series until there are `limit`; returns the start of the next points.
async fn read_series(
    channels: &Channels,
    run_id: &str,
    key: &str,
    start: Start,
    limit: usize,
    points: &mut Vec<Point>,
) -> Result<Option<Start>> {
    let context = start.context();
    let steps = StepRange { start: Some(start.step()), stop: None };
    let read = channels.series().points(points_request(run_id, key, context, steps)).await;
    let mut messages = match read {
        Ok(response) => response.into_inner(),
        Err(status) if is_missing(&status) => return Err(no_run(run_id)),
        Err(status) => return Err(status.into()),
    };
    while let Some(message) = messages.message().await? {
        let piece = message.points.ok_or_else(|| MlflowError::broken("points"))?;
        let room = limit.saturating_sub(points.len());
        points.extend(points_of(&piece, context).into_iter().take(room));
        if let Some(step) = piece.steps.get(room) {
            return Ok(Some(start.at(*step)));
        }
    }
    Ok(None)
}

/// The views of points, which are sorted if they are all points of a metric.
fn point_views(key: &str, mut points: Vec<Point>, is_whole: bool) -> Value {
    if is_whole {
        sort(&mut points);
    }
    points.iter().map(|point| point_view(key, point)).collect()
}

fn point_view(key: &str, point: &Point) -> Value {
    json!({"key": key, "value": float(point.value), "timestamp": point.time_ms, "step": point.step})
}

/// Sorts points as MLflow does.
fn sort(points: &mut [Point]) {
    points.sort_by(|one, other| {
        let key = |point: &Point| (point.time_ms, point.step);
        key(one).cmp(&key(other)).then_with(|| one.value.total_cmp(&other.value))
    });
}

/// Checks that a run exists: a run without the metric has no points, and an unknown run is an error.
async fn check_run(channels: &Channels, run_id: &str) -> Result<()> {
    check_run_id(run_id).map_err(|_| no_run(run_id))?;
    RunSnapshot::read(channels, run_id, RunParts { props: true, ..RunParts::default() }).await?;
    Ok(())
}

async fn check_runs(channels: &Channels, run_ids: &[String]) -> Result<()> {
    call_all(CALLS_AT_A_TIME, run_ids.iter().map(|run_id| check_run(channels, run_id))).await?;
    Ok(())
}

pub(crate) async fn get_history(channels: &Channels, fields: &Fields) -> Result<Value> {
    let run_id = fields.run_id()?;
    let key = fields.required("metric_key")?;
    let token = fields.text("page_token")?;
    let limit = fields.max_results(DEFAULT_POINTS, MAX_POINTS)?;
    let start = Start::parse(token)?;
    check_run(channels, run_id).await?;
    let (points, next) = read_page(channels, run_id, key, start, limit as usize).await?;
    let is_whole = start == Start::BEGINNING && next.is_none();
    let key = key.to_owned();
    let bytes = points.len() * VIEW_BYTES;
    let views = run_apart(bytes, move || point_views(&key, points, is_whole)).await;
    Ok(list_answer("metrics", views, next.map(Start::token)))
}

/// The runs of a request for several runs, from `run_ids` and `run_id`. Clients may name a run twice.
fn run_ids(fields: &Fields) -> Result<Vec<String>> {
    let mut ids = fields.texts("run_ids")?;
    ids.extend(fields.texts("run_id")?);
    if ids.is_empty() {
        return Err(missing("run_ids"));
    }
    if ids.len() > MAX_RUNS {
        let message = format!("The request has more than {MAX_RUNS} 'run_ids': send several requests");
        return Err(MlflowError::invalid(message));
    }
    Ok(ids)
}

/// All points of a metric in several runs, by the ids of the runs as from MLflow's own server.
pub(crate) async fn get_history_bulk(channels: &Channels, fields: &Fields) -> Result<Value> {
    let key = fields.required("metric_key")?;
    let limit = fields.max_results(MAX_BULK_POINTS, MAX_BULK_POINTS)? as usize;
    let mut metrics = Vec::new();
    let mut ids = run_ids(fields)?;
    ids.sort_unstable();
    ids.dedup();
    check_runs(channels, &ids).await?;
    let most = MAX_BULK_POINTS as usize;
    let reads = ids.iter().map(|run_id| read_page(channels, run_id, key, Start::BEGINNING, most));
    let mut pages = stream::iter(&ids).zip(in_order(PAGES_AT_A_TIME, reads));
    while metrics.len() < limit
        && let Some((run_id, page)) = pages.next().await
    {
        let (points, _) = page?;
        let room = limit.saturating_sub(metrics.len());
        metrics.extend(first_points(points, room).iter().map(|point| view_with_run(key, point, run_id)));
    }
    Ok(list_answer("metrics", metrics, None))
}

/// The first points in MLflow's order. A point that was replaced by a later point is stored before all shown points, so
/// the points are sorted before some are left out.
fn first_points(mut points: Vec<Point>, count: usize) -> Vec<Point> {
    sort(&mut points);
    points.truncate(count);
    points
}

fn view_with_run(key: &str, point: &Point, run_id: &str) -> Value {
    let mut view = point_view(key, point);
    view["run_id"] = run_id.into();
    view
}

/// Points of a metric in several runs, thinned evenly over the steps.
pub(crate) async fn get_history_bulk_interval(channels: &Channels, fields: &Fields) -> Result<Value> {
    let key = fields.required("metric_key")?;
    let density = fields.max_results(DEFAULT_SAMPLE, MAX_SAMPLE)?;
    let start = fields.integer("start_step")?;
    let end = fields.integer("end_step")?;
    if start.is_some() != end.is_some() {
        let message = "Both start_step and end_step must be specified together, or neither may be specified.";
        return Err(MlflowError::invalid(message));
    }
    if start.zip(end).is_some_and(|(start, end)| start > end) {
        return Err(MlflowError::invalid("end_step must be greater than start_step"));
    }
    let ids = run_ids(fields)?;
    check_runs(channels, &ids).await?;
    let selection = |run_id: &String| RunSelection {
        run_id: run_id.clone(),
        keys: vec![SeriesKey { name: key.to_owned(), context: String::new() }],
        ..RunSelection::default()
    };
    let request = SampleRequest {
        runs: ids.iter().map(selection).collect(),
        steps: Some(StepRange { start, stop: end.and_then(|end| end.checked_add(1)) }),
        density,
        columns: Some(PointColumns { values: true, epochs: false, times: true }),
        ..SampleRequest::default()
    };
    let mut messages = channels.series().sample(request).await?.into_inner();
    let mut metrics = Vec::new();
    while let Some(message) = messages.message().await? {
        for piece in message.series {
            let run_id = piece.place.and_then(|place| ids.get(place.run as usize));
            let run_id = run_id.ok_or_else(|| MlflowError::broken("place"))?;
            let points = points_of(&piece, NO_CONTEXT);
            metrics.extend(points.iter().map(|point| view_with_run(key, point, run_id)));
        }
    }
    Ok(list_answer("metrics", metrics, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_points_are_the_earliest_ones() {
        let point = |step, time_ms, value| Point { step, time_ms, value };
        let repeated_first = vec![point(3, 1, 11.0), point(3, 1, 10.0), point(2, 1, 9.0), point(3, 2, 12.0)];
        let values = |count| -> Vec<f64> {
            first_points(repeated_first.clone(), count).iter().map(|point| point.value).collect()
        };
        assert_eq!(values(2), [9.0, 10.0]);
        assert_eq!(values(9), [9.0, 10.0, 11.0, 12.0]);
    }

    #[test]
    fn all_points_of_a_metric_are_sorted_and_a_page_is_not() {
        let points =
            vec![Point { step: 2, time_ms: 5, value: 1.0 }, Point { step: 1, time_ms: 4, value: f64::NAN }];
        let steps = |is_whole| -> Vec<Value> {
            let views = point_views("loss", points.clone(), is_whole);
            views.as_array().unwrap().iter().map(|view| view["step"].clone()).collect()
        };
        assert_eq!((steps(true), steps(false)), (vec![json!(1), json!(2)], vec![json!(2), json!(1)]));
    }

    #[test]
    fn tokens_are_read_back() {
        for start in [Start::Repeated(-5), Start::Shown(i64::MAX), Start::BEGINNING] {
            assert_eq!(Start::parse(Some(&start.token())).unwrap(), start);
        }
        assert_eq!(Start::parse(None).unwrap(), Start::BEGINNING);
        for wrong in ["5", "shown:x", "other:5"] {
            Start::parse(Some(wrong)).expect_err(wrong);
        }
    }
}
