//! Validation of JSON without keeping it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Returns a text without surrounding whitespace if it is JSON in all its parts, including those
/// that no handler reads.
pub(super) fn valid_json(bytes: &[u8]) -> Option<&str> {
    let AnyValue = serde_json::from_slice(bytes).ok()?;
    str::from_utf8(bytes).ok().map(str::trim_ascii)
}

/// Any JSON value. Unlike `IgnoredAny`, it is parsed as strictly as a value that is kept: its strings
/// are Unicode, its numbers are finite, and it is not nested too deeply.
struct AnyValue;

impl<'de> Deserialize<'de> for AnyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while let Some(AnyValue) = items.next_element()? {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        while let Some((AnyValue, AnyValue)) = members.next_entry()? {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_text_is_valid_if_it_can_be_parsed() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let texts = [
            r#" {"a": [null, true, -1, 18446744073709551615, 1.5e300, "\ud83d\ude00"], "a": {}} "#,
            &nested(127),
            &nested(128),
            "",
            "{",
            "[1,]",
            "{1: 2}",
            "1 2",
            "NaN",
            "1e999",
            "01",
            r#""\ud800""#,
            "\"\n\"",
        ];
        for text in texts {
            let is_parsed = serde_json::from_str::<Value>(text).is_ok();
            assert_eq!(valid_json(text.as_bytes()).is_some(), is_parsed, "{text}");
        }
        assert_eq!(valid_json(texts[0].as_bytes()), Some(texts[0].trim()));
        assert!(valid_json(b"\"\xff\"").is_none());
    }
}
