//! The places of the points of metrics. MLflow keeps every point that differs in its step, time or value, and a
//! series has one point for each step. So the series of the metric has the latest point of each step, which MLflow
//! shows as well. A second series has the other points, one after another, with their steps as epochs. A stored point
//! is not stored a second time, because clients repeat requests.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::{StreamExt, stream};
use matyan_proto::common::v1::{SeriesKey, StepRange};
use matyan_proto::runs::v1::SeriesInfo;
use matyan_proto::series::v1::{PointColumns, PointsRequest, RunSelection, SeriesPoints};

use crate::batch::{Point, RunBatch};
use crate::error::{MlflowError, Result};
use crate::logged_metric::LoggedMetric;
use crate::run_names::REPEATED_CONTEXT;
use crate::run_view::{NO_CONTEXT, list_series};
use matyan_channels::{CALLS_AT_A_TIME, Channels, in_order};

/// The number of repeated points among which a new point is looked up. Requests are repeated soon, so the repeated
/// points of the last two requests are enough, each with the most points that a request may have. Reading all of them
/// would make a long series of one step slow.
const COMPARED_POINTS: i64 = 2_000;

/// The identity of a point: equal points are the same point. All NaN are equal.
type PointIdentity = (i64, i64, u64);

fn identity(point: &Point) -> PointIdentity {
    let value = if point.value.is_nan() { f64::NAN } else { point.value };
    (point.step, point.time_ms, value.to_bits())
}

/// Returns whether a point is shown instead of another point of the same step.
fn is_later(point: &Point, other: &Point) -> bool {
    // NaN is the smallest value, as in MLflow's database.
    let key = |point: &Point| (point.time_ms, !point.value.is_nan());
    match key(point).cmp(&key(other)) {
        std::cmp::Ordering::Equal => point.value > other.value,
        order => order.is_gt(),
    }
}

/// The stored points of a metric on which new points depend.
#[derive(Clone, Debug, Default)]
struct StoredMetric {
    /// The stored points at the steps of new points.
    by_step: HashMap<i64, Point>,
    /// The last repeated points.
    repeated: BTreeSet<PointIdentity>,
}

/// The points to store of a metric.
#[derive(Clone, Debug, Default, PartialEq)]
struct NewPoints {
    by_step: BTreeMap<i64, usize>,
    shown: Vec<Point>,
    repeated: Vec<Point>,
}

impl PartialEq for Point {
    fn eq(&self, other: &Self) -> bool {
        identity(self) == identity(other)
    }
}

impl NewPoints {
    /// Sorts new points of a metric into shown and repeated points.
    fn new(points: &[Point], mut stored: StoredMetric) -> Self {
        let mut new = Self::default();
        for point in points {
            match stored.by_step.get(&point.step) {
                None => new.show(*point),
                Some(shown) if identity(shown) == identity(point) => continue,
                Some(shown) => {
                    if stored.repeated.contains(&identity(point)) {
                        continue;
                    }
                    let shown = *shown;
                    let (later, earlier) =
                        if is_later(point, &shown) { (*point, shown) } else { (shown, *point) };
                    stored.repeated.insert(identity(&earlier));
                    new.repeated.push(earlier);
                    if later == *point {
                        new.show(later);
                    } else {
                        continue;
                    }
                }
            }
            stored.by_step.insert(point.step, *point);
        }
        new
    }

    /// Shows a point at its step, instead of a point of the same request.
    fn show(&mut self, point: Point) {
        match self.by_step.get(&point.step) {
            Some(at) => self.shown[*at] = point,
            None => {
                self.by_step.insert(point.step, self.shown.len());
                self.shown.push(point);
            }
        }
    }
}

/// Adds those points of metrics that are not stored yet.
pub(crate) async fn add_points(
    channels: &Channels,
    batch: &mut RunBatch,
    run_id: &str,
    metrics: &[LoggedMetric],
) -> Result<()> {
    if metrics.is_empty() {
        return Ok(());
    }
    let mut by_key: BTreeMap<&str, Vec<Point>> = BTreeMap::new();
    for metric in metrics {
        by_key.entry(&metric.key).or_default().push(metric.point);
    }
    let names = by_key.keys().map(|key| (*key).to_owned()).collect();
    let listed = list_series(channels, run_id, names).await?;
    let series: SeriesByKey<'_> =
        listed.iter().map(|series| ((series.name.as_str(), series.context.as_str()), series)).collect();
    let metrics: Vec<(&str, Vec<Point>)> = by_key.into_iter().collect();
    let reads = metrics.iter().map(|(key, points)| read_stored(channels, run_id, key, points, &series));
    let mut stored = stream::iter(&metrics).zip(in_order(CALLS_AT_A_TIME, reads));
    while let Some(((key, points), stored)) = stored.next().await {
        add_new(batch, key, &NewPoints::new(points, stored?));
    }
    Ok(())
}

/// Adds new points of a metric.
fn add_new(batch: &mut RunBatch, key: &str, new: &NewPoints) {
    if !new.shown.is_empty() {
        let number = batch.series(key, "");
        for point in &new.shown {
            batch.point(number, *point);
        }
    }
    if !new.repeated.is_empty() {
        let number = batch.series(key, REPEATED_CONTEXT);
        for point in &new.repeated {
            batch.appended_point(number, *point);
        }
    }
}

/// Series by their names and contexts.
type SeriesByKey<'s> = HashMap<(&'s str, &'s str), &'s SeriesInfo>;

/// Reads the stored points at the steps of new points. Most points come after all stored points, and need no read.
async fn read_stored(
    channels: &Channels,
    run_id: &str,
    key: &str,
    points: &[Point],
    series: &SeriesByKey<'_>,
) -> Result<StoredMetric> {
    let mut stored = StoredMetric::default();
    let Some(shown) = series.get(&(key, NO_CONTEXT)) else { return Ok(stored) };
    let steps: BTreeSet<i64> =
        points.iter().map(|point| point.step).filter(|step| *step <= shown.last_step).collect();
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return Ok(stored) };
    let range = StepRange { start: Some(*first), stop: last.checked_add(1) };
    // There may be millions of points between the first step and the last one.
    let found = read_points(channels, run_id, key, NO_CONTEXT, range, Some(&steps)).await?;
    stored.by_step.extend(found.into_iter().map(|point| (point.step, point)));
    if let Some(repeated) = series.get(&(key, REPEATED_CONTEXT)) {
        let start = Some(repeated.last_step.saturating_sub(COMPARED_POINTS - 1));
        let range = StepRange { start, stop: None };
        let points = read_points(channels, run_id, key, REPEATED_CONTEXT, range, None).await?;
        stored.repeated = points.iter().map(identity).collect();
    }
    Ok(stored)
}

/// A request for points of a series of a metric.
pub(crate) fn points_request(run_id: &str, key: &str, context: &str, steps: StepRange) -> PointsRequest {
    PointsRequest {
        run: Some(RunSelection {
            run_id: run_id.to_owned(),
            keys: vec![SeriesKey { name: key.to_owned(), context: context.to_owned() }],
            ..RunSelection::default()
        }),
        steps: Some(steps),
        columns: Some(PointColumns { values: true, epochs: true, times: true }),
        by_column: false,
    }
}

/// The points of a piece of a series. The step of a repeated point is its epoch.
pub(crate) fn points_of(piece: &SeriesPoints, context: &str) -> Vec<Point> {
    let is_repeated = context == REPEATED_CONTEXT;
    let column = |column: &[i64], at: usize| column.get(at).copied();
    let point = |(at, step): (usize, &i64)| Point {
        value: piece.values.get(at).copied().unwrap_or(f64::NAN),
        step: if is_repeated { column(&piece.epochs, at).unwrap_or_default() } else { *step },
        time_ms: column(&piece.times_us, at).filter(|time| *time != matyan_proto::ABSENT).unwrap_or_default()
            / 1_000,
    };
    piece.steps.iter().enumerate().map(point).collect()
}

/// Reads the points of a series in a range, or only the points at some of its steps.
async fn read_points(
    channels: &Channels,
    run_id: &str,
    key: &str,
    context: &str,
    range: StepRange,
    steps: Option<&BTreeSet<i64>>,
) -> Result<Vec<Point>> {
    let request = points_request(run_id, key, context, range);
    let mut messages = channels.series().points(request).await?.into_inner();
    let mut points = Vec::new();
    while let Some(message) = messages.message().await? {
        let piece = message.points.ok_or_else(|| MlflowError::broken("points"))?;
        let read = points_of(&piece, context).into_iter();
        points.extend(read.filter(|point| steps.is_none_or(|steps| steps.contains(&point.step))));
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn point(step: i64, time_ms: i64, value: f64) -> Point {
        Point { value, step, time_ms }
    }

    /// The stored points after new points were written.
    fn write(stored: &StoredMetric, points: &[Point]) -> (StoredMetric, usize) {
        let new = NewPoints::new(points, stored.clone());
        let mut after = stored.clone();
        let appended = new.repeated.len();
        after.by_step.extend(new.shown.iter().map(|point| (point.step, *point)));
        after.repeated.extend(new.repeated.iter().map(identity));
        (after, appended)
    }

    fn all(stored: &StoredMetric) -> BTreeSet<PointIdentity> {
        stored.by_step.values().map(identity).chain(stored.repeated.iter().copied()).collect()
    }

    #[test]
    fn the_latest_point_of_a_step_is_shown() {
        let (first, _) = write(&StoredMetric::default(), &[point(0, 1, 0.5)]);
        let (second, appended) = write(&first, &[point(0, 2, 0.4)]);
        assert_eq!((second.by_step[&0], appended), (point(0, 2, 0.4), 1));
        let (third, appended) = write(&second, &[point(0, 1, 0.9), point(1, 5, f64::NAN)]);
        assert_eq!((third.by_step[&0], appended), (point(0, 2, 0.4), 1));
        assert!(third.by_step[&1].value.is_nan());
        let (fourth, appended) = write(&third, &[point(0, 2, 0.4), point(0, 1, 0.9), point(1, 5, f64::NAN)]);
        assert_eq!((all(&fourth), appended), (all(&third), 0), "a repeated request stores nothing");
    }

    proptest! {
        #[test]
        fn every_point_is_stored_once(
            requests in prop::collection::vec(
                prop::collection::vec((0i64..3, 0i64..3, prop::sample::select(vec![0.0, 1.0, f64::NAN])), 0..8),
                0..8,
            ),
            repeated in any::<prop::sample::Index>(),
        ) {
            let mut stored = StoredMetric::default();
            let mut expected = BTreeSet::new();
            let mut requests: Vec<Vec<Point>> = requests
                .into_iter()
                .map(|points| points.into_iter().map(|(step, time, value)| point(step, time, value)).collect())
                .collect();
            if !requests.is_empty() {
                let again = requests[repeated.index(requests.len())].clone();
                requests.push(again);
            }
            let mut appended = 0;
            for points in &requests {
                expected.extend(points.iter().map(identity));
                let (after, count) = write(&stored, points);
                stored = after;
                appended += count;
            }
            prop_assert_eq!(all(&stored), expected.clone());
            prop_assert_eq!(stored.by_step.len() + appended, expected.len(), "nothing is appended twice");
            for (step, shown) in &stored.by_step {
                let later = expected.iter().filter(|(of, ..)| of == step).any(|(step, time, bits)| {
                    is_later(&point(*step, *time, f64::from_bits(*bits)), shown)
                });
                prop_assert!(!later, "a later point of the step exists");
            }
        }
    }
}
