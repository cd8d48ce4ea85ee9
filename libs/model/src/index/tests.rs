//! Tests of the order of scalars, and of the indexing limits.

use std::{borrow::Cow, collections::BTreeSet};

use super::*;
use matyan_value::json;

fn key(text: &str) -> Vec<u8> {
    Scalar::from_value(&json::parse(text).unwrap()).unwrap().key()
}

#[test]
fn scalars_order_as_python_compares_them() {
    let rising = [
        "null",
        "-Infinity",
        "-1e300",
        "-99999999999999999999",
        "-1.5",
        "-1",
        "-5e-324",
        "0",
        "5e-324",
        "0.5",
        "1",
        "2",
        "9007199254740993",
        "1e300",
        "Infinity",
        r#""""#,
        r#""a""#,
        r#""a\u0000""#,
        r#""b""#,
    ];
    assert!(rising.map(key).is_sorted_by(|low, high| low < high));
    assert_eq!(key("1"), key("1.0"));
    assert_eq!(key("1"), key("true"));
    assert_eq!(key("0.0"), key("-0.0"));
    assert_eq!(Scalar::from_value(&Value::Float(f64::NAN)), None);
}

fn tree(text: &str) -> Map {
    json::parse(text).unwrap().as_map().unwrap().clone()
}

const P: Project = Project(0);
const N: RunNumber = RunNumber(1);

#[test]
fn every_scalar_outside_of_lists_has_a_row() {
    let rows = params_rows(P, N, &tree(r#"{"a":{"b":1,"c":"x"},"d":[1],"e":{},"f":null}"#));
    let expected =
        [(vec!["a", "b"], "1"), (vec!["a", "c"], r#""x""#), (vec!["f"], "null")].map(|(path, value)| {
            let path: Vec<_> = path.into_iter().map(Cow::Borrowed).collect();
            keys::index_param(P, &path, &key(value), N)
        });
    assert!(rows.keys().eq(BTreeSet::from(expected).iter()));
}

#[test]
fn rule_28_a_run_over_the_indexing_limits_is_listed_as_partial() {
    let partial = keys::index_partial(P, N);
    let many: Map = (0..=MAX_PARAMS).map(|at| (format!("k{at:05}"), Value::Integer(1))).collect();
    let rows = params_rows(P, N, &many);
    assert_eq!(rows.len(), MAX_PARAMS + 1);
    assert_eq!(rows.get(&partial), Some(&EMPTY));
    let long = tree(&format!(r#"{{"a":1,"b":"{}"}}"#, "x".repeat(MAX_TEXT_BYTES + 1)));
    let rows = params_rows(P, N, &long);
    assert_eq!(rows.get(&partial), Some(&VALUES_MISSING));
    assert_eq!(rows.get(&keys::index_param(P, &["b".into()], &[LONG_TEXT], N)), Some(&EMPTY));
    assert_eq!(rows.len(), 3);
    let last = Map::from([("z".to_owned(), Value::Text("x".repeat(MAX_TEXT_BYTES + 1)))]);
    let rows = params_rows(P, N, &many.into_iter().chain(last).collect());
    assert_eq!((rows.len(), rows.get(&partial)), (MAX_PARAMS + 1, Some(&EMPTY)));
    let deep = Map::from([("x".repeat(MAX_PATH_BYTES + 1), Value::Null)]);
    assert!(params_rows(P, N, &deep).keys().eq([&partial]));
}

/// A run that is moved from index rows to columns keeps the row that says what its index rows lack.
#[test]
fn rule_28_columns_lack_no_param_that_has_an_index_row() {
    let count = |tree: &Map| {
        let mut count = 0;
        let gaps = indexed_params(tree, &mut |_, _| count += 1);
        (count, gaps)
    };
    let many: Map = (0..=MAX_PARAMS).map(|at| (format!("k{at:05}"), Value::Integer(1))).collect();
    assert_eq!(count(&many), (MAX_PARAMS, IndexGaps { rows: true, values: false }));
    assert_eq!(partial_row(P, N, &many), IndexRows::from([(keys::index_partial(P, N), EMPTY)]));
    let long = tree(&format!(r#"{{"a":1,"b":"{}","c":[1]}}"#, "x".repeat(MAX_TEXT_BYTES + 1)));
    assert_eq!(count(&long), (2, IndexGaps { rows: false, values: true }));
    assert_eq!(partial_row(P, N, &long), IndexRows::from([(keys::index_partial(P, N), VALUES_MISSING)]));
    assert_eq!(count(&tree(r#"{"a":1}"#)), (1, IndexGaps::default()));
    for value in [1, i64::MAX] {
        let large = large_params(value);
        let rows = params_rows(P, N, &large);
        assert!(rows.contains_key(&keys::index_partial(P, N)) && count(&large).0 >= rows.len() - 1);
    }
}

fn large_params(value: i64) -> Map {
    let prefix = "x".repeat(1_400);
    (0..MAX_PARAMS).map(|at| (format!("{prefix}{at}"), Value::Integer(value))).collect()
}

#[test]
fn all_rows_of_a_run_can_be_replaced_in_one_transaction() {
    let before = params_rows(P, N, &large_params(1));
    let after = params_rows(P, N, &large_params(2));
    assert!(before.contains_key(&keys::index_partial(P, N)));
    let mut batch = Batch::default();
    write_difference(&mut batch, &before, &after);
    assert_eq!(batch.mutations.len(), before.len() + after.len() - 2);
    assert!(batch.bytes() < 5_000_000, "{} bytes", batch.bytes());
}
