//! Values of params. MLflow's params are texts; a text that is a number in the form in which Python writes it is
//! stored as the number, so that params can be compared, sorted and charted, and is returned as the same text.

use matyan_value::Value;
use matyan_value::json::{self, JsonStyle};

use crate::numbers::python_float;

/// Maximum nesting of maps that become one param each.
const MAX_DEPTH: usize = 16;

/// The stored form of a param.
pub(crate) fn stored_param(text: &str) -> Value {
    if let Ok(number) = text.parse::<i64>()
        && number.to_string() == text
    {
        return Value::Integer(number);
    }
    let is_number = text.starts_with(|letter: char| letter.is_ascii_digit() || letter == '-');
    if is_number
        && let Ok(number) = text.parse::<f64>()
        && number.is_finite()
        && python_float(number) == text
    {
        return Value::Float(number);
    }
    Value::Text(text.to_owned())
}

/// The text of a stored value, as Python writes it. Other clients store values of other types.
pub(crate) fn param_text(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => python_float(*number),
        Value::Text(text) => text.clone(),
        other => json::cbor_text(&matyan_value::cbor::encode(other), JsonStyle::STRICT).unwrap_or_default(),
    }
}

/// The params below a value, each with its path. Maps of other clients become a param for each of their members.
pub(crate) fn flat_params(value: &Value) -> Vec<(String, String)> {
    let mut params = Vec::new();
    flatten(value, "", MAX_DEPTH, &mut params);
    params
}

fn flatten(value: &Value, path: &str, depth: usize, params: &mut Vec<(String, String)>) {
    match value {
        Value::Map(members) if depth > 0 && (path.is_empty() || !members.is_empty()) => {
            for (key, member) in members {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(member, &path, depth - 1, params);
            }
        }
        leaf if !path.is_empty() => params.push((path.to_owned(), param_text(leaf))),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_stored_as_numbers() {
        for (text, expected) in [
            ("1", Value::Integer(1)),
            ("-7", Value::Integer(-7)),
            ("0.1", Value::Float(0.1)),
            ("1e-05", Value::Float(1e-5)),
            ("-0.0", Value::Float(-0.0)),
        ] {
            assert_eq!(stored_param(text), expected);
        }
        for text in [
            "",
            "01",
            "+1",
            "1e-5",
            "0.10",
            "-0",
            "1_000",
            "nan",
            "inf",
            "True",
            "adam",
            " 1",
            "1.",
            "9".repeat(30).as_str(),
        ] {
            assert_eq!(stored_param(text), Value::Text(text.to_owned()));
        }
    }

    #[test]
    fn values_of_other_clients_are_shown() {
        let value = json::parse(r#"{"a": {"b": [1, true], "c": {}}, "d": null, "e": true}"#).unwrap();
        let expected = [("a.b", "[1,true]"), ("a.c", "{}"), ("d", "None"), ("e", "True")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(flat_params(&value), expected);
    }

    proptest! {
        #[test]
        fn every_text_is_returned_as_it_was_sent(text in "\\PC{0,20}|-?[0-9.e+-]{1,12}") {
            prop_assert_eq!(param_text(&stored_param(&text)), text);
        }

        #[test]
        fn floats_of_python_are_numbers(number in any::<f64>().prop_filter("finite", |it| it.is_finite())) {
            prop_assert_eq!(stored_param(&python_float(number)), Value::Float(number));
        }
    }
}
