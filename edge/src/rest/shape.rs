//! Schemas of request bodies and parameters: validated here, and described in OpenAPI from the
//! same constants.
//! Deliberately small: text, booleans, integers, free objects, lists, and records are all that
//! the API contract needs.

use serde_json::{Map, Value, json};

use crate::error::Problem;

/// Schema of a JSON value in a request.
#[derive(Debug)]
pub(crate) enum Shape {
    /// Only JSON strings.
    Text,
    /// Also accepts `"true"`, `1`, and similar.
    Bool,
    /// Also accepts integers as text.
    Int,
    /// Any object.
    Free,
    List(&'static Shape),
    /// A list of exactly this length.
    Tuple(&'static Shape, usize),
    Record(&'static [Member]),
}

/// A member of a record. Unknown members are ignored, and `null` for an optional member means
/// that it is absent.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) required: bool,
}

impl Member {
    pub(crate) const fn required(name: &'static str, shape: Shape) -> Self {
        Member { name, shape, required: true }
    }

    pub(crate) const fn optional(name: &'static str, shape: Shape) -> Self {
        Member { name, shape, required: false }
    }
}

/// Number of problems after which validation stops. Callers with that many fix them and retry.
const MOST_PROBLEMS: usize = 20;

impl Shape {
    /// Normalizes `value` in place, and reports every problem with it. `place` is its path.
    pub(crate) fn check(&self, value: &mut Value, place: &str, problems: &mut Vec<Problem>) {
        let mut wrong = |message: &str| {
            problems.push(Problem { field: place.to_owned(), message: message.to_owned() });
        };
        match self {
            Shape::Text if value.is_string() => {}
            Shape::Text => wrong("Input should be a valid string"),
            Shape::Bool => match parse_json_bool(value) {
                Some(parsed) => *value = parsed.into(),
                None => wrong("Input should be a valid boolean"),
            },
            Shape::Int => match parse_json_int(value) {
                Some(parsed) => *value = parsed.into(),
                None => wrong("Input should be a valid integer"),
            },
            Shape::Free if value.is_object() => {}
            Shape::Free => wrong("Input should be a valid dictionary"),
            Shape::List(item) => check_list(item, None, value, place, problems),
            Shape::Tuple(item, length) => check_list(item, Some(*length), value, place, problems),
            Shape::Record(members) => match value {
                Value::Object(map) => check_record(members, map, place, problems),
                _ => wrong("Input should be a valid dictionary"),
            },
        }
    }

    /// The schema in OpenAPI's notation.
    pub(crate) fn schema(&self) -> Value {
        match self {
            Shape::Text => json!({"type": "string"}),
            Shape::Bool => json!({"type": "boolean"}),
            Shape::Int => json!({"type": "integer", "format": "int64"}),
            Shape::Free => json!({"type": "object"}),
            Shape::List(item) => json!({"type": "array", "items": item.schema()}),
            Shape::Tuple(item, length) => {
                json!({"type": "array", "items": item.schema(), "minItems": length, "maxItems": length})
            }
            Shape::Record(members) => {
                let required: Vec<&str> = members.iter().filter(|it| it.required).map(|it| it.name).collect();
                let properties: Map<String, Value> =
                    members.iter().map(|it| (it.name.to_owned(), it.shape.schema())).collect();
                json!({"type": "object", "properties": properties, "required": required})
            }
        }
    }
}

fn check_list(
    item: &Shape,
    length: Option<usize>,
    value: &mut Value,
    place: &str,
    problems: &mut Vec<Problem>,
) {
    let mut wrong = |message: String| problems.push(Problem { field: place.to_owned(), message });
    // The Python client writes an empty list as `{}`.
    if value.as_object().is_some_and(Map::is_empty) {
        *value = Value::Array(Vec::new());
    }
    let Value::Array(list) = value else { return wrong("Input should be a valid list".to_owned()) };
    if let Some(length) = length.filter(|length| *length != list.len()) {
        return wrong(format!("List should have {length} items"));
    }
    for (index, value) in list.iter_mut().enumerate() {
        if problems.len() >= MOST_PROBLEMS {
            return;
        }
        item.check(value, &format!("{place}.{index}"), problems);
    }
}

fn check_record(members: &[Member], map: &mut Map<String, Value>, place: &str, problems: &mut Vec<Problem>) {
    for member in members {
        let place = format!("{place}.{}", member.name);
        match map.get_mut(member.name) {
            None if member.required => {
                problems.push(Problem { field: place, message: "Field required".into() })
            }
            None => {}
            Some(Value::Null) if !member.required => {
                map.shift_remove(member.name);
            }
            Some(value) => member.shape.check(value, &place, problems),
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
        Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => parse_int(text),
        _ => None,
    }
}

fn whole(value: f64) -> Option<i64> {
    // Within this range, every whole number is exact as a float.
    let in_range = (-9_007_199_254_740_992.0..=9_007_199_254_740_992.0).contains(&value);
    (in_range && value.fract() == 0.0).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEM: Shape = Shape::Record(&[
        Member::required("name", Shape::Text),
        Member::required("context", Shape::Free),
        Member::optional("on", Shape::Bool),
        Member::optional("limit", Shape::Int),
    ]);
    const ITEMS: Shape = Shape::List(&ITEM);

    fn check(shape: &Shape, mut value: Value, expected: Result<Value, &str>) {
        let mut problems = Vec::new();
        shape.check(&mut value, "body", &mut problems);
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        match expected {
            Ok(expected) => assert_eq!((value, told), (expected, vec![])),
            Err(expected) => assert_eq!(told.join("; "), expected),
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
        check(&Shape::Tuple(&Shape::Int, 3), json!([0, 1, 2]), Ok(json!([0, 1, 2])));
    }

    #[test]
    fn validation_stops_after_too_many_problems() {
        let mut problems = Vec::new();
        ITEMS.check(&mut Value::Array(vec![json!({}); 10_000]), "body", &mut problems);
        assert!((MOST_PROBLEMS..MOST_PROBLEMS + 2).contains(&problems.len()), "{}", problems.len());
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
        check(&Shape::Tuple(&Shape::Int, 3), json!([1]), Err("body: List should have 3 items"));
    }
}
