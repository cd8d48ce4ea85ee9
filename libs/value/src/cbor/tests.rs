//! Tests of the codec: every value survives a round trip, and arbitrary bytes never cause a panic.

use proptest::prelude::*;

use super::*;
use crate::{Map, Value, json};

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Integer),
        any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
        "\\PC{0,8}".prop_map(Value::Text),
        proptest::collection::vec(any::<u8>(), 0..8).prop_map(Value::Bytes),
        (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(negative, magnitude)| Value::integer(negative, &magnitude)),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::List),
            proptest::collection::btree_map("\\PC{0,4}", inner, 0..8).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #[test]
    fn every_value_survives(value in any_value()) {
        prop_assert_eq!(decode(&encode(&value)).unwrap(), value);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(value) = decode(&bytes) {
            prop_assert_eq!(decode(&encode(&value)).unwrap(), value);
        }
    }

    #[test]
    fn a_key_is_found_where_decoding_finds_it(map in proptest::collection::btree_map("[a-c]{0,2}", any_value(), 0..8)) {
        let bytes = encode_map(&map);
        for wanted in ["", "a", "b", "ab", "cc", "d"] {
            let found = find(&bytes, &[wanted]).unwrap().map(|bytes| decode(bytes).unwrap());
            prop_assert_eq!(found.as_ref(), map.get(wanted));
        }
    }

    #[test]
    fn parts_are_those_of_the_decoded_map(
        map in proptest::collection::btree_map("[a-c]{0,2}", any_value(), 0..8),
        places in proptest::collection::btree_set(proptest::collection::vec("[a-c]{0,2}", 1..4), 0..6),
    ) {
        let bytes = encode_map(&map);
        let mut left = map.clone();
        left.remove("a");
        prop_assert_eq!(&*without(&bytes, "a").unwrap(), encode_map(&left));

        let mut expected = Map::new();
        for place in &places {
            if let Some(leaf) = find(&bytes, place).unwrap() {
                put_at(&mut expected, place, decode(leaf).unwrap());
            }
        }
        let places: Vec<&[String]> = places.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(pick(&bytes, &places).unwrap(), encode_map(&expected));
    }

    #[test]
    fn values_are_found_together_as_they_are_found_alone(
        map in proptest::collection::btree_map("[a-c]{0,2}", any_value(), 0..8),
        places in proptest::collection::btree_set(proptest::collection::vec("[a-c]{0,2}", 1..4), 0..6),
    ) {
        let bytes = encode_map(&map.into_iter().collect());
        let places: Vec<Vec<String>> = places.into_iter().collect();
        let found = find_each(&bytes, &places).unwrap();
        for (place, value) in places.iter().zip(found.values) {
            prop_assert_eq!(value, find(&bytes, place).unwrap());
        }
    }

    #[test]
    fn values_are_counted_with_their_members(value in any_value()) {
        fn count(value: &Value) -> u64 {
            1 + match value {
                Value::List(items) => items.iter().map(count).sum(),
                Value::Map(map) => map.values().map(|value| 1 + count(value)).sum(),
                // A tag before bytes.
                Value::Big(big) => u64::from(big.magnitude().len() > 8),
                _ => 0,
            }
        }
        prop_assert_eq!(count_values(&encode(&value)).unwrap(), count(&value));
    }

    #[test]
    fn parts_of_any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let place = ["a".to_owned(), "b".to_owned()];
        drop((without(&bytes, "a"), pick(&bytes, &[&place]), find_each(&bytes, &[&place[..]])));
    }
}

fn put_at(map: &mut Map, place: &[String], leaf: Value) {
    let (first, rest) = place.split_first().unwrap();
    if rest.is_empty() {
        map.insert(first.clone(), leaf);
        return;
    }
    match map.entry(first.clone()).or_insert_with(|| Value::Map(Map::new())) {
        Value::Map(inner) => put_at(inner, rest, leaf),
        other => panic!("{other:?} holds nothing"),
    }
}

fn check(hex: &str, expected: Result<Value, CborError>) {
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    assert_eq!(decode(&bytes), expected, "{hex}");
}

#[test]
fn foreign_forms_are_read() {
    let big = |text| Value::integer_from_decimal(text).unwrap();
    check("1bffffffffffffffff", Ok(big("18446744073709551615")));
    check("3bffffffffffffffff", Ok(big("-18446744073709551616")));
    check("c249010000000000000000", Ok(big("18446744073709551616")));
    check("c349010000000000000000", Ok(big("-18446744073709551617")));
    check("c24101", Ok(Value::Integer(1)));
    check("c34100", Ok(Value::Integer(-1)));
    check("f93c00", Ok(Value::Float(1.0)));
    check("fa47c35000", Ok(Value::Float(100_000.0)));
    check("f7", Ok(Value::Null));
    check("9f01ff", Ok(Value::List(vec![Value::Integer(1)])));
    check("bf616101616102ff", Ok(Value::Map([("a".to_owned(), Value::Integer(2))].into())));
    check("7f61616162ff", Ok(Value::Text("ab".into())));
    check("c11a514b67b0", Ok(Value::Integer(1_363_896_240)));
}

#[test]
fn what_a_value_cannot_hold_is_refused() {
    check("a10102", Err(CborError::Key { at: 1 }));
    check("0101", Err(CborError::Trailing { at: 1 }));
    assert_eq!(decode(&[0x81; MAX_DEPTH + 1]).unwrap_err(), CborError::TooDeep);
    assert!(matches!(decode(&[]), Err(CborError::Syntax { at: 0, .. })));
    assert!(decode(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
    assert_eq!(decode_map(&[0x01]).unwrap_err(), CborError::NotAMap);
}

#[test]
fn integers_take_their_shortest_form() {
    assert_eq!(
        encode(&Value::integer_from_decimal("18446744073709551615").unwrap()),
        [0x1b, 255, 255, 255, 255, 255, 255, 255, 255]
    );
    assert_eq!(encode(&Value::Integer(10)), [0x0a]);
}

#[test]
fn values_are_found_below_others_and_never_beyond_the_end() {
    let tree = json::parse(
        r#"{"a":[1,[2,{"x":"y"}]],"b":{"c":{"d":1.5,"e":null},"f":"text"},"g":123456789012345678901234567890}"#,
    );
    let tree = tree.unwrap();
    let bytes = encode(&tree);
    let check = |path: &[&str], expected: Option<&str>| {
        let found = find(&bytes, path).unwrap().map(|bytes| decode(bytes).unwrap());
        assert_eq!(found, expected.map(|json| json::parse(json).unwrap()), "{path:?}");
    };
    check(&["a"], Some(r#"[1,[2,{"x":"y"}]]"#));
    check(&["b", "c"], Some(r#"{"d":1.5,"e":null}"#));
    check(&["b", "c", "e"], Some("null"));
    check(&["b", "f"], Some(r#""text""#));
    check(&["g"], Some("123456789012345678901234567890"));
    for absent in [&["b", "c", "x"][..], &["a", "0"], &["b", "f", "g"], &["h"], &[""]] {
        check(absent, None);
    }
    for end in 0..bytes.len() {
        assert!(find(&bytes[..end], &["g"]).is_err(), "cut at {end}");
    }
    assert!(find(&[0xbb, 255, 255, 255, 255, 255, 255, 255, 255, 0x60], &["a"]).is_err());
    assert!(find(&[0xa1, 0x61, b'a', 0x9b, 255, 255, 255, 255, 255, 255, 255, 255], &["a"]).is_err());
}

fn unhex(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

fn bignum(magnitude: &[u8]) -> Vec<u8> {
    let mut encoder = minicbor::Encoder::new(Vec::new());
    encoder.tag(minicbor::data::IanaTag::PosBignum).unwrap().bytes(magnitude).unwrap();
    encoder.into_writer()
}

#[test]
fn unsound_values_are_refused() {
    assert_eq!(super::check(&unhex("a10101")), Err(CborError::Key { at: 1 }));
    assert_eq!(super::check(&unhex("a000")), Err(CborError::Trailing { at: 1 }));
    // The last one announces more entries than fit into memory.
    for hex in [
        "a1",
        "a16161",
        "a161ff01",
        "bf6161",
        "a16161f8ff",
        "ff",
        "1c",
        "7f7f6161ffff",
        "5f6161ff",
        "a161619bffffffffffffffff00",
    ] {
        assert!(matches!(super::check(&unhex(hex)), Err(CborError::Syntax { .. })), "{hex}");
    }
    super::check(&bignum(&[1; INTEGER_BYTES])).unwrap();
    assert_eq!(super::check(&bignum(&[1; INTEGER_BYTES + 1])), Err(CborError::LongInteger));
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth: usize| [vec![0x81; depth - 1], vec![0x80]].concat();
    super::check(&nested(MAX_DEPTH)).unwrap();
    assert_eq!(super::check(&nested(MAX_DEPTH + 1)), Err(CborError::TooDeep));
    assert_eq!(super::check(&vec![0xc1; 100_000]), Err(CborError::TooDeep));
    // A container after a deep one is not nested in it.
    let wide = [vec![0x82], nested(MAX_DEPTH - 1), nested(MAX_DEPTH - 1)].concat();
    super::check(&wide).unwrap();
}

#[test]
fn a_text_is_found_in_a_map() {
    // {"a": 1, "k": "first", "b": ["k"], "k": "last"}
    let map = unhex("a4616101616b656669727374616281616b616b646c617374");
    assert_eq!(map_text(&map, "k").unwrap(), "last");
    assert_eq!(map_text(&map, "a"), None);
    assert_eq!(map_text(&map, "c"), None);
    assert_eq!(map_text(&unhex("bf616b7f61786179ffff"), "k").unwrap(), "xy");
    assert_eq!(map_text(&unhex("a2616b6178616b01"), "k"), None);
}

#[test]
fn texts_are_found_in_a_map_and_in_a_list_of_maps() {
    assert_eq!(map_texts(&unhex("a1616b6178"), "k"), ["x"]);
    assert_eq!(map_texts(&unhex("83a1616b6178a0a1616b6179"), "k"), ["x", "y"]);
    assert_eq!(map_texts(&unhex("9fa1616b6178ff"), "k"), ["x"]);
    assert!(map_texts(&unhex("8101"), "k").is_empty());
    for (encoded, expected) in [("80", true), ("82a0a1616101", true), ("82a001", false), ("a0", false)] {
        assert_eq!(is_list_of_maps(&unhex(encoded)), expected, "{encoded}");
    }
}

proptest! {
    #[test]
    fn floats_of_16_bits_are_read_exactly(bits: u16) {
        let ours = match decode(&[&[0xf9], &bits.to_be_bytes()[..]].concat()) {
            Ok(Value::Float(float)) => float,
            other => panic!("{other:?}"),
        };
        let theirs = minicbor::Decoder::new(&[&[0xf9], &bits.to_be_bytes()[..]].concat()).f16().unwrap();
        prop_assert!(ours == f64::from(theirs) || ours.is_nan() && theirs.is_nan());
    }

    #[test]
    fn a_stored_leaf_is_the_item_that_is_read(value in any_value()) {
        let bytes = encode(&value);
        if let Some(leaf) = leaf(&bytes).unwrap() {
            let as_value = match leaf {
                CborLeaf::Null => Value::Null,
                CborLeaf::Bool(bool) => Value::Bool(bool),
                CborLeaf::Integer(integer) => Value::Integer(integer),
                CborLeaf::Float(float) => Value::Float(float),
                CborLeaf::Text(text) => Value::Text(text.to_owned()),
            };
            prop_assert_eq!(as_value, value);
        }
    }
}
