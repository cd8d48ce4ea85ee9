//! Schemas of parameters and request bodies, derived from the types that handlers receive.
//! A schema both validates a request and describes it in OpenAPI. Validation reports every
//! problem, where serde stops at the first, and accepts what clients in Python send: `"5"` for an
//! integer, `1` for a boolean, `{}` for an empty list.

use std::collections::HashMap;
use std::fmt;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::error::Problem;

/// Number of problems after which validation stops. Callers with that many fix them and retry.
const MAX_PROBLEMS: usize = 20;

/// Schema of a type that is read from requests, without references.
#[derive(Debug)]
pub(crate) struct InputSchema(Value);

impl InputSchema {
    pub(crate) fn new<T: JsonSchema>() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|it| {
            it.inline_subschemas = true;
            it.meta_schema = None;
        });
        let settings = settings.with_transform(RecursiveTransform(omit_null));
        let mut schema = settings.into_generator().into_root_schema_for::<T>();
        schema.remove("title");
        InputSchema(schema.to_value())
    }

    pub(crate) fn as_value(&self) -> &Value {
        &self.0
    }

    /// Names of the members with their schemas, if the type is a struct.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&String, &Value)> {
        members(&self.0).into_iter().flatten()
    }

    pub(crate) fn is_required(&self, member: &str) -> bool {
        is_required(&self.0, member)
    }

    /// Returns JSON in the form that serde reads, and reports every problem with it. `json` is
    /// valid in all its parts and not surrounded by whitespace; `path` is its location.
    pub(crate) fn normalize(&self, json: &str, path: &str, problems: &mut Vec<Problem>) -> String {
        let mut normalizer = Normalizer { problems, json: String::with_capacity(json.len()) };
        normalizer.write(&self.0, json, &Path::Root(path));
        normalizer.json
    }
}

/// Removes null from the types of optional members. It is accepted, and means that the member is
/// absent.
fn omit_null(schema: &mut Schema) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|it| it != "null");
        if let [only] = &types[..] {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
}

fn members(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties")?.as_object()
}

fn is_required(schema: &Value, member: &str) -> bool {
    schema["required"].as_array().is_some_and(|it| it.iter().any(|name| name == member))
}

struct Normalizer<'p> {
    problems: &'p mut Vec<Problem>,
    /// The normalized text; incomplete if there are problems. It is text instead of a tree, so
    /// that the numbers in free-form objects are kept as they were sent.
    json: String,
}

impl Normalizer<'_> {
    fn write(&mut self, schema: &Value, json: &str, path: &Path<'_>) {
        match schema["type"].as_str() {
            Some("string") => {
                let text = json.starts_with('"').then_some(json);
                self.push_or_report(text, path, "Input should be a valid string");
            }
            Some("boolean") => {
                let value = parse_json_bool(json).map(|it| it.to_string());
                self.push_or_report(value.as_deref(), path, "Input should be a valid boolean");
            }
            Some("integer") => {
                let value = parse_json_int(json)
                    .filter(|value| match schema["format"].as_str() {
                        Some("int32") => i32::try_from(*value).is_ok(),
                        Some("uint32") => u32::try_from(*value).is_ok(),
                        Some("uint64") => *value >= 0,
                        _ => true,
                    })
                    .map(|it| it.to_string());
                self.push_or_report(value.as_deref(), path, "Input should be a valid integer");
            }
            Some("array") => self.write_list(schema, json, path),
            Some("object") => self.write_object(schema, json, path),
            // Requests have no other types so far; serde would report a value that it cannot read.
            _ => self.json.push_str(json),
        }
    }

    fn push_or_report(&mut self, json: Option<&str>, path: &Path<'_>, message: &str) {
        match json {
            Some(json) => self.json.push_str(json),
            None => self.report(path, message),
        }
    }

    fn report(&mut self, path: &Path<'_>, message: impl Into<String>) {
        self.problems.push(Problem { field: path.to_string(), message: message.into() });
    }

    fn write_list(&mut self, schema: &Value, json: &str, path: &Path<'_>) {
        let Some(items) = parse_list(json) else { return self.report(path, "Input should be a valid list") };
        if let Some(length) = schema["minItems"].as_u64().filter(|length| *length != items.len() as u64) {
            return self.report(path, format!("List should have {length} items"));
        }
        self.json.push('[');
        for (index, item) in items.iter().enumerate() {
            if self.problems.len() >= MAX_PROBLEMS {
                return;
            }
            if index > 0 {
                self.json.push(',');
            }
            self.write(&schema["items"], item.get(), &Path::Item(path, index));
        }
        self.json.push(']');
    }

    fn write_object(&mut self, schema: &Value, json: &str, path: &Path<'_>) {
        if !json.starts_with('{') {
            return self.report(path, "Input should be a valid dictionary");
        }
        let Some(members) = members(schema) else { return self.json.push_str(json) };
        let values = serde_json::Deserializer::from_str(json).deserialize_map(MemberValues(members));
        let values = values.expect("valid JSON that starts with a brace is an object");
        let mut separator = '{';
        for ((name, schema_of_member), value) in members.iter().zip(values) {
            let path = Path::Member(path, name);
            match value.map(RawValue::get) {
                None if is_required(schema, name) => self.report(&path, "Field required"),
                None => {}
                Some("null") if !is_required(schema, name) => {}
                Some(value) => {
                    self.json.push(std::mem::replace(&mut separator, ','));
                    // Names of members need no escapes.
                    self.json.extend(["\"", name.as_str(), "\":"]);
                    self.write(schema_of_member, value, &path);
                }
            }
        }
        self.json.push_str(if separator == '{' { "{}" } else { "}" });
    }
}

/// Location of a value, which is written only if there is a problem: a body may have thousands of
/// values.
enum Path<'p> {
    Root(&'p str),
    Item(&'p Path<'p>, usize),
    Member(&'p Path<'p>, &'p str),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root(path) => formatter.write_str(path),
            Path::Item(parent, index) => write!(formatter, "{parent}.{index}"),
            Path::Member(Path::Root(""), name) => formatter.write_str(name),
            Path::Member(parent, name) => write!(formatter, "{parent}.{name}"),
        }
    }
}

/// Reads the values of the members of an object. The last of duplicates wins.
struct MemberValues<'s>(&'s Map<String, Value>);

impl<'de> Visitor<'de> for MemberValues<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut received: A) -> Result<Self::Value, A::Error> {
        let mut values = vec![None; self.0.len()];
        while let Some((name, value)) = received.next_entry::<String, _>()? {
            if let Some(index) = self.0.keys().position(|it| *it == name) {
                values[index] = Some(value);
            }
        }
        Ok(values)
    }
}

/// Parses a list. The Python client writes an empty one as `{}`.
fn parse_list(json: &str) -> Option<Vec<&RawValue>> {
    let is_empty_object =
        || serde_json::from_str::<HashMap<String, &RawValue>>(json).is_ok_and(|it| it.is_empty());
    serde_json::from_str(json).ok().or_else(|| is_empty_object().then(Vec::new))
}

/// Parses a value unless it is an array or an object, which would take much more memory than its text.
fn parse_scalar(json: &str) -> Option<Value> {
    if json.starts_with(['[', '{']) { None } else { serde_json::from_str(json).ok() }
}

/// Parses `true`, `1`, `yes`, `on`, `t`, `y` and their opposites, in any case.
fn parse_json_bool(json: &str) -> Option<bool> {
    match parse_scalar(json)? {
        Value::Bool(value) => Some(value),
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" | "t" | "y" => Some(true),
            "false" | "0" | "no" | "off" | "f" | "n" => Some(false),
            _ => None,
        },
        Value::Number(number) if number.as_f64() == Some(1.0) => Some(true),
        Value::Number(number) if number.as_f64() == Some(0.0) => Some(false),
        _ => None,
    }
}

/// Parses an integer, or text with a decimal integer and an optional sign.
fn parse_json_int(json: &str) -> Option<i64> {
    match parse_scalar(json)? {
        Value::Number(number) => number.as_i64().or_else(|| integer_from_float(number.as_f64()?)),
        Value::String(text) => text.trim().parse().ok(),
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

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Item {
        name: String,
        context: Map<String, Value>,
        on: Option<bool>,
        limit: Option<i64>,
        minutes: Option<i32>,
    }

    fn check<T: JsonSchema>(json: &str, expected: Result<&str, &str>) {
        let mut problems = Vec::new();
        let normalized = InputSchema::new::<T>().normalize(json, "body", &mut problems);
        let messages: Vec<String> = problems.iter().map(ToString::to_string).collect();
        match expected {
            Ok(expected) => assert_eq!((normalized.as_str(), messages), (expected, vec![])),
            Err(expected) => assert_eq!(messages.join("; "), expected),
        }
    }

    #[test]
    fn values_are_normalized() {
        check::<Vec<Item>>("{ }", Ok("[]"));
        check::<Vec<Item>>(
            r#"[{"on": "Yes", "name": "a", "context": {"x": [1.0, 1e2]}, "limit": "5", "other": 1}]"#,
            Ok(r#"[{"name":"a","context":{"x": [1.0, 1e2]},"on":true,"limit":5}]"#),
        );
        check::<Item>(
            r#"{"name": "", "context": {}, "on": null, "limit": 2.0, "name": "b"}"#,
            Ok(r#"{"name":"b","context":{},"limit":2}"#),
        );
        check::<[i64; 3]>("[0, 1, 2]", Ok("[0,1,2]"));
    }

    #[test]
    fn validation_stops_after_too_many_problems() {
        let mut problems = Vec::new();
        let json = format!("[{}1]", "1,".repeat(10_000));
        InputSchema::new::<Vec<Item>>().normalize(&json, "body", &mut problems);
        assert_eq!(problems.len(), MAX_PROBLEMS);
    }

    #[test]
    fn every_problem_is_reported_with_its_field() {
        check::<Vec<Item>>("\"x\"", Err("body: Input should be a valid list"));
        check::<Vec<Item>>("[1]", Err("body.0: Input should be a valid dictionary"));
        check::<Vec<Item>>(
            r#"[{"name": 5, "on": 2}, {"name": null, "context": [], "limit": 1.5, "minutes": 3000000000}]"#,
            Err("body.0.name: Input should be a valid string; body.0.context: Field required; \
                 body.0.on: Input should be a valid boolean; body.1.name: Input should be a valid string; \
                 body.1.context: Input should be a valid dictionary; body.1.limit: Input should be a valid integer; \
                 body.1.minutes: Input should be a valid integer"),
        );
        check::<[i64; 3]>("[1]", Err("body: List should have 3 items"));
    }

    #[test]
    fn optional_members_are_described_without_null() {
        let schema = InputSchema::new::<Item>();
        assert_eq!(schema.as_value()["properties"]["on"]["type"], "boolean");
        assert!(schema.is_required("name") && !schema.is_required("on"));
    }
}
