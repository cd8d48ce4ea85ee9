//! Tests of the dialect: accepted and rejected text, and each style of the writer.

use proptest::prelude::*;

use super::*;
use crate::{Map, Value, cbor};

fn check(text: &str, expected: Value) {
    assert_eq!(parse(text), Ok(expected), "{text}");
}

#[test]
fn python_writes_more_than_json() {
    check("NaN", Value::Float(f64::NAN));
    check("-Infinity", Value::Float(f64::NEG_INFINITY));
    check("1e400", Value::Float(f64::INFINITY));
    check("-0.0", Value::Float(-0.0));
    check("-0", Value::Integer(0));
    check("1", Value::Integer(1));
    check("1.0", Value::Float(1.0));
    check("1E+2", Value::Float(100.0));
    check("12345678901234567890123", Value::integer_from_decimal("12345678901234567890123").unwrap());
    check(r#"{"a":1,"a":2}"#, Value::Map([("a".to_owned(), Value::Integer(2))].into()));
    check("\t[ true , null ]\r\n", Value::List(vec![Value::Bool(true), Value::Null]));
}

#[test]
fn escapes_are_characters() {
    check(r#""\"\\\/\b\f\n\r\t""#, Value::Text("\"\\/\u{8}\u{c}\n\r\t".into()));
    check(r#""\u00e9\ud83d\ude00""#, Value::Text("é😀".into()));
    check(r#""\ud83d""#, Value::Text("\u{fffd}".into()));
    check(r#""\ude00x""#, Value::Text("\u{fffd}x".into()));
    check(r#""\ud83d\n""#, Value::Text("\u{fffd}\n".into()));
    check(r#""\ud83d\u0041""#, Value::Text("\u{fffd}A".into()));
    check(r#""\ud83d\ud83d\ude00""#, Value::Text("\u{fffd}😀".into()));
}

#[test]
fn text_that_python_refuses_is_refused() {
    let nested = "[".repeat(MAX_DEPTH + 1);
    for text in [
        "",
        " ",
        "nul",
        "-",
        "+1",
        ".5",
        "1.",
        "01",
        "-NaN",
        "1e",
        "[1,]",
        "[1 2]",
        "{a:1}",
        r#"{"a" 1}"#,
        r#"{"a":1,}"#,
        r#""a"#,
        r#""\x""#,
        r#""\u12g4""#,
        r#""\u12"#,
        "1 2",
        r#"{"a":1}}"#,
        "\"\n\"",
        &nested,
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "[\\[\\]{}\",:\\\\ u0-9eE+.NaInfityd8-]{0,32}") {
        let _either_is_fine = parse(&text);
    }

    #[test]
    fn text_that_serde_reads_is_read_alike(text in r#"(\{"[a-b]":)?-?[0-9]{1,3}(\.[0-9]{1,2})?(e[0-9]{1,2})?\}?"#) {
        if let Ok(theirs) = serde_json::from_str::<serde_json::Value>(&text) {
            let ours = parse(&text);
            prop_assert_eq!(ours.is_ok(), true, "{:?}", (ours, theirs));
        }
    }
}

#[track_caller]
fn check_text(value: &str, style: JsonStyle, expected: &str) {
    let value = parse(value).unwrap();
    assert_eq!(value_text(&value, style), expected);
    assert_eq!(cbor_text(&cbor::encode(&value), style).as_deref(), Ok(expected));
}

#[test]
fn strict_text_is_read_back_as_it_was() {
    let check = |text: &str| check_text(text, JsonStyle::STRICT, text);
    check(r#"{"a":null,"b":[true,false,[]],"c":{},"d":"q\"\\\n\u0001\b\fé🚀"}"#);
    check(r#"{"f":1.0,"i":1,"m":-5,"n":-0.0,"u":18446744073709551615,"x":0.1,"y":0.00001,"z":1e+16}"#);
    check(r#"{"big":12345678901234567890123,"neg":-18446744073709551617}"#);
    check(r#"{"o":340282366920938463463374607431768211455,"p":1000000000000000000000000000000000000}"#);
    check(r#"{"o":-340282366920938463463374607431768211456,"z":99999999999999999999999999999999999999999}"#);
}

#[test]
fn each_style_has_its_own_details() {
    let text = r#"{"a": [NaN, -Infinity, 1e-5, 1e16], "b": "é\u0008\u007f"}"#;
    check_text(text, JsonStyle::STRICT, "{\"a\":[null,null,0.00001,1e+16],\"b\":\"é\\b\u{7f}\"}");
    check_text(text, JsonStyle::SPACED, "{\"a\": [null, null, 0.00001, 1e+16], \"b\": \"é\\b\u{7f}\"}");
    check_text(text, JsonStyle::AIM, "{\"a\":[\"NaN\",\"-inf\",0.00001,1e+16],\"b\":\"é\\b\u{7f}\"}");
    check_text(text, JsonStyle::CANONICAL, r#"{"a":[NaN,-Infinity,1e-05,1e+16],"b":"\u00e9\b\u007f"}"#);
    check_text(text, JsonStyle::ARCHIVE, "{\"a\": [NaN, -Infinity, 1e-5, 1e16], \"b\": \"é\\u0008\u{7f}\"}");
    let bytes = Value::List(vec![Value::Bytes(vec![1, 255])]);
    for (style, expected) in [
        (JsonStyle::STRICT, r#"["01ff"]"#),
        (JsonStyle::ENVELOPE, r#"["Af8="]"#),
        (JsonStyle::CANONICAL, "[[1,255]]"),
    ] {
        assert_eq!(value_text(&bytes, style), expected);
    }
    assert_eq!(value_text(&Value::Text("😀".into()), JsonStyle::CANONICAL), r#""\ud83d\ude00""#);
    assert_eq!(cbor_text(&[], JsonStyle::STRICT).as_deref(), Ok("{}"));
}

#[test]
fn losses_in_json_are_seen() {
    assert!(is_lossy(&Value::List(vec![Value::Bytes(vec![1, 255])])));
    assert!(is_lossy(&Value::Float(f64::from_bits(0x7ff8_0000_0000_0001))));
}

#[test]
fn archives_are_read_back() {
    let values = [
        Value::Null,
        Value::Bool(true),
        Value::Integer(i64::MIN),
        Value::integer_from_decimal("-340282366920938463463374607431768211456").unwrap(),
        Value::List(vec![Value::Map(Map::new()), Value::List(Vec::new())]),
        Value::Text("\"\\\n\r\t\u{1}\u{7f}ü\u{1f600}\u{2028}".to_owned()),
    ];
    let floats = [0.0, -0.0, 1.0, 0.1, 5e-324, f64::MAX, f64::MIN_POSITIVE, 1e16, 1e-7, f64::INFINITY];
    let floats = floats.into_iter().flat_map(|float| [float, -float]).chain([f64::NAN]).map(Value::Float);
    for value in values.into_iter().chain(floats) {
        let text = value_text(&value, JsonStyle::ARCHIVE);
        assert_eq!(parse(&text).unwrap(), value, "{text}");
        assert!(!text.contains('\n') && !is_lossy(&value));
    }
}

/// The examples of RFC 8949, appendix A.
#[test]
fn cbor_of_any_form_becomes_strict_text() {
    for (hex, json) in [
        ("00", "0"),
        ("1bffffffffffffffff", "18446744073709551615"),
        ("c249010000000000000000", "18446744073709551616"),
        ("3bffffffffffffffff", "-18446744073709551616"),
        ("c349010000000000000000", "-18446744073709551617"),
        ("c240", "0"),
        ("c2450000000001", "1"),
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
        let cbor = hex::decode(hex).unwrap();
        cbor::check(&cbor).unwrap();
        assert_eq!(cbor_text(&cbor, JsonStyle::ENVELOPE).as_deref(), Ok(json), "{hex}");
    }
}

#[test]
fn strict_text_changes_nothing_but_names() {
    let check = |text: &str, expected: &str| {
        let mut out = String::new();
        write_strict(&mut out, text).unwrap();
        assert_eq!(out, expected);
    };
    check("null", "null");
    check(r#" {"subset" : "val"} "#, r#" {"subset" : "val"} "#);
    check(r#"{"x":NaN,"y":[Infinity,-Infinity,-1.5e+10]}"#, r#"{"x":null,"y":[null,null,-1.5e+10]}"#);
    check(r#"{"NaN":"Infinity \" \ud800 ü"}"#, r#"{"NaN":"Infinity \" \ud800 ü"}"#);
    let same = r#"{"a":{"b":[{},[],true,false,null,0,-0.0,123456789012345678901234]}}"#;
    check(same, same);
}

proptest! {
    #[test]
    fn any_checked_cbor_is_strict_text(bytes: Vec<u8>) {
        if cbor::check(&bytes).is_ok() {
            let text = cbor_text(&bytes, JsonStyle::STRICT).unwrap();
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
        }
    }

    #[test]
    fn text_is_written_as_serde_writes_it(text: String, float: f64) {
        let value = Value::List(vec![Value::Text(text.clone()), Value::Float(float)]);
        let expected = serde_json::to_string(&(text, float)).unwrap();
        prop_assert_eq!(value_text(&value, JsonStyle::STRICT), expected);
    }

    #[test]
    fn text_and_tree_become_the_same_cbor(text in r#"\{("[a-c]":-?([0-9]{1,22}|0\.[0-9]{1,5}|NaN|"[a-z\\n]?"|\[1,\{\}\]),?){0,5}\}"#) {
        if let Ok(value) = parse(&text) {
            let transcoded = to_cbor(&text).unwrap();
            prop_assert_eq!(cbor::decode(&transcoded), Ok(value));
        }
    }
}
