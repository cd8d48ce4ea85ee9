//! Generators of points for property tests: everything that a column may hold, with extreme
//! values far more often than in a uniform distribution.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{ABSENT, Point, Points};

/// Typical logged values, special values, and arbitrary bit patterns.
pub(crate) fn value() -> impl Strategy<Value = f64> {
    let special =
        [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE, 5e-324];
    // Quiet and signaling NaNs of either sign with payloads, and the canonical one with the
    // other sign.
    let nans =
        [0x7ff8_0000_0000_0001, 0x7ff0_0000_0000_0001, 0xfff4_0000_2000_0000, 0xfff8_0000_0000_0000_u64];
    prop_oneof![
        4 => any::<f32>().prop_map(f64::from),
        4 => (-1000..1000_i32).prop_map(|number| f64::from(number) / 10.0),
        2 => proptest::sample::select(special.to_vec()),
        1 => proptest::sample::select(nans.to_vec()).prop_map(f64::from_bits),
        2 => any::<u64>().prop_map(f64::from_bits),
    ]
}

pub(crate) fn integer() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => -300..300_i64,
        2 => 1_700_000_000_000_000..1_700_000_100_000_000_i64,
        1 => any::<i64>(),
        1 => proptest::sample::select(vec![i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX]),
    ]
}

/// Columns of regular, ascending, or arbitrary integers.
pub(crate) fn integers(count: usize) -> BoxedStrategy<Vec<i64>> {
    let regular = (integer(), integer()).prop_map(move |(first, stride)| {
        (0..count as i64).map(|index| first.wrapping_add(stride.wrapping_mul(index))).collect()
    });
    let rising = (integer(), vec(0..3000_i64, count)).prop_map(|(mut at, steps)| {
        steps
            .into_iter()
            .map(|step| {
                at = at.wrapping_add(step);
                at
            })
            .collect()
    });
    prop_oneof![regular, rising, vec(integer(), count)].boxed()
}

pub(crate) fn optionals(count: usize) -> BoxedStrategy<Vec<i64>> {
    let some = (integers(count), vec(any::<bool>(), count)).prop_map(|(values, present)| {
        values.into_iter().zip(present).map(|(value, present)| if present { value } else { ABSENT }).collect()
    });
    prop_oneof![Just(vec![ABSENT; count]), integers(count), some].boxed()
}

pub(crate) fn values(count: usize) -> BoxedStrategy<Vec<f64>> {
    let constant = value().prop_map(move |value| vec![value; count]);
    let narrow = vec(any::<f32>().prop_map(f64::from), count);
    let decimal = vec((-1000..1000_i32).prop_map(|number| f64::from(number) / 10.0), count);
    prop_oneof![constant, narrow, decimal, vec(value(), count)].boxed()
}

/// Points in the order of writing.
pub(crate) fn points(max: usize) -> impl Strategy<Value = Points> {
    (0..=max).prop_flat_map(|count| {
        (integers(count), values(count), optionals(count), optionals(count))
            .prop_map(|(steps, values, epochs, times_us)| Points { steps, values, epochs, times_us })
    })
}

/// Points in ascending order of distinct steps.
pub(crate) fn sorted_points(max: usize) -> impl Strategy<Value = Points> {
    points(max).prop_map(|mut points| {
        points.sort_and_merge();
        points
    })
}

pub(crate) fn point() -> impl Strategy<Value = Point> {
    (integer(), value(), integer(), integer()).prop_map(|(step, value, epoch, time_us)| Point {
        step,
        value,
        epoch,
        time_us,
    })
}
