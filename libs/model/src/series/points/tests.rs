//! Tests of order, repeated steps, and overlays, by comparison with a map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::generate;
use super::*;

#[derive(Default)]
struct PointMap(BTreeMap<i64, Point>);

impl PointMap {
    fn write(&mut self, points: &Points) {
        for point in points.iter() {
            self.0
                .entry(point.step)
                .and_modify(|old| {
                    old.value = point.value;
                    old.epoch = point.epoch().unwrap_or(old.epoch);
                    old.time_us = point.time_us().unwrap_or(old.time_us);
                })
                .or_insert(point);
        }
    }

    fn points(&self) -> Points {
        self.0.values().copied().collect()
    }
}

proptest! {
    #[test]
    fn sorted_points_equal_those_in_a_map(mut points in generate::points(60)) {
        let mut model = PointMap::default();
        model.write(&points);
        points.sort_and_merge();
        prop_assert_eq!(points, model.points());
    }

    #[test]
    fn an_overlay_equals_a_later_write(old in generate::sorted_points(60), new in generate::sorted_points(60)) {
        let mut model = PointMap::default();
        model.write(&old);
        model.write(&new);
        prop_assert_eq!(old.merged_with(&new), model.points());
    }

    #[test]
    fn positions_match_the_step_range(points in generate::sorted_points(40), first: i8, last: i8) {
        let range = StepRange::new(first.into(), last.into());
        let expected: Points = points.iter().filter(|point| range.contains(point.step)).collect();
        prop_assert_eq!(points.slice(points.positions(&range)), expected);
    }
}

#[test]
fn a_half_open_range_is_converted_to_a_closed_one() {
    let closed = |start, stop| StepRange::from(api::StepRange { start, stop });
    assert_eq!(closed(None, None), StepRange::ALL);
    assert_eq!(closed(Some(3), Some(5)), StepRange::new(3, 4));
    assert_eq!(closed(Some(i64::MAX), None), StepRange::new(i64::MAX, i64::MAX));
    assert!(closed(Some(3), Some(3)).is_empty());
    assert!(closed(None, Some(i64::MIN)).is_empty());
}

#[test]
fn an_absent_value_does_not_replace_an_earlier_one() {
    fn point(value: f64, (epoch, time_us): (i64, i64)) -> Point {
        Point { step: 3, value, epoch, time_us }
    }
    fn check(first: (i64, i64), second: (i64, i64), epoch: i64, time_us: i64) {
        let mut points: Points = [point(1.0, first), point(2.0, second)].into_iter().collect();
        points.sort_and_merge();
        assert_eq!(points, [point(2.0, (epoch, time_us))].into_iter().collect());
    }
    check((5, 50), (ABSENT, ABSENT), 5, 50);
    check((5, 50), (6, ABSENT), 6, 50);
    check((ABSENT, 50), (ABSENT, 60), ABSENT, 60);
    check((ABSENT, ABSENT), (7, 70), 7, 70);
}
