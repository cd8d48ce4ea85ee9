//! Tests of columns of params: exact round trips, searches, and bytes that this code did not write.

use proptest::{collection, option, prelude::*};

use super::*;
use crate::series::generate;

type Values = Vec<(usize, IndexedParam<'static>)>;

fn number() -> impl Strategy<Value = f64> {
    generate::value().prop_filter("NaN is in no index", |value| !value.is_nan())
}

fn param() -> impl Strategy<Value = IndexedParam<'static>> {
    prop_oneof![
        1 => Just(IndexedParam::Null),
        1 => any::<bool>().prop_map(IndexedParam::Bool),
        3 => (-300..300_i64).prop_map(IndexedParam::Integer),
        1 => generate::integer().prop_map(IndexedParam::Integer),
        3 => number().prop_map(IndexedParam::Float),
        1 => number().prop_map(IndexedParam::Rounded),
        2 => "[a-c]{0,2}".prop_map(|text| IndexedParam::Text(text.into())),
        1 => "\\PC{0,80}".prop_map(|text| IndexedParam::Text(text.into())),
        1 => Just(IndexedParam::LongText),
    ]
}

/// The values of up to 300 runs, some of which lack the param. Often, all have the same kind of value.
fn columns() -> impl Strategy<Value = (usize, Values)> {
    let mixed = collection::vec(option::of(param()), 1..300);
    let floats = collection::vec(option::of(number().prop_map(IndexedParam::Float)), 1..300);
    let integers =
        collection::vec(generate::integer().prop_map(IndexedParam::Integer).prop_map(Some), 1..300);
    let texts =
        collection::vec(option::of("[a-f]{1,3}".prop_map(|text| IndexedParam::Text(text.into()))), 1..300);
    prop_oneof![mixed, floats, integers, texts].prop_map(|runs| {
        let count = runs.len();
        (count, runs.into_iter().enumerate().filter_map(|(at, value)| Some((at, value?))).collect())
    })
}

/// Values to the bit, because -0.0 equals 0.0.
fn exact<'p>(values: impl IntoIterator<Item = (usize, IndexedParam<'p>)>) -> Vec<String> {
    values.into_iter().map(|it| format!("{it:?}")).collect()
}

fn decoded(columns: &[Bytes]) -> Vec<String> {
    columns.iter().flat_map(|column| exact(ParamColumn::decode(column).unwrap().iter())).collect()
}

fn bound<T: Clone + std::fmt::Debug>(
    of: impl Strategy<Value = T> + Clone,
) -> impl Strategy<Value = Bound<T>> {
    prop_oneof![of.clone().prop_map(Bound::Included), of.prop_map(Bound::Excluded), Just(Bound::Unbounded)]
}

fn intervals() -> impl Strategy<Value = ParamInterval> {
    let near = prop_oneof![(-5..5_i32).prop_map(f64::from), Just(-0.0), Just(f64::INFINITY), Just(0.1)];
    let near = near.boxed();
    let text = "[a-c]{0,2}".prop_map(String::into_boxed_str).boxed();
    prop_oneof![
        (bound(near.clone()), bound(near)).prop_map(|(low, high)| ParamInterval::Numbers { low, high }),
        (bound(text.clone()), bound(text)).prop_map(|(low, high)| ParamInterval::Texts { low, high }),
    ]
}

/// Whether a value is in an interval, by the sortable keys of index rows.
fn is_within(value: &IndexedParam<'_>, interval: &ParamInterval) -> bool {
    use crate::index::Scalar;
    let number = |number: f64| Scalar::Number(number).key();
    let key = match value {
        IndexedParam::Null | IndexedParam::LongText => return false,
        IndexedParam::Bool(value) => number(f64::from(u8::from(*value))),
        IndexedParam::Integer(value) => number(*value as f64),
        IndexedParam::Float(value) | IndexedParam::Rounded(value) => number(*value),
        IndexedParam::Text(text) => Scalar::Text(text).key(),
    };
    let (low, high) = match interval {
        ParamInterval::Numbers { low, high } => {
            let (lowest, highest) = crate::index::number_bounds();
            let ends = [Bound::Included(lowest), Bound::Included(highest)];
            let [lowest, highest] = ends;
            (closed(low.map(number), lowest), closed(high.map(number), highest))
        }
        ParamInterval::Texts { low, high } => {
            let (lowest, above) = crate::index::text_bounds();
            let key = |text: &str| Scalar::Text(text).key();
            (
                closed(low.as_ref().map(|text| key(text)), Bound::Included(lowest)),
                closed(high.as_ref().map(|text| key(text)), Bound::Excluded(above)),
            )
        }
    };
    is_from(low, key.clone()) && is_up_to(high, key)
}

fn closed(bound: Bound<Vec<u8>>, end: Bound<Vec<u8>>) -> Bound<Vec<u8>> {
    if bound == Bound::Unbounded { end } else { bound }
}

proptest! {
    #[test]
    fn values_survive_the_round_trip_to_the_bit((runs, values) in columns()) {
        let encoded = encode_columns(runs, &values);
        prop_assert_eq!(decoded(&encoded), exact(values));
    }

    #[test]
    fn intervals_find_the_values_that_index_rows_find((runs, values) in columns(), interval in intervals()) {
        let mut found = Vec::new();
        for column in encode_columns(runs, &values) {
            found.extend(positions_within(&column, std::slice::from_ref(&interval)).unwrap());
        }
        let expected: Vec<_> =
            values.iter().filter(|(_, value)| is_within(value, &interval)).map(|(at, _)| *at).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn several_intervals_find_what_each_of_them_finds(
        (runs, values) in columns(),
        intervals in collection::vec(intervals(), 0..4),
    ) {
        for column in encode_columns(runs, &values) {
            let each = intervals.iter().flat_map(|it| positions_within(&column, std::slice::from_ref(it)).unwrap());
            let expected: std::collections::BTreeSet<usize> = each.collect();
            prop_assert_eq!(positions_within(&column, &intervals).unwrap(), Vec::from_iter(expected));
        }
    }

    #[test]
    fn as_many_values_are_counted_as_are_found(
        (runs, values) in columns(),
        intervals in collection::vec(intervals(), 0..4),
    ) {
        for column in encode_columns(runs, &values) {
            let mut counts = vec![7; intervals.len()];
            count_within(&column, &intervals, &mut counts).unwrap();
            for (interval, count) in intervals.iter().zip(counts) {
                let found = positions_within(&column, std::slice::from_ref(interval)).unwrap();
                prop_assert_eq!(count, 7 + found.len(), "{:?}", interval);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_decoded_or_rejected(
        mut bytes: Vec<u8>,
        (runs, values) in columns(),
        at: prop::sample::Index,
    ) {
        bytes.insert(0, FORMAT);
        fuzz_column(&bytes);
        // A row that has one damaged bit, or ends early.
        for column in encode_columns(runs, &values) {
            let mut damaged = column.to_vec();
            let at = at.index(damaged.len());
            damaged[at] ^= 1 << (bytes.len() % 8);
            fuzz_column(&damaged);
            fuzz_column(&damaged[..at]);
        }
    }
}

#[test]
fn a_large_column_is_written_in_parts() {
    let long = |at: usize| IndexedParam::Text(format!("{at:0>256}").into());
    let values: Values = (0..COHORT_RUNS).map(|at| (at, long(at))).collect();
    let columns = encode_columns(COHORT_RUNS, &values);
    assert!(columns.len() > 2 && columns.iter().all(|column| column.len() <= SPLIT_BYTES));
    assert_eq!(decoded(&columns), exact(values));
    // The same text is stored once.
    let same: Values = (0..COHORT_RUNS).map(|at| (at, long(0))).collect();
    let columns = encode_columns(COHORT_RUNS, &same);
    assert!(columns.len() == 1 && columns[0].len() < 300, "{}", columns[0].len());
    assert!(encode_columns(5, &[]).is_empty());
}

#[test]
fn values_are_exact_or_say_that_they_are_not() {
    let check = |text: &str, expected: Option<IndexedParam<'_>>| {
        let value = matyan_value::json::parse(text).unwrap();
        let found = IndexedParam::of(&value, 4);
        assert_eq!(exact(found.map(|it| (0, it))), exact(expected.map(|it| (0, it))), "{text}");
    };
    check("null", Some(IndexedParam::Null));
    check("true", Some(IndexedParam::Bool(true)));
    check("-9007199254740992", Some(IndexedParam::Integer(-9_007_199_254_740_992)));
    check("9007199254740993", Some(IndexedParam::Rounded(9_007_199_254_740_992.0)));
    check("99999999999999999999", Some(IndexedParam::Rounded(1e20)));
    check("-0.0", Some(IndexedParam::Float(-0.0)));
    check("-Infinity", Some(IndexedParam::Float(f64::NEG_INFINITY)));
    check("NaN", None);
    check("[1]", None);
    check("{}", None);
    check(r#""four""#, Some(IndexedParam::Text("four".into())));
    check(r#""fives""#, Some(IndexedParam::LongText));
}
