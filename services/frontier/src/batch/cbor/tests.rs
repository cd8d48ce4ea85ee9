use minicbor::Encoder;
use proptest::prelude::*;

use super::*;

fn encode(write: impl FnOnce(&mut Encoder<Vec<u8>>) -> &mut Encoder<Vec<u8>>) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    write(&mut encoder);
    encoder.into_writer()
}

fn check_json(cbor: &[u8], expected: &str) {
    check("value", cbor).unwrap_or_else(|problem| panic!("{expected}: {problem:?}"));
    let mut json = Vec::new();
    write_json(cbor, &mut json);
    assert_eq!(String::from_utf8(json).unwrap(), expected);
}

fn check_refused(cbor: &[u8], reason: &str) {
    let problem = check_map("value", cbor).unwrap_err();
    assert!(problem.field == "value" && problem.reason.contains(reason), "{cbor:x?}: {problem:?}");
}

/// From the examples of RFC 8949, appendix A.
#[test]
fn values_become_json() {
    for (hex, json) in [
        ("00", "0"),
        ("1bffffffffffffffff", "18446744073709551615"),
        ("c249010000000000000000", "18446744073709551616"),
        ("3bffffffffffffffff", "-18446744073709551616"),
        ("c349010000000000000000", "-18446744073709551617"),
        ("20", "-1"),
        ("3863", "-100"),
        ("f90000", "0.0"),
        ("f98000", "-0.0"),
        ("fb3ff199999999999a", "1.1"),
        ("fa47c35000", "100000.0"),
        ("f97e00", "null"),
        ("f9fc00", "null"),
        ("f4", "false"),
        ("f6", "null"),
        ("f7", "null"),
        ("c11a514b67b0", "1363896240"),
        ("4401020304", r#""AQIDBA==""#),
        ("62225c", r#""\"\\""#),
        ("64f0908591", r#""𐅑""#),
        ("5f42010243030405ff", r#""AQIDBAU=""#),
        ("7f657374726561646d696e67ff", r#""streaming""#),
        ("83010203", "[1,2,3]"),
        ("9f01820203ff", "[1,[2,3]]"),
        ("a26161016162820203", r#"{"a":1,"b":[2,3]}"#),
        ("bf61610161629f0203ffff", r#"{"a":1,"b":[2,3]}"#),
        ("a0", "{}"),
        ("80", "[]"),
    ] {
        check_json(&hex::decode(hex).unwrap(), json);
    }
}

#[test]
fn long_integers_keep_every_digit() {
    let bignum =
        |magnitude: &[u8]| encode(|to| to.tag(IanaTag::PosBignum).unwrap().bytes(magnitude).unwrap());
    check_json(&bignum(&[]), "0");
    check_json(&bignum(&[0, 0, 0, 0, 1]), "1");
    check_json(&bignum(&12345678901234567890123_u128.to_be_bytes()), "12345678901234567890123");
    check_json(&bignum(&1_000_000_000_000_000_000_000_u128.to_be_bytes()), "1000000000000000000000");
    check("value", &bignum(&[1; limits::INTEGER_BYTES])).unwrap();
    check("value", &bignum(&[1; limits::INTEGER_BYTES + 1])).unwrap_err();
}

#[test]
fn unsound_values_are_refused() {
    for cbor in ["", "00", "83010203", "f6"] {
        check_refused(&hex::decode(cbor).unwrap(), "not a map");
    }
    check_refused(&hex::decode("a1").unwrap(), "not sound");
    check_refused(&hex::decode("a16161").unwrap(), "not sound");
    check_refused(&hex::decode("a10101").unwrap(), "not text");
    check_refused(&hex::decode("a161ff01").unwrap(), "not sound");
    check_refused(&hex::decode("bf6161").unwrap(), "not sound");
    check_refused(&hex::decode("a16161f8ff").unwrap(), "not sound");
    check_refused(&hex::decode("a000").unwrap(), "behind");
    // A list that announces more entries than memory has.
    check_refused(&hex::decode("a161619bffffffffffffffff00").unwrap(), "not sound");
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth: usize| [vec![0x81; depth - 1], vec![0x80]].concat();
    check("value", &nested(limits::VALUE_DEPTH)).unwrap();
    check("value", &nested(limits::VALUE_DEPTH + 1)).unwrap_err();
    check("value", &vec![0xc1; 100_000]).unwrap_err();
}

#[test]
fn a_text_is_found_in_a_map() {
    let map = encode(|to| {
        to.map(4).unwrap().str("a").unwrap().u8(1).unwrap().str("k").unwrap().str("first").unwrap();
        to.str("b").unwrap().array(1).unwrap().str("k").unwrap().str("k").unwrap().str("last").unwrap()
    });
    assert_eq!(map_text(&map, "k").unwrap(), "last");
    assert_eq!(map_text(&map, "a"), None);
    assert_eq!(map_text(&map, "c"), None);
    assert_eq!(map_text(&hex::decode("bf616b7f61786179ffff").unwrap(), "k").unwrap(), "xy");
}

proptest! {
    #[test]
    fn no_bytes_break_it(bytes: Vec<u8>) {
        if check("value", &bytes).is_ok() {
            let mut json = Vec::new();
            write_json(&bytes, &mut json);
            serde_json::from_slice::<serde_json::Value>(&json).unwrap();
        }
    }

    #[test]
    fn integers_are_exact(integer: u64, wide: u128) {
        check_json(&encode(|to| to.u64(integer).unwrap()), &integer.to_string());
        let negative = -1 - i128::from(integer);
        check_json(&encode(|to| to.int(negative.try_into().unwrap()).unwrap()), &negative.to_string());
        let magnitude = wide.to_be_bytes();
        check_json(&encode(|to| to.tag(IanaTag::PosBignum).unwrap().bytes(&magnitude).unwrap()), &wide.to_string());
    }
}
