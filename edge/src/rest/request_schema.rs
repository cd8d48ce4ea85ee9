//! Schemas of request bodies and parameters: validated here, and described in OpenAPI from the
//! same constants.
//! Deliberately small: text, booleans, integers, free objects, lists, and records are all that
//! the API contract needs.

use serde_json::{Map, Value, json};

use crate::error::Problem;

/// Schema of a JSON value in a request.
#[derive(Debug)]
pub(crate) enum RequestSchema {
    /// Only JSON strings.
    Text,
    /// Also accepts `"true"`, `1`, and similar.
    Bool,
    /// Also accepts integers as text.
    Int,
    /// Any object.
    AnyObject,
    List(&'static RequestSchema),
    /// A list of exactly this length.
    Tuple(&'static RequestSchema, usize),
    Record(&'static [Member]),
}

/// A member of a record. Unknown members are ignored, and `null` for an optional member means
/// that it is absent.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: &'static str,
    pub(crate) schema: RequestSchema,
    pub(crate) required: bool,
}

impl Member {
    pub(crate) const fn required(name: &'static str, schema: RequestSchema) -> Self {
        Member { name, schema, required: true }
    }

    pub(crate) const fn optional(name: &'static str, schema: RequestSchema) -> Self {
        Member { name, schema, required: false }
    }
}

/// Number of problems after which validation stops. Callers with that many fix them and retry.
const MAX_PROBLEMS: usize = 20;

impl RequestSchema {
    /// Normalizes `value` in place, and reports every problem with it. `path` is its location.
    pub(crate) fn check(&self, value: &mut Value, path: &str, problems: &mut Vec<Problem>) {
        let mut report = |message: &str| {
            problems.push(Problem { field: path.to_owned(), message: message.to_owned() });
        };
        match self {
            RequestSchema::Text if value.is_string() => {}
            RequestSchema::Text => report("Input should be a valid string"),
            RequestSchema::Bool => match parse_json_bool(value) {
                Some(parsed) => *value = parsed.into(),
                None => report("Input should be a valid boolean"),
            },
            RequestSchema::Int => match parse_json_int(value) {
                Some(parsed) => *value = parsed.into(),
                None => report("Input should be a valid integer"),
            },
            RequestSchema::AnyObject if value.is_object() => {}
            RequestSchema::AnyObject => report("Input should be a valid dictionary"),
            RequestSchema::List(item) => check_list(item, None, value, path, problems),
            RequestSchema::Tuple(item, length) => check_list(item, Some(*length), value, path, problems),
            RequestSchema::Record(members) => match value {
                Value::Object(map) => check_record(members, map, path, problems),
                _ => report("Input should be a valid dictionary"),
            },
        }
    }

    /// The schema in OpenAPI's notation.
    pub(crate) fn schema(&self) -> Value {
        match self {
            RequestSchema::Text => json!({"type": "string"}),
            RequestSchema::Bool => json!({"type": "boolean"}),
            RequestSchema::Int => json!({"type": "integer", "format": "int64"}),
            RequestSchema::AnyObject => json!({"type": "object"}),
            RequestSchema::List(item) => json!({"type": "array", "items": item.schema()}),
            RequestSchema::Tuple(item, length) => {
                json!({"type": "array", "items": item.schema(), "minItems": length, "maxItems": length})
            }
            RequestSchema::Record(members) => {
                let required: Vec<&str> = members.iter().filter(|it| it.required).map(|it| it.name).collect();
                let properties: Map<String, Value> =
                    members.iter().map(|it| (it.name.to_owned(), it.schema.schema())).collect();
                json!({"type": "object", "properties": properties, "required": required})
            }
        }
    }
}

fn check_list(
    item: &RequestSchema,
    length: Option<usize>,
    value: &mut Value,
    path: &str,
    problems: &mut Vec<Problem>,
) {
    let mut report = |message: String| problems.push(Problem { field: path.to_owned(), message });
    // The Python client writes an empty list as `{}`.
    if value.as_object().is_some_and(Map::is_empty) {
        *value = Value::Array(Vec::new());
    }
    let Value::Array(list) = value else { return report("Input should be a valid list".to_owned()) };
    if let Some(length) = length.filter(|length| *length != list.len()) {
        return report(format!("List should have {length} items"));
    }
    for (index, value) in list.iter_mut().enumerate() {
        if problems.len() >= MAX_PROBLEMS {
            return;
        }
        item.check(value, &format!("{path}.{index}"), problems);
    }
}

fn check_record(members: &[Member], map: &mut Map<String, Value>, path: &str, problems: &mut Vec<Problem>) {
    for member in members {
        let path = format!("{path}.{}", member.name);
        match map.get_mut(member.name) {
            None if member.required => {
                problems.push(Problem { field: path, message: "Field required".into() })
            }
            None => {}
            Some(Value::Null) if !member.required => {
                // Handlers only see members that have a value.
                map.shift_remove(member.name);
            }
            Some(value) => member.schema.check(value, &path, problems),
        }
    }
}

/// Parses `true`, `1`, `yes`, `on`, `t`, `y` and their opposites, in any case.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" | "t" | "y" => Some(true),
        "false" | "0" | "no" | "off" | "f" | "n" => Some(false),
        _ => None,
    }
}

/// Parses a decimal integer with an optional sign.
pub(crate) fn parse_int(text: &str) -> Option<i64> {
    text.trim().parse().ok()
}

fn parse_json_bool(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::String(text) => parse_bool(text),
        Value::Number(number) if number.as_f64() == Some(1.0) => Some(true),
        Value::Number(number) if number.as_f64() == Some(0.0) => Some(false),
        _ => None,
    }
}

fn parse_json_int(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| integer_from_float(number.as_f64()?)),
        Value::String(text) => parse_int(text),
        _ => None,
    }
}

fn integer_from_float(value: f64) -> Option<i64> {
    // Within this range, every whole number is exact as a float.
    let in_range = (-9_007_199_254_740_992.0..=9_007_199_254_740_992.0).contains(&value);
    (in_range && value.fract() == 0.0).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEM: RequestSchema = RequestSchema::Record(&[
        Member::required("name", RequestSchema::Text),
        Member::required("context", RequestSchema::AnyObject),
        Member::optional("on", RequestSchema::Bool),
        Member::optional("limit", RequestSchema::Int),
    ]);
    const ITEMS: RequestSchema = RequestSchema::List(&ITEM);

    fn check(schema: &RequestSchema, mut value: Value, expected: Result<Value, &str>) {
        let mut problems = Vec::new();
        schema.check(&mut value, "body", &mut problems);
        let messages: Vec<String> = problems.iter().map(ToString::to_string).collect();
        match expected {
            Ok(expected) => assert_eq!((value, messages), (expected, vec![])),
            Err(expected) => assert_eq!(messages.join("; "), expected),
        }
    }

    #[test]
    fn values_are_normalized() {
        check(&ITEMS, json!({}), Ok(json!([])));
        check(
            &ITEMS,
            json!([{"name": "a", "context": {"x": [1.0]}, "on": "Yes", "limit": "5", "other": 1}]),
            Ok(json!([{"name": "a", "context": {"x": [1.0]}, "on": true, "limit": 5, "other": 1}])),
        );
        check(
            &ITEM,
            json!({"name": "", "context": {}, "on": null, "limit": 2.0}),
            Ok(json!({"name": "", "context": {}, "limit": 2})),
        );
        check(&RequestSchema::Tuple(&RequestSchema::Int, 3), json!([0, 1, 2]), Ok(json!([0, 1, 2])));
    }

    #[test]
    fn validation_stops_after_too_many_problems() {
        let mut problems = Vec::new();
        ITEMS.check(&mut Value::Array(vec![json!({}); 10_000]), "body", &mut problems);
        assert!((MAX_PROBLEMS..MAX_PROBLEMS + 2).contains(&problems.len()), "{}", problems.len());
    }

    #[test]
    fn every_problem_is_reported_with_its_field() {
        check(&ITEMS, json!("x"), Err("body: Input should be a valid list"));
        check(&ITEMS, json!([1]), Err("body.0: Input should be a valid dictionary"));
        check(
            &ITEMS,
            json!([{"name": 5, "on": 2}, {"name": null, "context": [], "limit": 1.5}]),
            Err("body.0.name: Input should be a valid string; body.0.context: Field required; \
                 body.0.on: Input should be a valid boolean; body.1.name: Input should be a valid string; \
                 body.1.context: Input should be a valid dictionary; body.1.limit: Input should be a valid integer"),
        );
        check(
            &RequestSchema::Tuple(&RequestSchema::Int, 3),
            json!([1]),
            Err("body: List should have 3 items"),
        );
    }
}
