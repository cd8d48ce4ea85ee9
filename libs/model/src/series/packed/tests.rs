//! Tests of exact round trips, random access, and malformed bytes.

use proptest::prelude::*;

use super::super::generate;
use super::*;

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Bytes of a column with few values, or arbitrary bytes.
fn column_bytes() -> impl Strategy<Value = Vec<u8>> {
    let integers = generate::integers(1).prop_map(|values| written(&values, put_integers));
    let optionals = generate::optionals(1)
        .prop_map(|values| written(&values, |out, values| put_optionals(out, values, put_integers)));
    let floats = generate::values(1).prop_map(|values| written(&values, put_floats));
    let head = 0..10_u8;
    let arbitrary = (head, any::<Vec<u8>>()).prop_map(|(head, mut bytes)| {
        bytes.insert(0, head);
        bytes
    });
    prop_oneof![integers, optionals, floats, arbitrary]
}

fn written<T>(values: &[T], put: fn(&mut Vec<u8>, &[T])) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, values);
    out
}

proptest! {
    /// For any bytes, the value, the error and the remaining input are the same as if the column were opened.
    #[test]
    fn a_column_of_one_value_is_read_as_any_other(bytes in column_bytes()) {
        let mut one = Input::all(&bytes);
        let mut any = Input::all(&bytes);
        let opened = Integers::open(&mut any, 1).map(|column| column.get(0));
        prop_assert_eq!(one_integer(&mut one), opened);
        prop_assert_eq!(one.end(), any.end());

        let mut one = Input::all(&bytes);
        let mut any = Input::all(&bytes);
        let opened = OptionalIntegers::open(&mut any, 1).map(|column| column.get(0));
        prop_assert_eq!(one_optional(&mut one), opened);
        prop_assert_eq!(one.end(), any.end());

        let mut one = Input::all(&bytes);
        let mut any = Input::all(&bytes);
        let opened = Floats::open(&mut any, 1).map(|column| column.get(0).to_bits());
        prop_assert_eq!(one_float(&mut one).map(f64::to_bits), opened);
        prop_assert_eq!(one.end(), any.end());
    }

    #[test]
    fn cycles_are_read_as_other_integers(length in prop_oneof![1..5_usize, 250..260_usize, Just(65_537)], times in 1..4_usize) {
        let mut out = Vec::new();
        put_cycles(&mut out, length, times);
        let mut input = Input::all(&out);
        let column = Integers::open(&mut input, length * times).unwrap();
        prop_assert_eq!(input.end(), Ok(()));
        let mut values = Vec::new();
        column.read(0..length * times, &mut values);
        prop_assert_eq!(values, (0..length as i64).collect::<Vec<_>>().repeat(times));
    }

    #[test]
    fn integers_survive_the_round_trip(values in (0..200_usize).prop_flat_map(generate::integers)) {
        let mut out = Vec::new();
        put_integers(&mut out, &values);
        let mut input = Input::all(&out);
        let column = Integers::open(&mut input, values.len()).unwrap();
        input.end().unwrap();
        let mut read = Vec::new();
        column.read(0..values.len(), &mut read);
        prop_assert_eq!(&read, &values);
    }

    #[test]
    fn optionals_survive_the_round_trip(values in (0..200_usize).prop_flat_map(generate::optionals)) {
        let mut out = Vec::new();
        put_optionals(&mut out, &values, put_integers);
        let mut input = Input::all(&out);
        let column = OptionalIntegers::open(&mut input, values.len()).unwrap();
        input.end().unwrap();
        let mut read = Vec::new();
        column.read(0..values.len(), &mut read);
        prop_assert_eq!(&read, &values);
        let each: Vec<i64> = (0..values.len()).map(|index| column.get(index)).collect();
        prop_assert_eq!(&each, &values);
    }

    #[test]
    fn floats_survive_the_round_trip_to_the_bit(values in (0..200_usize).prop_flat_map(generate::values)) {
        let mut out = Vec::new();
        put_floats(&mut out, &values);
        let mut input = Input::all(&out);
        let column = Floats::open(&mut input, values.len()).unwrap();
        input.end().unwrap();
        let mut read = Vec::new();
        column.read(0..values.len(), &mut read);
        prop_assert_eq!(bits(&read), bits(&values));
        let each: Vec<f64> = (0..values.len()).map(|index| column.get(index)).collect();
        prop_assert_eq!(bits(&each), bits(&values));
    }

    #[test]
    fn arbitrary_bytes_are_decoded_or_rejected(bytes: Vec<u8>, count in 0..100_usize) {
        if let Ok(column) = Integers::open(&mut Input::all(&bytes), count) {
            column.read(0..count, &mut Vec::new());
        }
        if let Ok(column) = OptionalIntegers::open(&mut Input::all(&bytes), count) {
            column.read(0..count, &mut Vec::new());
        }
        if let Ok(column) = Floats::open(&mut Input::all(&bytes), count) {
            column.read(0..count, &mut Vec::new());
        }
    }
}

fn size(values: &[i64]) -> usize {
    let mut out = Vec::new();
    put_integers(&mut out, values);
    out.len()
}

#[test]
fn columns_take_only_the_bytes_that_their_shape_requires() {
    assert_eq!(size(&[7; 1000]), 3);
    assert_eq!(size(&(0..1000).collect::<Vec<_>>()), 3);
    assert_eq!(size(&(0..1000).map(|index| index * 50 - 10_000).collect::<Vec<_>>()), 5);
    let jitter: Vec<i64> = (0..1000).map(|index| index * 100_000 + index % 7).collect();
    assert!(size(&jitter) < 1010, "{}", size(&jitter));
    assert!(size(&[i64::MIN, i64::MAX, 0]) <= 3 * 8 + 21);
}

#[test]
fn float32_columns_are_recognized() {
    fn check(values: &[f64], fits: bool) {
        assert_eq!(fit_float32(values), fits, "{values:?}");
    }
    check(&[0.5, -0.0, f64::INFINITY, f64::NAN, f64::from(f32::MIN_POSITIVE)], true);
    check(&[0.1], false);
    check(&[f64::MAX], false);
    check(&[f64::from_bits(0x7ff8_0000_0000_0001)], false);
    check(&[-f64::NAN], false);
    check(&[1e-50], false);
}
