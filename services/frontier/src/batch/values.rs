//! The checks of free-form fields: values in CBOR, and contexts in JSON. Nothing is built in
//! memory.

use matyan_proto::limits;
use matyan_value::{
    MAX_DEPTH,
    cbor::{self, CborError},
    json::{JsonKind, JsonScanner, JsonSyntaxError, JsonToken},
};

use super::Problem;

pub(super) fn check_map(field: &'static str, bytes: &[u8]) -> Result<(), Problem> {
    if !cbor::is_map(bytes) {
        return Err(Problem::new(field, "is not a map in CBOR"));
    }
    check(field, bytes)?;
    match cbor::tree_weight(bytes) {
        // Workers and readers build params in memory, where a value takes many times the size of its encoding.
        Ok(weight) if weight > limits::MAP_VALUES => {
            let most = limits::MAP_VALUES;
            let reason = format!("has more than {most} values (a map counts as ten values): send fewer");
            Err(Problem::new(field, reason))
        }
        _ => Ok(()),
    }
}

/// Checks the objects of one step: a map, or a list of maps.
pub(super) fn check_objects(field: &'static str, bytes: &[u8]) -> Result<(), Problem> {
    if cbor::is_map(bytes) {
        return check(field, bytes);
    }
    if !cbor::is_list(bytes) {
        return Err(Problem::new(field, "is neither a map nor a list of maps in CBOR"));
    }
    check(field, bytes)?;
    if !cbor::is_list_of_maps(bytes) {
        return Err(Problem::new(field, "is a list in CBOR whose members are not maps"));
    }
    Ok(())
}

pub(super) fn check_list(field: &'static str, bytes: &[u8]) -> Result<(), Problem> {
    if !cbor::is_list(bytes) {
        return Err(Problem::new(field, "is not an array in CBOR"));
    }
    check(field, bytes)
}

fn check(field: &'static str, bytes: &[u8]) -> Result<(), Problem> {
    cbor::check(bytes).map_err(|error| match error {
        CborError::Trailing { .. } => Problem::new(field, "has bytes after its value"),
        error => Problem::new(field, format!("is not valid CBOR: {error}")),
    })
}

/// Checks a context. An absent context is the empty string, `null`, or `{}`.
pub(super) fn check_context(text: &str) -> Result<(), Problem> {
    const FIELD: &str = "context";
    if text.is_empty() {
        return Ok(());
    }
    if text.len() > limits::CONTEXT_BYTES {
        return Err(Problem::too_long(FIELD, text.len(), limits::CONTEXT_BYTES));
    }
    match only_value(text) {
        Ok(token) if usize::from(token.depth) > MAX_DEPTH => {
            Err(Problem::new(FIELD, format!("is nested deeper than {MAX_DEPTH} levels")))
        }
        Ok(JsonToken { kind: JsonKind::Object | JsonKind::Null, .. }) => Ok(()),
        Ok(_) => Err(Problem::new(FIELD, "is not an object")),
        Err(error) => Err(Problem::new(FIELD, format!("is not valid JSON at byte {}", error.at))),
    }
}

fn only_value(text: &str) -> Result<JsonToken<'_>, JsonSyntaxError> {
    let mut scanner = JsonScanner::new(text);
    scanner.blank();
    let token = scanner.value()?;
    scanner.end()?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_refused(checked: Result<(), Problem>, reason: &str) {
        let problem = checked.unwrap_err();
        assert!(problem.reason.contains(reason), "{problem:?}");
    }

    #[test]
    fn values_of_another_kind_are_refused() {
        for cbor in ["", "00", "83010203", "f6"] {
            check_refused(check_map("value", &hex::decode(cbor).unwrap()), "not a map");
        }
        check_refused(check_list("value", &[0xa0]), "not an array");
        check_map("value", &[0xa0]).unwrap();
        check_list("value", &[0x9f, 0x01, 0xff]).unwrap();
        for cbor in ["a0", "80", "82a0a0"] {
            check_objects("value", &hex::decode(cbor).unwrap()).unwrap();
        }
        check_refused(check_objects("value", &[0x01]), "neither a map");
        check_refused(check_objects("value", &[0x81, 0x01]), "members are not maps");
        check_refused(check_objects("value", &[0x81]), "not valid CBOR");
    }

    #[test]
    fn rule_116_maps_that_would_grow_are_refused() {
        let of_list = |member: &[u8], count: usize| {
            let length = u32::try_from(count).unwrap().to_be_bytes();
            [&[0xa1, 0x61, b'a', 0x9a][..], &length, &member.repeat(count)].concat()
        };
        check_map("value", &of_list(&[1], limits::MAP_VALUES - 11)).unwrap();
        check_refused(check_map("value", &of_list(&[1], limits::MAP_VALUES)), "more than 1000000 values");
        // {"": 0}
        check_refused(
            check_map("value", &of_list(&[0xa1, 0x60, 0x00], limits::MAP_VALUES / 11)),
            "more than",
        );
    }

    #[test]
    fn unsound_values_are_refused() {
        for (cbor, reason) in [
            ("a1", "not valid CBOR"),
            ("a10101", "not text"),
            ("a161ff01", "not valid CBOR"),
            ("bf6161", "not valid CBOR"),
            ("a000", "after its value"),
            ("a161619bffffffffffffffff00", "not valid CBOR"),
        ] {
            check_refused(check_map("value", &hex::decode(cbor).unwrap()), reason);
        }
    }

    #[test]
    fn contexts_are_objects_of_any_spelling() {
        for text in [
            "",
            "null",
            "{}",
            r#" {"subset" : "val"} "#,
            r#"{"x":NaN,"y":[Infinity,-Infinity,-1.5e+10]}"#,
            r#"{"NaN":"Infinity \" \ud800 ü"}"#,
            r#"{"a":{"b":[{},[],true,false,null,0,-0.0,123456789012345678901234]}}"#,
        ] {
            check_context(text).unwrap_or_else(|problem| panic!("{text}: {problem:?}"));
        }
    }

    #[test]
    fn other_contexts_are_refused() {
        for text in ["5", "[1]", "\"x\""] {
            check_refused(check_context(text), "not an object");
        }
        for text in [
            "{",
            "{}}",
            "{a:1}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a":01}"#,
            r#"{"a":1.}"#,
            r#"{"a":"\x"}"#,
            r#"{"a":"\u12g4"}"#,
            "{\"a\":\"\n\"}",
            r#"{"a":+1}"#,
            r#"{"a":nan}"#,
            " ",
        ] {
            check_refused(check_context(text), "not valid JSON");
        }
        let deep = format!("{}{}", r#"{"a":"#.repeat(200), "}".repeat(200)).replace(":}", ":1}");
        check_refused(check_context(&deep), "deeper than 128");
        check_refused(check_context(&format!("{{\"a\":\"{}\"}}", "x".repeat(9_000))), "8192");
    }
}
