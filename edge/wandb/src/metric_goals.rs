//! Goals of metrics: a script states with `define_metric` which values are good, and its statements become the params
//! in which the server looks for goals.
//!
//! Clients keep the definitions in their internal config as a list of messages whose members have the numbers
//! of fields of their protocol.

use std::collections::HashSet;

use matyan_proto::limits::{METRIC_GOALS, NAME_BYTES};
use matyan_value::{Map, Value};

use crate::batch::RunBatch;
use crate::names::{self, INTERNAL_CONFIG, WANDB};
use crate::param_changes::ParamChanges;

/// The member of the internal config with all definitions.
const DEFINITIONS: &str = "m";

/// The params in which the server looks for goals.
pub(crate) const GOALS: &str = "__metrics__";

/// Fields of a definition. A definition for several metrics has a pattern instead of a name. Older clients add a
/// definition for each metric that the pattern matches.
const NAME: &str = "1";
const PATTERN: &str = "2";
/// The name of the metric that is the x axis, or its place in the list of definitions, which starts at 1.
const STEP_METRIC: &str = "4";
const STEP_METRIC_PLACE: &str = "5";
const SUMMARY: &str = "7";
const GOAL: &str = "8";

/// Members that a summary has in place of the last value of a metric, if its definition says so.
const AGGREGATES: [&str; 6] = ["min", "max", "mean", "best", "last", "first"];

/// More definitions for several metrics are ignored.
const MAX_PATTERNS: usize = 100;

/// Members of the list of aggregates in the summary.
const MIN: i64 = 1;
const MAX: i64 = 2;
const BEST: i64 = 4;
const LAST: i64 = 5;

/// Directions.
const MINIMIZE: i64 = 1;
const MAXIMIZE: i64 = 2;

/// The goals that an internal config defines, by the name of the metric. Definitions for several metrics hold for the
/// metrics in a summary that have no definition of their own.
fn goals(internal: &Map, summary: &Map) -> Map {
    let definitions = definitions(internal);
    let mut goals = Map::new();
    let mut own = HashSet::new();
    for definition in definitions.iter().filter_map(Value::as_map) {
        if let Some(name) = metric_name(definition, NAME) {
            goals.extend(goal(definitions, definition, name.clone()));
            own.insert(name);
        }
    }
    let mut matching = MatchingMetrics { patterns: patterns(definitions), own, found: Vec::new() };
    if !matching.patterns.is_empty() {
        matching.find("", summary);
    }
    for (name, definition) in matching.found {
        goals.extend(goal(definitions, definition, name));
    }
    goals
}

fn definitions(internal: &Map) -> &[Value] {
    match internal.get(DEFINITIONS) {
        Some(Value::List(definitions)) => definitions,
        _ => &[],
    }
}

/// Sets the goals of the metrics in a new summary that have become known with it.
pub(crate) fn set_goals_of_summary(params: &mut ParamChanges, batch: &mut RunBatch, summary: &Map) {
    let Some(internal) = params.map_at(&[WANDB, INTERNAL_CONFIG]) else { return };
    if patterns(definitions(internal)).is_empty() {
        return;
    }
    let goals = goals(internal, summary);
    if !goals.is_empty() && params.map_at(&[GOALS]) != Some(&goals) {
        params.set_fitting(batch, "goals of metrics", &[GOALS], goals);
    }
}

/// The goals that a new config defines, with the metrics that the summary of the run has by now.
pub(crate) fn goals_of_config(params: &ParamChanges, internal: &Map) -> Map {
    goals(internal, params.map_at(&[names::SUMMARY]).unwrap_or(&Map::new()))
}

/// The definitions for several metrics, with the start of the names for which each holds.
fn patterns(definitions: &[Value]) -> Vec<(String, &Map)> {
    let starts = definitions.iter().filter_map(|definition| {
        let definition = definition.as_map()?;
        // Clients accept a `*` at the end only.
        let start = metric_name(definition, PATTERN)?.strip_suffix('*')?.to_owned();
        Some((start, definition))
    });
    starts.take(MAX_PATTERNS).collect()
}

/// The definition with the longest start that a name has.
fn closest<'d>(patterns: &[(String, &'d Map)], name: &str) -> Option<&'d Map> {
    let matching = patterns.iter().filter(|(start, _)| name.starts_with(start.as_str()));
    matching.max_by_key(|(start, _)| start.len()).map(|(_, definition)| *definition)
}

/// The metrics in a summary for which definitions for several metrics hold.
struct MatchingMetrics<'d> {
    patterns: Vec<(String, &'d Map)>,
    /// The names of metrics that have their own definition.
    own: HashSet<String>,
    /// At most as many metrics as may have goals, with their definitions.
    found: Vec<(String, &'d Map)>,
}

impl MatchingMetrics<'_> {
    /// Looks for metrics in a summary, or in a member of it whose name `start` ends with a dot.
    fn find(&mut self, start: &str, summary: &Map) {
        for (member, value) in summary {
            // No goal has a longer name, and each member of this one would get a copy of it.
            if start.len() + member.len() > NAME_BYTES {
                continue;
            }
            let name = format!("{start}{member}");
            match value {
                Value::Integer(_) | Value::Big(_) | Value::Float(_) => self.add(name),
                Value::Map(inner) if is_aggregated(inner) => self.add(name),
                // Images, tables and other media have a type.
                Value::Map(inner) if !inner.contains_key("_type") => self.find(&format!("{name}."), inner),
                _ => {}
            }
        }
    }

    fn add(&mut self, name: String) {
        if self.found.len() >= METRIC_GOALS || self.own.contains(&name) {
            return;
        }
        if let Some(definition) = closest(&self.patterns, &name) {
            self.found.push((name, definition));
        }
    }
}

fn is_aggregated(member: &Map) -> bool {
    !member.is_empty() && member.keys().all(|key| AGGREGATES.contains(&key.as_str()))
}

fn goal(definitions: &[Value], definition: &Map, name: String) -> Option<(String, Value)> {
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
        goals_with(definitions, "{}")
    }

    fn goals_with(definitions: &str, summary: &str) -> String {
        let [internal, summary] = [&*format!(r#"{{"m": {definitions}}}"#), summary]
            .map(|text| json::parse(text).unwrap().as_map().unwrap().clone());
        json::map_text(&goals(&internal, &summary), JsonStyle::BARE)
    }

    #[test]
    fn a_pattern_is_for_metrics_without_a_definition_of_their_own() {
        let definitions = r#"[{"1": "epoch"}, {"2": "*", "5": 1}, {"2": "val\\.*", "4": "batch", "7": [2]},
            {"1": "lr", "7": [5]}]"#;
        let summary = r#"{"epoch": 3, "loss": 0.5, "lr": 0.1, "val": {"acc": 0.5, "f1": {"max": 1}},
            "note": "text", "image": {"_type": "image-file", "size": 3}}"#;
        let batch = r#"{"direction":"higher","summary":"best","x_axis":"batch"}"#;
        let expected = format!(
            r#"{{"loss":{{"x_axis":"epoch"}},"lr":{{"summary":"last"}},"val.acc":{batch},"val.f1":{batch}}}"#
        );
        assert_eq!(goals_with(definitions, summary), expected);
        assert_eq!(goals_of(definitions), r#"{"lr":{"summary":"last"}}"#);
    }

    #[test]
    fn metrics_without_a_pattern_and_names_that_are_too_long_take_no_room() {
        let others =
            (0..METRIC_GOALS).map(|number| format!(r#""a{number}": 1"#)).collect::<Vec<_>>().join(", ");
        let long = "n".repeat(NAME_BYTES);
        let summary = format!(r#"{{{others}, "{long}": {{"loss": 1}}, "val/{long}": 1, "val/acc": 1}}"#);
        let definitions = r#"[{"2": "val/*", "4": "epoch"}, {"2": "n*", "4": "batch"}]"#;
        assert_eq!(goals_with(definitions, &summary), r#"{"val/acc":{"x_axis":"epoch"}}"#);
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
