//! Tests of positions in steps, evenly spaced or not, against a search through all of them.

use proptest::prelude::*;

use super::super::generate;
use super::*;

/// The same points, with evenly spaced steps if they are.
fn evened(points: &Points) -> Curve<'_> {
    let stride = points.steps.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).next().unwrap_or(1);
    let is_even = points.steps.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) == stride);
    let first = points.first().map_or(0, |point| point.step);
    let mut curve = points.curve();
    if is_even && let Some(even) = EvenSteps::new(first, stride, points.len()) {
        curve.steps = Steps::Even(even);
    }
    curve
}

proptest! {
    #[test]
    fn positions_are_those_of_the_points_in_a_range(
        points in generate::sorted_points(60),
        first in generate::integer(),
        last in generate::integer(),
        nearby: bool,
        at: proptest::sample::Index,
    ) {
        let mut range = StepRange::new(first, last);
        if nearby && !points.is_empty() {
            let step = points.steps[at.index(points.len())];
            range = StepRange::new(step.saturating_add(first % 3), step.saturating_add(last % 300));
        }
        let expected: Vec<Point> = points.iter().filter(|point| range.contains(point.step)).collect();
        for curve in [points.curve(), evened(&points)] {
            let read: Vec<Point> = curve.positions(&range).map(|index| curve.get(index)).collect();
            prop_assert_eq!(&read, &expected);
            prop_assert_eq!(curve.into_points(), points.clone());
        }
    }
}

#[test]
fn evenly_spaced_steps_stay_within_64_bits() {
    assert!(EvenSteps::new(i64::MIN, -1, 1).is_some());
    assert!(EvenSteps::new(i64::MAX - 20, 10, 3).is_some());
    assert!(EvenSteps::new(i64::MAX - 20, 10, 4).is_none());
    assert!(EvenSteps::new(0, i64::MAX, 3).is_none());
    assert!(EvenSteps::new(0, 0, 2).is_none());
    // The distance from the lowest to the highest step is -1 modulo 2^64.
    assert!(EvenSteps::new(i64::MIN, -1, 2).is_none());
}
