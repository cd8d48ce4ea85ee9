//! Charts: gaps, shared grids, other x axes, and bands of groups.

use std::collections::BTreeMap;

use matyan_model::{
    ids::SeriesNumber,
    keys,
    series::{ABSENT, Point, WrittenPoints},
};
use matyan_proto::{
    common::v1::{SeriesKey, StepRange},
    search::v1::{MetricsRequest, metrics_request::Points},
    series::v1::{
        Axis, Band, BandsRequest, BucketColumn, BucketsRequest, RunSelection, SampleRequest, SeriesBuckets,
        SeriesGroup, XRange, axis::Axis as AxisKind,
    },
};
use prost::Message;
use tonic::Code;

use crate::search::{
    harness::{Harness, P, RunSpec, Sequence, map, spec},
    observed_store::observed,
    random::Random,
};

const COLUMNS: [BucketColumn; 5] = [
    BucketColumn::Count,
    BucketColumn::Min,
    BucketColumn::Max,
    BucketColumn::FirstStep,
    BucketColumn::LastStep,
];

fn sequence(name: &str, points: impl IntoIterator<Item = (i64, f64)>) -> Sequence {
    let points = points.into_iter().collect();
    Sequence { name: name.into(), context: map("{}"), dtype: "float".into(), points }
}

fn selection(run: &str, names: &[&str]) -> RunSelection {
    let key = |name: &&str| SeriesKey { name: (*name).to_owned(), context: String::new() };
    RunSelection { run_id: run.into(), keys: names.iter().map(key).collect(), ..RunSelection::default() }
}

fn request(run: &str, names: &[&str], pixels: u32) -> BucketsRequest {
    let columns = COLUMNS.map(i32::from).to_vec();
    BucketsRequest { runs: vec![selection(run, names)], pixels, columns, ..BucketsRequest::default() }
}

async fn charts(harness: &Harness, request: BucketsRequest) -> Vec<SeriesBuckets> {
    let mut messages = harness.series().buckets(request).await.unwrap().into_inner();
    let mut charts = Vec::new();
    while let Some(message) = messages.message().await.unwrap() {
        charts.extend(message.series);
    }
    charts
}

/// Runtimes that read and decode points cannot acknowledge in the meantime.
#[tokio::test]
async fn rule_45_points_are_decoded_on_the_threads_of_queries() {
    let (harness, observer) = observed().await;
    let points = (0..100).map(|step| (step, step as f64));
    harness.create(&RunSpec { sequences: vec![sequence("loss", points)], ..spec("r", 1) }).await;
    let on_query_threads = |call: &str| {
        let threads: Vec<String> = observer.take_point_readers().into_iter().collect();
        assert_eq!(threads, ["matyan-query"], "{call}");
    };
    observer.take_point_readers();
    let chart = charts(&harness, request("r", &["loss"], 10)).await;
    assert_eq!(chart.len(), 1);
    on_query_threads("buckets");
    let group = SeriesGroup { runs: vec![selection("r", &["loss"])] };
    bands(&harness, BandsRequest { groups: vec![group], pixels: 10, ..BandsRequest::default() }).await;
    on_query_threads("bands");
    for density in [0, 10] {
        let runs = vec![selection("r", &["loss"])];
        let sample = SampleRequest { runs, density, ..SampleRequest::default() };
        let mut messages = harness.series().sample(sample).await.unwrap().into_inner();
        while messages.message().await.unwrap().is_some() {}
        on_query_threads("sample");
    }
    let metrics = MetricsRequest { points: Some(Points::Pixels(10)), ..MetricsRequest::default() };
    assert_eq!(harness.metrics(metrics).await.unwrap().len(), 1);
    on_query_threads("search");
}

/// Parts of a call are read on several threads, and sent in the order of the request.
#[tokio::test]
async fn rule_45_many_charts_are_those_of_each_series_alone() {
    let (harness, observer) = observed().await;
    let names: Vec<String> = (0..70).map(|at| format!("metric_{at:02}")).collect();
    let mut runs = Vec::new();
    for run in 0..40 {
        let id = format!("run{run}");
        // Some runs have more series than are read together, and most have few.
        let count = if run % 16 == 7 { names.len() } else { 1 + run % 3 };
        let points = |at: usize| (0..50_i64).map(move |step| (step, step as f64 * (at * 40 + run) as f64));
        let sequences = (0..count).map(|at| sequence(&names[at], points(at))).collect();
        harness.create(&RunSpec { sequences, ..spec(&id, 1) }).await;
        let names: Vec<&str> = names[..count].iter().map(String::as_str).collect();
        runs.push(selection(&id, &names));
    }
    let mut expected = Vec::new();
    for (run, selection) in (0..).zip(&runs) {
        for at in 0..selection.keys.len() {
            let alone = RunSelection { keys: vec![selection.keys[at].clone()], ..selection.clone() };
            let request = BucketsRequest { runs: vec![alone], ..request("", &[], 20) };
            for mut chart in charts(&harness, request).await {
                let place = chart.place.as_mut().unwrap();
                place.run = run;
                place.series = at as u32;
                expected.push(chart);
            }
        }
    }
    observer.take_point_readers();
    for pixels in [20, 60_000] {
        let request = BucketsRequest { runs: runs.clone(), ..request("", &[], pixels) };
        let found = charts(&harness, request).await;
        assert_eq!(found.len(), expected.len());
        if pixels == 20 {
            assert_eq!(found, expected);
        }
        let threads: Vec<String> = observer.take_point_readers().into_iter().collect();
        assert_eq!(threads, ["matyan-query"]);
    }
}

async fn bands(harness: &Harness, request: BandsRequest) -> Vec<Band> {
    let mut messages = harness.series().bands(request).await.unwrap().into_inner();
    let mut bands = Vec::new();
    while let Some(message) = messages.message().await.unwrap() {
        bands.extend(message.band);
    }
    bands
}

#[tokio::test]
async fn gaps_between_steps_do_not_make_a_chart_coarse() {
    let harness = Harness::new().await;
    let line = |last: i64| (0..10_000).chain([last]).map(|step| (step, step as f64));
    let sequences = vec![
        sequence("far", line(1 << 31)),
        sequence("farthest", line(i64::MAX)),
        sequence("few", [(0, 0.0), (1, 1.0), (1 << 30, 2.0)]),
    ];
    harness.create(&RunSpec { sequences, ..spec("r", 1) }).await;
    for pixels in [2, 3, 7, 100, 500, 5_000] {
        let charts = charts(&harness, request("r", &["far", "farthest", "few"], pixels)).await;
        let far = &charts[0];
        let farthest = &charts[1];
        let few = &charts[2];
        let buckets = far.index.len();
        assert!(buckets * 2 > pixels as usize && buckets <= pixels as usize, "{buckets} for {pixels}");
        for chart in [far, farthest] {
            let count: u64 = chart.count.iter().map(|count| u64::from(*count)).sum();
            assert_eq!(count, 10_001);
            assert_eq!(
                chart.max.iter().copied().fold(0.0, f64::max),
                *chart.last_step.last().unwrap() as f64
            );
            for (index, step) in chart.index.iter().zip(&chart.first_step) {
                let start = chart.origin + i64::from(*index) * chart.width as i64;
                assert_eq!(start, step - step.rem_euclid(chart.width as i64));
            }
        }
        // Numbers of buckets fit in 32 bits.
        assert_eq!(farthest.index.len(), 2);
        assert_eq!(few.index.len(), if pixels < 4 { 2 } else { 3 });
    }
}

#[tokio::test]
async fn a_shared_grid_has_the_same_buckets_for_all_series() {
    let harness = Harness::new().await;
    let line = |steps: std::ops::Range<i64>| steps.map(|step| (step, step as f64));
    for (run, steps) in [("short", 700..1_000), ("long", 0..50_000)] {
        let sequences = vec![sequence("loss", line(steps))];
        harness.create(&RunSpec { sequences, ..spec(run, 1) }).await;
    }
    let runs = vec![selection("short", &["loss"]), selection("long", &["loss", "missing"])];
    let request = BucketsRequest { runs, shared_grid: true, ..request("", &[], 100) };
    let charts = charts(&harness, request.clone()).await;
    assert_eq!(charts.len(), 2);
    assert_eq!((charts[0].width, charts[1].width), (512, 512));
    assert_eq!((charts[0].origin, charts[1].origin), (0, 0));
    assert_eq!(charts[0].index, [1]);
    assert_eq!(charts[1].index, (0..98).collect::<Vec<_>>());

    // Only the requested steps count.
    let steps = |start: i64, stop: i64| StepRange { start: Some(start), stop: Some(stop) };
    let mut part = request;
    part.steps = Some(steps(0, 900));
    part.runs[1].steps = vec![steps(800, 1_000), StepRange::default()];
    let charts = self::charts(&harness, part).await;
    assert_eq!((charts[0].width, charts[1].width), (4, 4));
    assert_eq!((charts[0].first_step[0], *charts[0].last_step.last().unwrap()), (700, 899));
    assert_eq!((charts[1].first_step[0], *charts[1].last_step.last().unwrap()), (800, 999));
    assert_eq!((charts[1].index[0], charts[1].origin), (25, 700));
}

/// A run that was read for the grid gets points outside of it while the next one is read.
#[tokio::test]
async fn a_run_may_grow_while_a_shared_grid_is_made() {
    let (harness, observer) = observed().await;
    let line = |steps: std::ops::Range<i64>| steps.map(|step| (step, step as f64));
    let mut numbers = Vec::new();
    for run in ["growing", "late"] {
        let sequences = vec![sequence("loss", line(700..1_000))];
        numbers.push(harness.create(&RunSpec { sequences, ..spec(run, 1) }).await);
    }
    let runs = vec![selection("growing", &["loss"]), selection("late", &["loss"])];
    let buckets = BucketsRequest { runs: runs.clone(), shared_grid: true, ..request("", &[], 1_000) };
    let bands = BandsRequest { groups: vec![SeriesGroup { runs }], pixels: 1_000, ..BandsRequest::default() };
    let grow = async |step: i64| {
        harness
            .transact(async |transaction| {
                let mut points = WrittenPoints::default();
                points.push(SeriesNumber(0), Point { step, value: 1.0, epoch: ABSENT, time_us: 0 });
                let block = points.blocks().remove(0);
                transaction.batch().set(keys::block(P, numbers[0], step.unsigned_abs()), block);
                Ok(())
            })
            .await;
    };
    for (at, step) in [(1, -5), (2, 1 << 40)] {
        observer.close(keys::run_rows(P, numbers[1]));
        let change = async {
            observer.waits().await;
            grow(step).await;
            grow(step * 2).await;
            observer.open();
        };
        let (found, ()) = tokio::join!(charts(&harness, buckets.clone()), change);
        let steps: Vec<_> = found.iter().map(|it| (it.origin, it.index[0], it.index.len())).collect();
        if at == 1 {
            assert_eq!(steps, [(700, 0, 300), (700, 0, 300)]);
        }
    }
    for step in [-1_000, 1 << 50] {
        observer.close(keys::run_rows(P, numbers[1]));
        let change = async {
            observer.waits().await;
            grow(step).await;
            observer.open();
        };
        let (found, ()) = tokio::join!(self::bands(&harness, bands.clone()), change);
        assert_eq!(found.len(), 1);
    }
}

#[tokio::test]
async fn messages_end_when_they_are_large() {
    let harness = Harness::new().await;
    let line = || (0..2_000).map(|step| (step, step as f64));
    let names: Vec<String> = (0..30).map(|at| format!("m{at}")).collect();
    let sequences = names.iter().map(|name| sequence(name, line())).collect();
    harness.create(&RunSpec { sequences, ..spec("r", 1) }).await;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut messages = harness.series().buckets(request("r", &names, 2_000)).await.unwrap().into_inner();
    let mut sizes = Vec::new();
    while let Some(message) = messages.message().await.unwrap() {
        sizes.push(message.encoded_len());
    }
    let largest = *sizes.iter().max().unwrap();
    assert!(sizes.len() > 5 && largest < 256 << 10, "{sizes:?}");
}

#[tokio::test]
async fn a_chart_has_another_x_axis_and_a_range_of_it() {
    let harness = Harness::new().await;
    let wave = |step: i64| (step as f64 / 1_000.0).sin();
    let sequences = vec![
        sequence("loss", (0..20_000).map(|step| (step, step as f64))),
        sequence("wave", (0..20_000).step_by(3).map(|step| (step, wave(step)))),
        sequence("other", [(0, 1.0)]),
    ];
    harness.create(&RunSpec { sequences, ..spec("r", 1) }).await;
    let chart = async |axis: AxisKind, start: Option<f64>, stop: Option<f64>| {
        let axis = Some(Axis { axis: Some(axis) });
        let x_range = Some(XRange { start, stop });
        let mut charts =
            charts(&harness, BucketsRequest { axis, x_range, ..request("r", &["loss"], 300) }).await;
        charts.pop()
    };
    // Times of points are their steps in seconds.
    for axis in [AxisKind::Time(true), AxisKind::RelativeTime(true)] {
        let found = chart(axis.clone(), Some(1_000.5), Some(1_100.0)).await.unwrap();
        assert_eq!((found.first_step[0], *found.last_step.last().unwrap()), (1_001, 1_100), "{axis:?}");
        assert_eq!((found.first_x[0], *found.last_x.last().unwrap()), (1_001.0, 1_100.0));
        assert_eq!(found.index.len(), found.first_x.len());
        let all = chart(axis.clone(), None, None).await.unwrap();
        assert_eq!(all.count.iter().sum::<u32>(), 20_000);
        assert!(chart(axis, Some(1e9), None).await.unwrap().index.is_empty());
    }
    // From the first to the last time that the sine is above 0.9999: at steps around 1571, 7854 and 14137.
    let metric = || AxisKind::Metric("wave".into());
    let found = chart(metric(), Some(0.9999), None).await.unwrap();
    let above: Vec<i64> = (0..20_000).step_by(3).filter(|step| wave(*step) >= 0.9999).collect();
    assert_eq!((found.first_step[0], *found.last_step.last().unwrap()), (above[0], *above.last().unwrap()));
    for ((first, last), x) in found.first_step.iter().zip(&found.last_step).zip(&found.first_x) {
        assert!(found.width < 3 || (*first..=*last).any(|step| wave(step) == *x), "{first} {last} {x}");
    }
    // No point is exactly 0.5, but the line crosses it.
    let found = chart(metric(), Some(0.5), Some(0.5)).await.unwrap();
    let crossed: Vec<i64> =
        (0..19_998).step_by(3).filter(|step| (wave(*step) - 0.5) * (wave(step + 3) - 0.5) <= 0.0).collect();
    let first = found.first_step[0];
    let last = *found.last_step.last().unwrap();
    assert!(first <= crossed[0] + 3 && first >= crossed[0] - 100, "{first} {crossed:?}");
    assert!(last >= *crossed.last().unwrap() && last <= crossed.last().unwrap() + 100, "{last} {crossed:?}");

    assert!(chart(AxisKind::Metric("missing".into()), None, None).await.is_none());
    let no_axis = BucketsRequest { x_range: Some(XRange::default()), ..request("r", &["loss"], 10) };
    let refused = harness.series().buckets(no_axis).await.unwrap_err();
    assert!(refused.message().contains("x_range") && refused.message().contains("axis"), "{refused:?}");
    let mut uneven = request("r", &["loss", "wave"], 10);
    uneven.runs[0].steps = vec![StepRange::default()];
    let refused = harness.series().buckets(uneven).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("1 ranges for 2 series"), "{refused:?}");
}

type Line = BTreeMap<i64, f64>;

/// Bucket number, count, mean, median, deviation, min, max.
type Row = (u32, u32, [f64; 5]);

/// The same computed from the points.
fn naive(lines: &[Line], width: i64, origin: i64, interpolate: bool) -> Vec<Row> {
    let number = |step: i64| ((step - origin) / width) as u32;
    let mut buckets: BTreeMap<u32, Vec<Vec<f64>>> = BTreeMap::new();
    for (at, line) in lines.iter().enumerate() {
        for (step, value) in line.iter().filter(|(_, value)| value.is_finite()) {
            let bucket = buckets.entry(number(*step)).or_insert_with(|| vec![Vec::new(); lines.len()]);
            bucket[at].push(*value);
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let filled = buckets.clone();
    for at in 0..lines.len() {
        let known: Vec<(u32, f64)> = filled
            .iter()
            .filter(|(_, bucket)| !bucket[at].is_empty())
            .map(|(number, bucket)| (*number, mean(&bucket[at])))
            .collect();
        for (number, bucket) in buckets.iter_mut().filter(|(_, bucket)| interpolate && bucket[at].is_empty())
        {
            let after = known.partition_point(|(known, _)| known < number);
            if after > 0 && after < known.len() {
                let (from, first) = known[after - 1];
                let (to, last) = known[after];
                let part = f64::from(number - from) / f64::from(to - from);
                bucket[at].push(first + (last - first) * part);
            }
        }
    }
    let row = |(number, bucket): (u32, Vec<Vec<f64>>)| {
        let mut means: Vec<f64> =
            bucket.iter().filter(|values| !values.is_empty()).map(|it| mean(it)).collect();
        means.sort_by(f64::total_cmp);
        let all = || bucket.iter().flatten().copied();
        let centre = mean(&means);
        let half = means.len() / 2;
        let median = if means.len() % 2 == 1 { means[half] } else { (means[half - 1] + means[half]) / 2.0 };
        let squares: Vec<f64> = means.iter().map(|value| (value - centre).powi(2)).collect();
        let min = all().fold(f64::MAX, f64::min);
        let max = all().fold(f64::MIN, f64::max);
        (number, means.len() as u32, [centre, median, mean(&squares).sqrt(), min, max])
    };
    buckets.into_iter().map(row).collect()
}

fn rows(band: &Band) -> Vec<Row> {
    let row = |at: usize| {
        let values = [band.mean[at], band.median[at], band.deviation[at], band.min[at], band.max[at]];
        (band.index[at], band.count[at], values)
    };
    (0..band.index.len()).map(row).collect()
}

#[tokio::test]
async fn bands_equal_what_the_points_give() {
    let harness = Harness::new().await;
    let mut random = Random(11);
    let value = |random: &mut Random| match random.below(20) {
        0 => f64::NAN,
        _ => random.below(1_000_000) as f64 / 1e5 - 5.0,
    };
    let mut lines: Vec<Line> = Vec::new();
    for number in 0..7_i64 {
        let every = [1, 2, 5, 40, 300, 1, 3][number as usize];
        let steps = (number * 100..4_000 + number * 200).step_by(every);
        let line: Line = steps
            .filter(|step| !(1_000..1_500).contains(step) || number % 2 == 0)
            .map(|step| (step, value(&mut random)))
            .collect();
        let sequences = vec![sequence("loss", line.clone())];
        harness.create(&RunSpec { sequences, ..spec(&format!("r{number}"), number) }).await;
        lines.push(line);
    }
    let group = |runs: std::ops::Range<usize>| SeriesGroup {
        runs: runs
            .map(|run| selection(&format!("r{run}"), &["loss"]))
            .chain([selection("missing", &["loss"])])
            .collect(),
    };
    for (pixels, interpolate) in [(10, false), (100, false), (100, true), (2_000, true), (10_000, true)] {
        let groups = vec![group(0..3), SeriesGroup::default(), group(3..7)];
        let request = BandsRequest { groups, pixels, interpolate, ..BandsRequest::default() };
        let found = bands(&harness, request).await;
        assert_eq!(found.iter().map(|band| band.group).collect::<Vec<_>>(), [0, 2]);
        for (band, lines) in found.iter().zip([&lines[..3], &lines[3..]]) {
            assert_eq!((band.width, band.origin), (found[0].width, 0));
            let expected = naive(lines, band.width as i64, band.origin, interpolate);
            let found = rows(band);
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!((found.0, found.1), (expected.0, expected.1));
                let is_close = |(found, expected): (&f64, &f64)| (found - expected).abs() < 1e-9;
                assert!(found.2.iter().zip(&expected.2).all(is_close), "{found:?} is not {expected:?}");
            }
        }
    }
    let large = BandsRequest {
        groups: vec![SeriesGroup {
            runs: vec![RunSelection { numbers: (0..300).collect(), ..selection("r0", &[]) }],
        }],
        pixels: 10_000,
        ..BandsRequest::default()
    };
    let refused = harness.series().bands(large).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let none = BandsRequest { groups: vec![group(0..1)], ..BandsRequest::default() };
    let refused = harness.series().bands(none).await.unwrap_err();
    assert!(refused.message().contains("pixels"), "{refused:?}");
}
