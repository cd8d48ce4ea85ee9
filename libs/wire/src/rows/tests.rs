//! Tests of rows that may be malformed.

use proptest::prelude::*;

use super::*;
use crate::columns;

/// Rows that may be malformed.
fn any_rows() -> impl Strategy<Value = Points> {
    let bytes = || prop_oneof![Just(Vec::new()), prop::collection::vec(any::<u8>(), 0..80)];
    let column = || prop::collection::vec(any::<i64>(), 0..5);
    let count = prop_oneof![0..4_u32, any::<u32>()];
    (any::<u32>(), count, bytes(), bytes(), column(), column()).prop_map(
        |(first_series, series_count, values, narrow_values, steps, times_us)| Points {
            steps,
            times_us,
            rows: Some(Rows {
                first_series,
                series_count,
                values: values.into(),
                narrow_values: narrow_values.into(),
            }),
            ..Points::default()
        },
    )
}

proptest! {
    #[test]
    fn malformed_rows_are_reported_and_cause_no_panic(group in any_rows(), range in (0..90_usize, 0..90_usize)) {
        let rows = group.rows.clone().unwrap_or_default();
        slice(&group, &rows, range.0.min(range.1)..range.0.max(range.1));
        if mistake(&group, &rows).is_none() {
            let plain = plain(&group);
            prop_assert_eq!(plain.series.len(), plain.values.len());
            prop_assert_eq!(columns::malformed(&plain), None);
        }
    }
}

#[test]
fn mistakes_name_their_field() {
    let good = Points { steps: vec![1, 2], rows: Some(encode(0, 3, &[0.1; 6])), ..Points::default() };
    let with = |change: &dyn Fn(&mut Rows)| {
        let mut rows = encode(0, 3, &[0.1; 6]);
        change(&mut rows);
        Points { rows: Some(rows), ..good.clone() }
    };
    for (group, field) in [
        (good.clone(), None),
        (with(&|rows| rows.series_count = 0), Some("series_count")),
        (with(&|rows| rows.series_count = 200_001), Some("series_count")),
        (with(&|rows| rows.series_count = 4), Some("values")),
        (with(&|rows| rows.values.truncate(47)), Some("values")),
        (with(&|rows| rows.narrow_values = vec![0; 24].into()), Some("narrow_values")),
        (Points { series: vec![0], ..good.clone() }, Some("series")),
        (Points { values: vec![0.5], ..good.clone() }, Some("values")),
        (Points { steps: vec![1; 3], ..good.clone() }, Some("steps")),
        (Points { epochs: vec![1; 6], ..good.clone() }, None),
        (Points { epochs: vec![1; 5], ..good.clone() }, Some("epochs")),
        (Points { times_us: vec![1; 7], ..good.clone() }, Some("times_us")),
    ] {
        let rows = group.rows.as_ref().unwrap();
        assert_eq!(mistake(&group, rows).map(|(field, _)| field), field, "{group:?}");
    }
}
