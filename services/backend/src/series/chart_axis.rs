//! Charts over another x axis than steps: the steps of a range of x values are found by descending
//! into ever narrower buckets, so no series is read as a whole.

use std::collections::HashMap;

use matyan_model::{
    ids::SeriesNumber,
    series::{SeriesView, Stamps, StepRange, Summary, exponent_for},
};
use matyan_proto::{
    common::v1::SeriesKey,
    series::v1::{XRange, axis::Axis},
};
use matyan_store::Snapshot;

use super::{
    run_reader::RunReader,
    select::{self, SelectedSeries},
};
use crate::server::error::Result;

/// Buckets read at a time while steps are looked for.
const FAN_OUT: usize = 256;

/// The x axis of a chart, and the range of x values to show.
pub(super) struct ChartAxis {
    axis: Axis,
    start: f64,
    stop: f64,
}

/// The selected series that have the axis, each with the series of its x values if that is another
/// one.
pub(super) async fn with_axes(
    reader: &mut RunReader<'_>,
    selected: Vec<SelectedSeries>,
    axis: Option<&ChartAxis>,
) -> Result<Vec<(SelectedSeries, Option<SeriesNumber>)>> {
    let Some(ChartAxis { axis: Axis::Metric(name), .. }) = axis else {
        return Ok(selected.into_iter().map(|series| (series, None)).collect());
    };
    let key =
        |series: &SelectedSeries| SeriesKey { name: name.clone(), context: series.header.context.clone() };
    let keys: Vec<SeriesKey> = selected.iter().map(key).collect();
    let axes = select::find_by_keys(reader, &keys).await?;
    let found = selected.into_iter().zip(axes);
    Ok(found.filter_map(|(series, axis)| Some((series, Some(axis?.0)))).collect())
}

impl ChartAxis {
    /// `None` if the axis is the steps.
    pub(super) fn new(axis: Option<&matyan_proto::series::v1::Axis>, range: Option<&XRange>) -> Option<Self> {
        let axis = axis?.axis.clone()?;
        let range = range.copied().unwrap_or_default();
        let start = range.start.unwrap_or(f64::NEG_INFINITY);
        let stop = range.stop.unwrap_or(f64::INFINITY);
        Some(Self { axis, start, stop })
    }

    /// Whether buckets need epochs and times for their x values.
    pub(super) fn stamps(&self) -> Stamps {
        match self.axis {
            Axis::Metric(_) => Stamps::Skipped,
            Axis::Epoch(_) | Axis::Time(_) | Axis::RelativeTime(_) => Stamps::Read,
        }
    }

    /// The axis of one series. `view` has the x values; `summary` summarizes the series itself.
    pub(super) fn of_series(&self, view: SeriesView, summary: &Summary) -> XValues<'_> {
        XValues { axis: self, view, started_us: summary.first.time_us() }
    }
}

/// The x values of one series.
pub(super) struct XValues<'a> {
    axis: &'a ChartAxis,
    view: SeriesView,
    /// Time of the first point of the series.
    started_us: Option<i64>,
}

#[derive(Clone, Copy)]
enum End {
    First,
    Last,
}

impl XValues<'_> {
    /// The steps from the first to the last point whose x value is in the range, or between which
    /// the line crosses it.
    pub(super) async fn steps_in_range(
        &self,
        snapshot: &dyn Snapshot,
        steps: StepRange,
    ) -> Result<StepRange> {
        if self.axis.start == f64::NEG_INFINITY && self.axis.stop == f64::INFINITY {
            return Ok(steps);
        }
        let first = self.find(snapshot, steps, End::First).await?;
        let last = self.find(snapshot, steps, End::Last).await?;
        Ok(first.zip(last).map_or(StepRange::NONE, |(first, last)| StepRange::new(first, last)))
    }

    async fn find(&self, snapshot: &dyn Snapshot, steps: StepRange, end: End) -> Result<Option<i64>> {
        let Some(span) = self.view.span() else { return Ok(None) };
        let mut steps = steps.intersection(&span);
        let mut found = None;
        loop {
            let exponent = exponent_for(&steps, FAN_OUT);
            let buckets = self.view.buckets(snapshot, steps, exponent, self.axis.stamps()).await?;
            let mut overlapping = buckets.iter().filter(|bucket| self.overlaps(bucket));
            let next = match end {
                End::First => overlapping.next(),
                End::Last => overlapping.next_back(),
            };
            // Without a narrower bucket that overlaps, the line between two of them crosses the range.
            let Some(next) = next else { return Ok(found) };
            let step = match end {
                End::First => next.first.step,
                End::Last => next.last.step,
            };
            if exponent == 0 || next.count == 1 {
                return Ok(Some(step));
            }
            found = Some(step);
            steps = next.steps();
        }
    }

    fn overlaps(&self, bucket: &Summary) -> bool {
        let (one, other) = match self.axis.axis {
            Axis::Metric(_) => (bucket.min, bucket.max),
            _ => (self.first(bucket), self.last(bucket)),
        };
        // `f64::min` ignores NaN, which is an unknown value.
        one.min(other) <= self.axis.stop && one.max(other) >= self.axis.start
    }

    fn first(&self, bucket: &Summary) -> f64 {
        self.x(bucket.first.value, bucket.first.epoch(), bucket.first.time_us())
    }

    fn last(&self, bucket: &Summary) -> f64 {
        self.x(bucket.last.value, bucket.last.epoch(), bucket.last.time_us())
    }

    fn x(&self, value: f64, epoch: Option<i64>, time_us: Option<i64>) -> f64 {
        let seconds = |time_us: i64| time_us as f64 / 1e6;
        let known = match self.axis.axis {
            Axis::Metric(_) => Some(value),
            Axis::Epoch(_) => epoch.map(|epoch| epoch as f64),
            Axis::Time(_) => time_us.map(seconds),
            Axis::RelativeTime(_) => {
                time_us.zip(self.started_us).map(|(time, started)| seconds(time.saturating_sub(started)))
            }
        };
        known.unwrap_or(f64::NAN)
    }

    /// The first and last x value in `steps` of each bucket.
    pub(super) async fn values(
        &self,
        snapshot: &dyn Snapshot,
        steps: StepRange,
        buckets: &[Summary],
        exponent: u32,
    ) -> Result<(Vec<f64>, Vec<f64>)> {
        let Axis::Metric(_) = self.axis.axis else {
            return Ok(buckets.iter().map(|bucket| (self.first(bucket), self.last(bucket))).unzip());
        };
        let (Some(first), Some(last)) = (buckets.first(), buckets.last()) else {
            return Ok(Default::default());
        };
        // Up to the ends of buckets, because the metric may have been logged at other steps.
        let width_mask = (1_i64 << exponent).wrapping_sub(1);
        let shown = StepRange::new(first.first.step & !width_mask, last.last.step | width_mask);
        let shown = shown.intersection(&steps);
        let stored = self.view.buckets(snapshot, shown, exponent, self.axis.stamps()).await?;
        let by_number: HashMap<i64, &Summary> =
            stored.iter().map(|bucket| (bucket.first.step >> exponent, bucket)).collect();
        let values = |bucket: &Summary| match by_number.get(&(bucket.first.step >> exponent)) {
            Some(axis) => (self.first(axis), self.last(axis)),
            None => (f64::NAN, f64::NAN),
        };
        Ok(buckets.iter().map(values).unzip())
    }
}
