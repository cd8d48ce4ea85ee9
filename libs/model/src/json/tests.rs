//! Tests of the reader: the dialect, what is refused, and that no text panics.

use proptest::prelude::*;

use super::*;

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
fn what_python_refuses_is_refused() {
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
    fn what_serde_reads_is_read_alike(text in r#"(\{"[a-b]":)?-?[0-9]{1,3}(\.[0-9]{1,2})?(e[0-9]{1,2})?\}?"#) {
        if let Ok(theirs) = serde_json::from_str::<serde_json::Value>(&text) {
            let ours = parse(&text);
            prop_assert_eq!(ours.is_ok(), true, "{:?}", (ours, theirs));
        }
    }
}
