//! The memory that JSON text takes as a tree of values, estimated before it is parsed. Three bytes of text can become
//! an object of more than six hundred bytes.

use super::scan::plain_length;
use crate::value::MAP_WEIGHT;

/// Returns an upper bound of the number of values in JSON text, where an object counts as ten. Each value takes about a
/// hundred bytes as a part of a tree, in addition to the bytes of its text.
///
/// ```
/// # use matyan_value::json::tree_weight;
/// assert_eq!(tree_weight(br#"["one, two", 3]"#), 3);
/// assert_eq!(tree_weight(br#"{"a": {}}"#), 21);
/// ```
pub fn tree_weight(json: &[u8]) -> usize {
    let mut weight = 1;
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        at += 1;
        match byte {
            b'"' => at = string_end(json, at),
            b',' | b'[' => weight += 1,
            b'{' => weight += MAP_WEIGHT,
            _ => {}
        }
    }
    weight
}

/// Returns the position after the closing quote of a string. Parsers reject text without one.
fn string_end(json: &[u8], mut at: usize) -> usize {
    loop {
        at += plain_length(json.get(at..).unwrap_or_default());
        match json.get(at) {
            None | Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_and_texts_are_not() {
        for (text, weight) in [
            ("", 1),
            ("1", 1),
            ("[]", 2),
            ("[[],[]]", 5),
            ("[1, 2, 3]", 4),
            (r#"{"a": 1, "b": [1]}"#, 13),
            (r#"["a,[{\"b,\\", "c"]"#, 3),
            (r#"["\\", 1]"#, 3),
            (r#"["ends with a backslash \"#, 2),
            (r#"["never ends, "#, 2),
            ("[\"\n,\", 1]", 3),
        ] {
            assert_eq!(tree_weight(text.as_bytes()), weight, "{text}");
        }
    }
}
