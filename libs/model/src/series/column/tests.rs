//! Tests of exact round trips through pco, and of damaged columns.

use proptest::prelude::*;

use super::super::generate;
use super::*;

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #[test]
    fn integers_survive_the_round_trip(values in (0..600_usize).prop_flat_map(generate::integers)) {
        let mut out = Vec::new();
        put_integer_column(&mut out, &values, ColumnUse::Kept);
        let mut input = Input::all(&out);
        prop_assert_eq!(integer_column(&mut input, values.len()).unwrap(), values);
        input.end().unwrap();
    }

    #[test]
    fn optionals_survive_the_round_trip(values in (0..600_usize).prop_flat_map(generate::optionals)) {
        let mut out = Vec::new();
        put_optional_column(&mut out, &values, ColumnUse::Kept);
        let mut input = Input::all(&out);
        prop_assert_eq!(optional_column(&mut input, values.len()).unwrap(), values);
        input.end().unwrap();
    }

    #[test]
    fn floats_survive_the_round_trip_to_the_bit(values in (0..600_usize).prop_flat_map(generate::values)) {
        let mut out = Vec::new();
        put_float_column(&mut out, &values, ColumnUse::Kept);
        let mut input = Input::all(&out);
        prop_assert_eq!(bits(&float_column(&mut input, values.len()).unwrap()), bits(&values));
        input.end().unwrap();
    }

    #[test]
    fn damaged_columns_are_decoded_or_rejected(
        values in (100..300_usize).prop_flat_map(generate::values),
        positions in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<proptest::sample::Index>(),
    ) {
        let integers: Vec<i64> = values.iter().map(|value| value.to_bits() as i64).collect();
        let mut floats = Vec::new();
        let mut whole = Vec::new();
        put_float_column(&mut floats, &values, ColumnUse::Kept);
        put_integer_column(&mut whole, &integers, ColumnUse::Kept);
        for out in [&mut floats, &mut whole] {
            for (position, byte) in &positions {
                let position = position.index(out.len());
                out[position] = *byte;
            }
            out.truncate(cut.index(out.len() * 4).max(1));
            // The values are arbitrary, but there must be no panic, and as many
            // values as requested.
            if let Ok(read) = float_column(&mut Input::all(out), values.len()) {
                prop_assert_eq!(read.len(), values.len());
            }
            if let Ok(read) = optional_column(&mut Input::all(out), values.len()) {
                prop_assert_eq!(read.len(), values.len());
            }
        }
    }
}

/// NaNs with payloads, among numbers for which pco would choose a mode that uses arithmetic.
#[test]
fn nans_keep_their_bits_among_decimals() {
    let mut values: Vec<f64> = (0..2000).map(|index| f64::from(index % 97) * 0.01).collect();
    for (position, payload) in (0..2000).step_by(31).zip(1..) {
        values[position] = f64::from_bits(0x7ff8_0000_0000_0000 + payload);
    }
    let mut out = Vec::new();
    put_float_column(&mut out, &values, ColumnUse::Kept);
    assert_eq!(bits(&float_column(&mut Input::all(&out), 2000).unwrap()), bits(&values));
}

#[test]
fn columns_with_regular_differences_are_small() {
    // Constant differences of the first, second and third order.
    for order in 1..=MAX_DELTA_ORDER as i32 {
        for count in [PCO_FROM, SAMPLE, 20 * SAMPLE] {
            let values: Vec<f64> = (0..count).map(|index| (index as f64 + 0.125).powi(order)).collect();
            let mut out = Vec::new();
            put_float_column(&mut out, &values, ColumnUse::Kept);
            assert!(out.len() < 2 * count, "order {order}: {} bytes for {count} values", out.len());
            assert_eq!(float_column(&mut Input::all(&out), count).unwrap(), values);
        }
    }
}
