//! Goals of metrics: a script states with `define_metric` which values are good, and its statements become the params
//! in which the server looks for goals.
//!
//! Clients keep the definitions in their internal config, as a list of messages whose members have the numbers of
//! fields of their protocol.

use matyan_value::{Map, Value};

/// The member of the internal config with all definitions.
const DEFINITIONS: &str = "m";

/// The params in which the server looks for goals.
pub(crate) const GOALS: &str = "__metrics__";

/// Fields of a definition. A definition for several metrics has a pattern instead of a name; clients add a definition
/// for each metric that the pattern matches.
const NAME: &str = "1";
const SUMMARY: &str = "7";
const GOAL: &str = "8";

/// Members of the list of aggregates in the summary.
const MIN: i64 = 1;
const MAX: i64 = 2;
const BEST: i64 = 4;
const LAST: i64 = 5;

/// Directions.
const MINIMIZE: i64 = 1;
const MAXIMIZE: i64 = 2;

/// The goals that an internal config defines, by the name of the metric.
pub(crate) fn goals(internal: &Map) -> Map {
    let Some(Value::List(definitions)) = internal.get(DEFINITIONS) else { return Map::new() };
    definitions.iter().filter_map(|definition| goal(definition.as_map()?)).collect()
}

fn goal(definition: &Map) -> Option<(String, Value)> {
    let Some(Value::Text(name)) = definition.get(NAME) else { return None };
    let summary = match definition.get(SUMMARY) {
        Some(Value::List(aggregates)) => aggregates.iter().filter_map(integer).collect(),
        _ => Vec::new(),
    };
    let has = |aggregate| summary.contains(&aggregate);
    let direction = match (definition.get(GOAL).and_then(integer), has(MIN), has(MAX)) {
        (Some(MINIMIZE), ..) => Some("lower"),
        (Some(MAXIMIZE), ..) => Some("higher"),
        // The script asks for one extreme only, so this extreme is the good one.
        (_, true, false) => Some("lower"),
        (_, false, true) => Some("higher"),
        _ => None,
    };
    let shown = match direction {
        Some(_) if has(BEST) || has(MIN) || has(MAX) => Some("best"),
        _ if summary == [LAST] => Some("last"),
        _ => None,
    };
    let fields: Map = [("direction", direction), ("summary", shown)]
        .into_iter()
        .filter_map(|(field, text)| Some((field.to_owned(), Value::Text(text?.to_owned()))))
        .collect();
    // A dot that does not separate the members of a row has a backslash.
    (!fields.is_empty()).then(|| (name.replace("\\.", "."), Value::Map(fields)))
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Integer(integer) => Some(*integer),
        // Numbers of configs may have been written as floats.
        Value::Float(float) if float.fract() == 0.0 => Some(*float as i64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use matyan_value::json::{self, JsonStyle};

    use super::*;

    fn goals_of(definitions: &str) -> String {
        let Ok(Value::Map(internal)) = json::parse(&format!(r#"{{"m": {definitions}}}"#)) else {
            panic!("no object: {definitions}")
        };
        json::map_text(&goals(&internal), JsonStyle::BARE)
    }

    #[test]
    fn directions_and_summaries_are_goals() {
        for (definition, expected) in [
            (r#"{"1": "acc", "8": 2, "7": [4]}"#, r#"{"acc":{"direction":"higher","summary":"best"}}"#),
            (r#"{"1": "loss", "8": 1}"#, r#"{"loss":{"direction":"lower"}}"#),
            (r#"{"1": "loss", "7": [1]}"#, r#"{"loss":{"direction":"lower","summary":"best"}}"#),
            (r#"{"1": "acc", "7": [2, 3], "6": [3]}"#, r#"{"acc":{"direction":"higher","summary":"best"}}"#),
            (r#"{"1": "lr", "7": [5]}"#, r#"{"lr":{"summary":"last"}}"#),
            (r#"{"1": "val\\.acc", "8": 2.0}"#, r#"{"val.acc":{"direction":"higher"}}"#),
        ] {
            assert_eq!(goals_of(&format!("[{definition}]")), expected);
        }
    }

    #[test]
    fn other_definitions_are_no_goals() {
        for definition in [
            r#"{"1": "range", "7": [1, 2]}"#,
            r#"{"1": "step", "6": [3]}"#,
            r#"{"1": "loss", "5": 2, "6": [1, 3]}"#,
            r#"{"2": "val.*", "8": 2}"#,
            r#"{"1": 3, "8": 2}"#,
            "7",
        ] {
            assert_eq!(goals_of(&format!("[{definition}]")), "{}", "{definition}");
        }
        assert_eq!(goals_of(r#"{"1": "acc", "8": 2}"#), "{}");
    }
}
