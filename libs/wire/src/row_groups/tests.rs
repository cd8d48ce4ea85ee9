//! Tests of groups: whatever the order of points, their groups have the same points.

use matyan_proto::{
    ABSENT,
    ingest::v1::{Event, IngestionBatch, SeriesDef},
};
use proptest::prelude::*;
use prost::Message as _;

use super::*;

/// Points with full columns.
fn full(group: &Points) -> Vec<(u32, u64, i64, i64, i64)> {
    let plain = rows::plain(group);
    let entry = |column: &[i64], at| columns::entry(column, at).unwrap_or(ABSENT);
    (0..plain.series.len())
        .map(|at| {
            (
                plain.series[at],
                plain.values[at].to_bits(),
                entry(&plain.steps, at),
                entry(&plain.epochs, at),
                entry(&plain.times_us, at),
            )
        })
        .collect()
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-100..100_i32).prop_map(|value| f64::from(value) / 8.0),
        1 => any::<f64>(),
        1 => any::<u64>().prop_map(f64::from_bits),
    ]
}

/// A step of a few neighboring series, from a number on.
fn step() -> impl Strategy<Value = Points> {
    let series = prop_oneof![Just((0_u32, 40_u32)), (0..3_u32, 1..60_u32), Just((u32::MAX - 20, 21))];
    let stamp = prop_oneof![Just(ABSENT), 0..3_i64];
    // How many points have the same time.
    let call = prop_oneof![Just(60), Just(1), 1..40_i64];
    (series, prop::collection::vec(value(), 60), stamp.clone(), stamp, call).prop_map(
        |((first, width), values, step, epoch, call)| {
            let width = width as usize;
            Points {
                series: (first..=u32::MAX).take(width).collect(),
                values: values[..width].to_vec(),
                steps: vec![step; width],
                epochs: vec![epoch; width],
                times_us: (0..width as i64).map(|at| 1_000 + at / call).collect(),
                rows: None,
            }
        },
    )
}

/// Steps one after another, and single points between them.
fn points() -> impl Strategy<Value = Points> {
    prop::collection::vec(step(), 0..8).prop_map(|steps| {
        let mut points = Points::default();
        for step in steps {
            points.series.extend(step.series);
            points.values.extend(step.values);
            points.steps.extend(step.steps);
            points.epochs.extend(step.epochs);
            points.times_us.extend(step.times_us);
        }
        points
    })
}

proptest! {
    #[test]
    fn groups_have_the_same_points_in_the_same_order(points in points()) {
        let groups = grouped(points.clone());
        for group in &groups {
            prop_assert_eq!(columns::malformed(group), None);
            prop_assert_eq!(rows::count(group), rows::plain(group).series.len());
        }
        let found: Vec<_> = groups.iter().flat_map(full).collect();
        prop_assert_eq!(found, full(&points));
    }

    #[test]
    fn a_batch_without_its_rows_has_the_same_items(points in points()) {
        let definition = SeriesDef { name: "a".into(), ..SeriesDef::default() };
        let event = Event { client_time_us: Some(7), kind: None };
        let in_rows = IngestionBatch {
            series: vec![definition],
            series_base: 3,
            events: vec![event],
            points: grouped(points.clone()),
        };
        let plain = rows::plain_batch(in_rows.encode_to_vec().into()).unwrap();
        let plain = IngestionBatch::decode(&*plain).unwrap();
        prop_assert_eq!((&plain.series, plain.series_base, &plain.events), (&in_rows.series, 3, &in_rows.events));
        for group in &plain.points {
            prop_assert_eq!((&group.rows, columns::malformed(group)), (&None, None));
        }
        let found: Vec<_> = plain.points.iter().flat_map(full).collect();
        prop_assert_eq!(found, full(&points));
    }

    #[test]
    fn every_part_of_rows_can_be_cut_out(points in points(), start: usize, end: usize) {
        for group in grouped(points) {
            let Some(own) = &group.rows else { continue };
            let start = start % (rows::count(&group) + 1);
            let end = start + end % (rows::count(&group) + 1 - start);
            prop_assert_eq!(full(&rows::slice(&group, own, start..end)), &full(&group)[start..end]);
        }
    }
}

#[test]
fn steps_of_the_same_series_share_a_group() {
    let width = 100;
    let steps = 5;
    let points = Points {
        series: (0..width * steps).map(|at| 7 + at % width).collect(),
        values: (0..width * steps).map(f64::from).collect(),
        steps: (0..width * steps).map(|at| i64::from(at / width)).collect(),
        epochs: vec![ABSENT; (width * steps) as usize],
        times_us: (0..width * steps).map(|at| 1_000 + i64::from(at / width)).collect(),
        rows: None,
    };
    let groups = grouped(points);
    assert_eq!(groups.len(), 1);
    let rows = groups[0].rows.as_ref().unwrap();
    assert_eq!((rows.first_series, rows.series_count, rows.narrow_values.len()), (7, 100, 2_000));
    assert_eq!(groups[0].steps, [0, 1, 2, 3, 4]);
    assert_eq!((groups[0].epochs.len(), groups[0].times_us.len()), (0, 5));
}

/// Points of neighboring series at each of these steps, which are logged in calls of these widths.
fn logged(steps: Range<i64>, calls: &[usize]) -> Points {
    let mut points = Points::default();
    for step in steps {
        let times =
            calls.iter().zip(1_000 * step..).flat_map(|(width, time)| std::iter::repeat_n(time, *width));
        for (series, time) in (0..).zip(times) {
            points.series.push(series);
            points.values.push(0.5);
            points.steps.push(step);
            points.times_us.push(time);
        }
    }
    points
}

fn widths(points: &Points) -> Vec<(usize, Option<usize>)> {
    segments(points).into_iter().map(|segment| (segment.range.len(), segment.width)).collect()
}

#[test]
fn each_call_in_a_step_is_a_row_of_its_own() {
    let points = logged(1..3, &[50, 30]);
    assert_eq!(widths(&points), [(50, Some(50)), (30, Some(30)), (50, Some(50)), (30, Some(30))]);
    for group in grouped(points) {
        assert_eq!((group.steps.len(), group.times_us.len()), (1, 1));
    }
    assert_eq!(widths(&logged(1..2, &[50, 5])), [(50, Some(50)), (5, None)]);
    assert_eq!(widths(&logged(1..2, &[5, 50])), [(5, None), (50, Some(50))]);
}

#[test]
fn calls_that_are_too_small_for_rows_share_them() {
    assert_eq!(widths(&logged(1..4, &[1; 40])), [(120, Some(40))]);
    assert_eq!(widths(&logged(1..4, &[15, 15, 10])), [(120, Some(40))]);
    assert_eq!(widths(&logged(1..2, &[10, 10, 16])), [(20, Some(20)), (16, Some(16))]);
}

#[test]
fn rows_with_one_time_are_not_in_a_group_with_others() {
    let mut points = logged(1..3, &[40]);
    let others = logged(3..5, &[1; 40]);
    points.series.extend(others.series);
    points.values.extend(others.values);
    points.steps.extend(others.steps);
    points.times_us.extend(others.times_us);
    assert_eq!(widths(&points), [(80, Some(40)), (80, Some(40))]);
    let times: Vec<usize> = grouped(points).iter().map(|group| group.times_us.len()).collect();
    assert_eq!(times, [2, 80]);
}

/// Their steps differ, so no two of them form a row, however many there are.
#[test]
fn neighbors_at_different_steps_are_looked_at_once() {
    let count = 1_000_000_u32;
    let points = Points {
        series: (0..count).collect(),
        values: vec![0.5; count as usize],
        steps: (0..i64::from(count)).collect(),
        ..Points::default()
    };
    assert_eq!(segments(&points), [Segment { range: 0..count as usize, width: None }]);
}

#[test]
fn a_row_that_was_cut_does_not_cut_the_rows_after_it() {
    // The first 30 points of a row of 100 series are in another batch.
    let all = || (0..100_u32).map(|series| (series, 1_i64));
    let cut = (30..100).map(|series| (series, 0));
    let points: Vec<(u32, i64)> = cut.chain(all()).chain(all().map(|(series, _)| (series, 2))).collect();
    let points = Points {
        series: points.iter().map(|(series, _)| *series).collect(),
        values: vec![0.5; points.len()],
        steps: points.iter().map(|(_, step)| *step).collect(),
        ..Points::default()
    };
    assert_eq!(widths(&points), [(70, Some(70)), (200, Some(100))]);
}
