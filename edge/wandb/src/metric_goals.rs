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
/// The name of the metric that is the x axis, or its place in the list of definitions, which starts at 1.
const STEP_METRIC: &str = "4";
const STEP_METRIC_PLACE: &str = "5";
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
    definitions.iter().filter_map(|definition| goal(definitions, definition.as_map()?)).collect()
}

fn goal(definitions: &[Value], definition: &Map) -> Option<(String, Value)> {
    let name = metric_name(definition, NAME)?;
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
    let x_axis = step_metric(definitions, definition).filter(|axis| is_metric(axis) && *axis != name);
    let fields: Map = [("direction", direction), ("summary", shown), ("x_axis", x_axis.as_deref())]
        .into_iter()
        .filter_map(|(field, text)| Some((field.to_owned(), Value::Text(text?.to_owned()))))
        .collect();
    (!fields.is_empty()).then_some((name, Value::Map(fields)))
}

/// The metric over which a script wants to see another metric.
fn step_metric(definitions: &[Value], definition: &Map) -> Option<String> {
    let Some(place) = definition.get(STEP_METRIC_PLACE).and_then(integer) else {
        return metric_name(definition, STEP_METRIC);
    };
    let place = usize::try_from(place).ok()?.checked_sub(1)?;
    metric_name(definitions.get(place)?.as_map()?, NAME)
}

/// Whether a step is a metric: the steps and times of W&B, such as `_runtime`, are columns of points.
fn is_metric(axis: &str) -> bool {
    !axis.is_empty() && !axis.starts_with('_')
}

/// The name of a metric in a definition. A dot that does not separate the members of a row has a backslash.
fn metric_name(definition: &Map, field: &str) -> Option<String> {
    match definition.get(field) {
        Some(Value::Text(name)) => Some(name.replace("\\.", ".")),
        _ => None,
    }
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
    fn a_step_metric_is_an_x_axis() {
        let definitions = r#"[{"1": "val\\.acc", "5": 2, "8": 2}, {"1": "epoch"}, {"1": "loss", "4": "batch"},
            {"1": "itself", "5": 4}, {"1": "none", "5": 9}, {"1": "zero", "5": 0}, {"1": "time", "4": "_runtime"}]"#;
        let expected = r#"{"loss":{"x_axis":"batch"},"val.acc":{"direction":"higher","x_axis":"epoch"}}"#;
        assert_eq!(goals_of(definitions), expected);
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
